"""Remote control: what `celery inspect mongo_…` and `celery control mongo_…` answer, from the board.

They run in MAIN, on its event loop, so they touch memory only and answer while every slot is busy and while
MongoDB or its network hangs. Importing this module registers them, in workers and for the command line.
"""

import time
from typing import Any

from celery.worker.control import control_command, inspect_command

from . import node_view
from .board import Board
from .board_row import Command
from .node_view import Now

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


@inspect_command(args=[("slot", int)], signature="[slot]")
def mongo_flight(state: Any, slot: int | None = None, **_kwargs: Any) -> dict[str, Any]:
    """Last events of a process's pool (of every one: the newest of each)."""
    board = _board(state)
    if board is None:
        return _NO_BOARD
    try:
        return node_view.flights(board, slot)
    except LookupError as error:
        return {"error": str(error)}


@control_command()
def mongo_reset_stats(state: Any, **_kwargs: Any) -> dict[str, Any]:
    """Make each process set its pool's counters and histograms back to zero."""
    board = _board(state)
    if board is None:
        return _NO_BOARD
    found = [slot for slot in node_view.slots(board) if slot.is_alive]
    for slot in found:
        board.rows[slot.number].request(Command.RESET)
    return {"ok": f"asked {len(found)} processes; each obeys at its next tick"}


def _board(state: Any) -> Board | None:
    found: Board | None = getattr(state.app.mongo, "board", None)
    return found


def _now() -> Now:
    return Now(monotonic=time.monotonic(), unix=time.time())
