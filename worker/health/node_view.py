"""What a node's board says, for people: its slots, its verdict, its flight recorders. Memory only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..board.board import Board
from ..board.row import Row, RowState
from ..fleet import fleet
from ..fleet.fleet import Fleet, Node, Process, State
from ..server.pings import Verdict
from . import layers, shortage
from .layers import Layer

# A reply stays below 256 KiB: a record is 100 to 300 bytes of JSON.
_RECORDS, _RECORDS_PER_SLOT = 800, 50
# Where a process runs one task at a time, its row says at once which.
_ONE_TASK = ("prefork", "solo")


@dataclass(frozen=True)
class Now:
    """The moment of a view: `monotonic` seconds and `unix` seconds."""

    monotonic: float
    unix: float


@dataclass(frozen=True)
class Slot:
    """A slot of the node and what its row said at one moment."""

    number: int
    row: RowState
    is_alive: bool

    @property
    def report(self) -> dict[str, Any]:
        """The last report, with the circuit of now; empty before the first and after a goodbye."""
        if self.row.state != "open" or self.row.report is None:
            return {}
        return self.row.report | {"circuit": str(self.row.circuit)}

    def silence(self, now: Now) -> float | None:
        """Return the seconds since the last report, or since the process began; None in an empty row."""
        if self.row.ticked_at is not None:
            return max(0.0, now.monotonic - self.row.ticked_at)
        return None if self.row.state == "empty" else max(0.0, now.unix - self.row.started_at)

    def to_dict(self, now: Now) -> dict[str, Any]:
        """Return plain JSON types; `age` is seconds since the last report."""
        row, silence = self.row, self.silence(now)
        return {
            "slot": self.number,
            "pid": row.pid or None,
            "state": row.state,
            "alive": self.is_alive,
            "age": None if silence is None else round(silence, 3),
            "circuit": str(row.circuit) if row.state == "open" else None,
            "task": self._task(now),
            "report": self.report or None,
        }

    def _task(self, now: Now) -> Any:
        work, report = self.row.work, self.report
        if self.row.state == "open" and work:
            seconds = round(now.monotonic - work.since, 3)
            return {"name": work.name, "id": work.id, "seconds": seconds}
        return None if report.get("kind") in _ONE_TASK else report.get("task")


def slots(board: Board) -> list[Slot]:
    """Return the slots of live processes, and as many others as there should be processes more."""
    rows = enumerate(map(Row.read, board.rows))
    every = [Slot(number, row, row.state == "open" and row.is_alive) for number, row in rows]
    live = [slot for slot in every if slot.is_alive]
    # Those of the dead first, then the lowest: so a pool fills them.
    others = [slot for slot in every if not slot.is_alive]
    others.sort(key=lambda slot: slot.row.state != "open")
    found = live + others[: max(0, board.expected - len(live))]
    return sorted(found, key=lambda slot: slot.number)


def pools(board: Board, now: Now) -> dict[str, Any]:
    """Return a row per slot: which process, whether it lives, its task, and its last report."""
    found = slots(board)
    kinds = (slot.report["kind"] for slot in found if "kind" in slot.report)
    return {
        "node": board.node,
        "kind": next(kinds, None),
        "slots": [slot.to_dict(now) for slot in found],
    }


def flights(board: Board, slot: int | None = None) -> dict[str, Any]:
    """Return the flight recorder of a slot; without one, the newest records of each.

    Raises LookupError where there is no such slot.
    """
    if slot is not None and not 0 <= slot < len(board.rows):
        raise LookupError(f"there is no slot {slot}: this node has 0 to {len(board.rows) - 1}")
    if slot is None:
        found = [(each.number, each.row.pid) for each in slots(board)]
        newest = min(_RECORDS_PER_SLOT, _RECORDS // max(1, len(found)))
    else:
        found, newest = [(slot, board.rows[slot].read().pid)], None
    told = [
        {"slot": n, "pid": pid or None, "records": board.rows[n].recorder.read(newest)} for n, pid in found
    ]
    return {"node": board.node, "slots": told}


def health(board: Board, now: Now) -> dict[str, Any]:
    """Return the node's verdict from its own rows, its reasons, and since when it is so where that is known
    (`since`, unix seconds); `gate` names the queues that it leaves alone.
    """
    found = slots(board)
    node = _node(board, found, now)
    layer = _judge(Fleet(now.unix, {board.node: node}), _missing_since(board, found, now))
    states = [process.state for process in node.processes]
    return {
        "node": board.node,
        "verdict": str(layer.verdict),
        "reasons": layer.reasons,
        "since": min(_began(node, now), default=None),
        "slots": {
            "expected": board.expected,
            **{str(state): states.count(state) for state in State},
            "missing": len(node.missing),
        },
        "gate": {queue: {"why": why, "since": since} for queue, (why, since) in board.gate.items()},
    }


def _judge(alone: Fleet, since: layers.Since) -> Layer:
    heard = [process for process in alone.present if _has_tried(process)]
    found = layers.worst(
        [layers.liveness(alone, since), layers.circuits(heard), shortage.judge(alone, since)]
    )
    if not heard and not found.reasons:
        return Layer(Verdict.UNKNOWN, ["no process has reached MongoDB yet"])
    return found


def _has_tried(process: Process) -> bool:
    return process.report.get("ok") is not None or process.report.get("circuit", "closed") != "closed"


def _node(board: Board, found: list[Slot], now: Now) -> Node:
    processes = [_process(board, slot, now) for slot in found if slot.row.state == "open"]
    missing = [_member(board, slot) for slot in found if slot.row.state != "open"]
    return Node(board.node, board.expected, processes, missing)


def _process(board: Board, slot: Slot, now: Now) -> Process:
    silence = slot.silence(now) or 0.0
    # MAIN knows at once that a child is dead.
    state = fleet.judge(silence, alive=True) if slot.is_alive else State.LOST
    return Process(_member(board, slot), state, round(silence, 3), slot.report)


def _missing_since(board: Board, found: list[Slot], now: Now) -> layers.Since:
    """Return since when slots are without a process: its last report's, or as long as there is a board."""
    age = now.monotonic - board.created_at
    empty = [slot for slot in found if slot.row.state != "open"]
    silences = {_member(board, slot): slot.silence(now) for slot in empty}
    return {"missing": {m: now.unix - (age if s is None else s) for m, s in silences.items()}}


def _began(node: Node, now: Now) -> Iterator[float]:
    for process in node.processes:
        if process.state is State.LOST:
            yield round(now.unix - process.silence, 3)
        elif process.report.get("circuit", "closed") != "closed":
            yield round(now.unix - process.silence - (process.report.get("outage") or 0.0), 3)


def _member(board: Board, slot: Slot) -> str:
    return f"{board.node}/{slot.number}"
