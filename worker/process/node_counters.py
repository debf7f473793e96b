"""What all processes of a node have counted since its start, those that ended and were killed included."""

import json
import time

from ..board.board import Board
from ..board.counters import FIELDS


def document(board: Board, kind: str, now: float) -> str:
    """Return the sums over the node's rows as JSON; what is zero is left out. `now` is monotonic seconds.

    `began` and `at` are unix seconds: a node that starts anew counts from zero, and has another `began`. A
    process that was killed counts as far as its last tick, two seconds before its end at most.
    """
    sums = [sum(column) for column in zip(*(row.counters.read() for row in board.rows), strict=True)]
    told = {
        "v": 1,
        "node": board.node,
        "pid": board.main_pid,
        "kind": kind,
        "began": round(time.time() - now + board.created_at, 3),
        "at": round(time.time(), 3),
        "counts": {name: round(value, 6) for name, value in zip(FIELDS, sums, strict=True) if value},
    }
    return json.dumps(told, separators=(",", ":"))
