"""`celery-pymongo-probe live|ready|started`: is a worker of this host well? By its board's file alone.

It imports neither Celery nor PyMongo nor the app and asks no server, so it may run every few seconds. It must
run as the worker's user, where the worker's files are: in its container, say.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..board import file, process_identity
from ..board.board import Board, NoBoardError
from ..board.row import RowState
from ..connection.circuit import CircuitState

FRESH_SECONDS = 15.0
"""A process that has ticked within it is there: what a busy host may take, see `fleet.STALE_SECONDS`."""

Verdict = tuple[bool, str]


def live(board: Board) -> Verdict:
    """Say whether the main process lives and is not stopped; nothing of MongoDB's or the broker's counts."""
    if not board.is_main_alive:
        return False, f"the main process {board.main_pid} has ended"
    if _is_stopped(board.main_pid):
        return False, f"the main process {board.main_pid} is stopped"
    return True, f"the main process {board.main_pid} lives"


def ready(board: Board, now: float) -> Verdict:
    """Say whether a process of the node can serve: it ticks, and reaches MongoDB. `now` is monotonic."""
    is_live, why = live(board)
    if not is_live:
        return False, why
    rows = [row.read() for row in board.rows]
    there = [row for row in rows if _is_there(row, now)]
    serving = [row for row in there if row.circuit is CircuitState.CLOSED]
    if serving:
        return True, f"{len(serving)} of {board.expected} processes reach MongoDB"
    if there:
        return False, f"none of {len(there)} processes reaches MongoDB"
    return False, "no process of the node ticks"


def started(board: Board) -> Verdict:
    """Say whether a process of the node has ever reached MongoDB."""
    is_live, why = live(board)
    if not is_live:
        return False, why
    if any(row.last_success is not None for row in (row.read() for row in board.rows)):
        return True, "a process has reached MongoDB"
    return False, "no process has reached MongoDB yet"


def boards(deployment: str, node: str | None) -> list[Board]:
    """Return the boards of this user's nodes on this host, of those that ended too."""
    found: list[Board] = []
    for path in file.find(deployment):
        with suppress(OSError, NoBoardError):
            board = Board.attach(path)
            is_here = board.host == process_identity.boot_id() and board.deployment == deployment
            if is_here and node in (None, board.node):
                found.append(board)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line; return 0 for yes, 1 for no, 64 for wrong usage."""
    options = _parsed(arguments)
    found = boards(options.deployment, options.node)
    living = [board for board in found if board.is_main_alive] or found
    of_node = "" if options.node is None else f" {options.node}"
    if not living:
        return _say(options.question, (False, f"no worker{of_node} of deployment {options.deployment} here"))
    if len({board.node for board in living}) > 1:
        names = ", ".join(sorted(board.node for board in living))
        sys.stderr.write(f"celery-pymongo-probe: several workers run here, name one with --node: {names}\n")
        return os.EX_USAGE
    board = max(living, key=lambda one: one.created_at)
    if options.question == "live":
        return _say(options.question, live(board))
    if options.question == "ready":
        return _say(options.question, ready(board, time.monotonic()))
    return _say(options.question, started(board))


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="celery-pymongo-probe",
        description="Say whether a worker of this host is well, by its shared memory alone.",
        epilog="Exit codes: 0 yes, 1 no, 64 wrong usage.",
    )
    parser.add_argument(
        "question",
        choices=("live", "ready", "started"),
        help="live: its main process runs; ready: a process reaches MongoDB; started: one ever did",
    )
    parser.add_argument("--node", metavar="NAME", help="the worker's name, where several run here")
    parser.add_argument(
        "--deployment",
        metavar="NAME",
        default=os.environ.get("CELERY_PYMONGO_DEPLOYMENT", "").strip() or "default",
        help="default: CELERY_PYMONGO_DEPLOYMENT",
    )
    try:
        return parser.parse_args(arguments)
    except SystemExit as end:
        sys.exit(os.EX_USAGE if end.code else 0)


def _say(question: str, verdict: Verdict) -> int:
    is_so, why = verdict
    with suppress(OSError):
        sys.stdout.write(f"{question if is_so else f'not {question}'}: {why}\n")
        sys.stdout.flush()
    return 0 if is_so else 1


def _is_there(row: RowState, now: float) -> bool:
    has_ticked = row.ticked_at is not None and now - row.ticked_at <= FRESH_SECONDS
    return row.state == "open" and has_ticked and row.is_alive


def _is_stopped(pid: int) -> bool:
    """Whether a signal, or a debugger, keeps the process from running; unknown without /proc, then False."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in ("T", "t")


if __name__ == "__main__":
    sys.exit(main())
