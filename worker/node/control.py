"""Remote control: what `celery inspect mongo_…` and `celery control mongo_…` answer, from the board.

They run in MAIN, on its event loop, so they touch memory only and answer while every slot is busy and while
MongoDB or its network hangs. Importing this module registers them, in workers and for the command line.
"""

import time
from typing import Any

from celery.worker.control import control_command, inspect_command

from ..board import pauses
from ..board.board import Board
from ..board.row import Command
from ..health import node_view
from ..health.node_view import Now
from ..text import count
from .addressed import is_addressed

_NO_BOARD = {"error": "this worker has no board"}


@inspect_command()
def mongo_pools(state: Any, **_kwargs: Any) -> dict[str, Any]:
    """MongoDB pool of each process: who, alive, task, circuit, report."""
    board = _board(state)
    return _NO_BOARD if board is None else node_view.pools(board, _now())


@inspect_command()
def mongo_health(state: Any, **_kwargs: Any) -> dict[str, Any]:
    """Verdict on this node's use of MongoDB: ok, degraded, down, unknown; reasons."""
    board = _board(state)
    return _NO_BOARD if board is None else node_view.health(board, _now())


def _number(text: str) -> int:
    """Return the number that a command line says; one that says none ends with one line."""
    try:
        return int(text)
    except ValueError:
        import click

        raise click.UsageError(f"slot is a whole number, not {text!r}") from None


@inspect_command(args=[("slot", _number)], signature="[slot]")
def mongo_flight(state: Any, slot: int | None = None, **_kwargs: Any) -> dict[str, Any]:
    """Last events of a process's pool (of every one: the newest of each)."""
    board = _board(state)
    if board is None:
        return _NO_BOARD
    if slot is not None and type(slot) is not int:
        return {"error": "slot is a whole number"}
    try:
        return node_view.flights(board, slot)
    except LookupError as error:
        return {"error": str(error)}


@control_command()
def mongo_reset_stats(state: Any, **_kwargs: Any) -> dict[str, Any]:
    """Make each process set its pool's counters and histograms back to zero."""
    return _request(state, Command.RESET, when="at its next tick")


@control_command()
def mongo_ping(state: Any, **_kwargs: Any) -> dict[str, Any]:
    """Make each process ping MongoDB; its next report tells the round trip."""
    return _request(state, Command.PING, when="at its next tick")


@control_command(args=[("queue", str)], signature="[queue]")
def mongo_pause(
    state: Any, queue: str | None = None, everywhere: bool = False, **_kwargs: Any
) -> dict[str, Any]:
    """Leave a gated queue (default: all) alone until mongo_resume; without -d on later nodes, too."""
    return _pause(state, queue, pause=True, everywhere=everywhere)


@control_command(args=[("queue", str)], signature="[queue]")
def mongo_resume(
    state: Any, queue: str | None = None, everywhere: bool = False, **_kwargs: Any
) -> dict[str, Any]:
    """Consume a gated queue (default: all of them) again that mongo_pause paused."""
    return _pause(state, queue, pause=False, everywhere=everywhere)


@control_command(args=[("replace", str)], signature="[replace=true]")
def mongo_reconnect(state: Any, replace: str | bool = False, **_kwargs: Any) -> dict[str, Any]:
    """Make each process probe MongoDB, or open a new client first, spread over 2 s."""
    try:
        command = Command.REPLACE if _is_true(replace) else Command.PROBE
    except (KeyError, AttributeError):
        return {"error": "replace is true or false"}
    return _request(state, command, when="within 2 s of its next tick")


def _pause(state: Any, queue: str | None, *, pause: bool, everywhere: bool) -> dict[str, Any]:
    """Note an order; `everywhere`: for the deployment, although the command names its nodes."""
    board, gated = _board(state), state.app.mongo.settings.gated_queues
    if board is None:
        return _NO_BOARD
    if queue is not None and not isinstance(queue, str):
        return {"error": "queue is the name of a gated queue"}
    if not gated or (queue is not None and queue not in gated):
        names = ", ".join(gated) or "none"
        return {"error": f"no gated queue of this node (CELERY_PYMONGO_GATED_QUEUES: {names})"}
    queues = gated if queue is None else (queue,)
    known = pauses.Known.read(board.paused)
    for_all = everywhere or not is_addressed()
    orders = pauses.Orders.read(board.orders)
    board.orders = pauses.add(orders, known, queues, pause=pause, everywhere=for_all).text()
    verb, where = "paused" if pause else "resumed", "every node" if for_all else "this node"
    told = f"{verb} {', '.join(queues)} on {where}; kept over restarts from the next tick on"
    return {"ok": told, "queues": list(queues)}


def _is_true(text: str | bool) -> bool:
    if isinstance(text, bool):
        return text
    return {"true": True, "false": False}[text.lower().removeprefix("replace=")]


def _request(state: Any, command: Command, *, when: str) -> dict[str, Any]:
    board = _board(state)
    if board is None:
        return _NO_BOARD
    found = [slot for slot in node_view.slots(board) if slot.is_alive]
    for slot in found:
        board.rows[slot.number].request(command)
    return {"ok": f"asked {count(len(found), 'process')}; each obeys {when}"}


def _board(state: Any) -> Board | None:
    found: Board | None = getattr(state.app.mongo, "board", None)
    return found


def _now() -> Now:
    return Now(monotonic=time.monotonic(), unix=time.time())
