"""Messages whose `expires` passed while they waited: Celery takes them from the queue and never runs them."""

import logging
from collections.abc import Callable
from typing import Any

from .. import events
from ..board.board import Board
from ..events import Event

logger = logging.getLogger("celery_pymongo.task")


class Expired:
    """Counts those that an outage may have cost, on the node's board. In MAIN, which alone hears of them."""

    def __init__(self, board: Callable[[], Board | None]) -> None:
        self._board = board

    def heard(self, task: Any, *, has_expired: bool) -> None:
        """Count the message where it expired, rather than being revoked, and its task waits outages out.

        A health check that nobody needs any more is not counted: it expires so that they do not pile up.
        """
        board = self._board()
        if board is None or not has_expired or not getattr(task, "waits_out_outages", False):
            return
        board.expired += 1
        # A long outage can cost thousands: the 1st, 2nd, 4th, 8th… are told.
        if not board.expired & (board.expired - 1):
            message = "%s: its expires passed before it could run; %d of this node's messages so far"
            args = (task.name, board.expired)
            events.say(logger, logging.WARNING, Event.TASK_EXPIRED, message, *args, count=board.expired)
