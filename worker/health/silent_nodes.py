"""The lost are told of once: post-mortems in the registry and the log, by whoever finds them first."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import events
from ..board import post_mortem
from ..board.post_mortem import PostMortem
from ..events import Event
from ..fleet.fleet import Fleet, Process, State, node_of
from ..text import count

if TYPE_CHECKING:
    from ..board.board import Board

logger = logging.getLogger("celery_pymongo.fleet")


_NAMED = ("node", "slot", "pid", "started")


def bury(
    fleet: Fleet, claim: Callable[[dict[str, Any]], bool], leftovers: Callable[[], Iterable["Board"]]
) -> list[PostMortem]:
    """Tell of each lost process that `claim` grants, with what `leftovers`, boards of dead nodes, have of it.

    Returns what was told.
    """
    lost = [process for node in fleet.nodes.values() for process in node.processes if _is_new(process)]
    boards = {board.node: board for board in leftovers()} if lost else {}
    found = [_post_mortem(process, fleet.at, boards.get(node_of(process.member))) for process in lost]
    claimed = [mortem for mortem in found if claim(mortem.to_dict())]
    for name in sorted({mortem.node for mortem in claimed}):
        if not fleet.nodes[name].present:
            _say_node(name, [mortem for mortem in claimed if mortem.node == name], fleet.at)
    for mortem in claimed:
        post_mortem.say(mortem, with_node=not fleet.nodes[mortem.node].present)
    return claimed


def _is_new(process: Process) -> bool:
    is_named = all(name in process.report for name in _NAMED)
    return process.state is State.LOST and not process.is_buried and is_named


def _post_mortem(process: Process, now: float, board: "Board | None") -> PostMortem:
    found = post_mortem.of_report(process.report, flight=_flight(process.report, board))
    # By Redis' clock: the report's own time is its host's.
    return replace(found, seen=round(now - process.silence, 3))


def _flight(report: Mapping[str, Any], board: "Board | None") -> list[dict[str, Any]]:
    """Return the flight recorder that the process left on this host; a successor's in its slot is not its."""
    slot = report["slot"]
    if board is None or slot >= len(board.rows):
        return []
    row = board.rows[slot]
    return row.recorder.read() if row.read().pid == report["pid"] else []


def _say_node(name: str, claimed: Sequence[PostMortem], now: float) -> None:
    tasks = sorted({mortem.task["name"] for mortem in claimed if mortem.task})
    silence = now - max(mortem.seen or 0.0 for mortem in claimed)
    message = "%s: %s lost, the last was heard %.0f s ago; running: %s"
    number = len(claimed)
    who = "its one process is" if number == 1 else f"all of its {count(number, 'process')} are"
    args = (name, who, silence, ", ".join(tasks) or "nothing")
    events.say(logger, logging.ERROR, Event.NODE_LOST, message, *args, node=name, tasks=tasks)
