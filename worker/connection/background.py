"""What PyMongo's background threads meet, told in one line until it changes.

They fill the pool and end what cursors left, once a second, and log each failure with its traceback: while a
login is refused or a certificate has expired, thirty lines each time.
"""

import logging
import time
from collections.abc import Callable

from pymongo.errors import PyMongoError

from ..events import Event
from ..mongo.reasons import summary

LOGGER = "pymongo.client"
"""Where they log."""

QUIET_SECONDS = 60.0
"""A failure that has not been met for so long is news again: it was over meanwhile."""

_MOST = 20


class OneLine(logging.Filter):
    """Lets a failure pass once, as one line, and drops it where `is_told` says that something else tells it.

    Errors that are not the driver's pass as they are.
    """

    def __init__(self, is_told: Callable[[], bool], *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._is_told = is_told
        self._clock = clock
        # When each failure was met last, by its reason.
        self._met: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is news; then it is one line."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if not isinstance(error, PyMongoError):
            return True
        why, now = summary(error), self._clock()
        is_news = now - self._met.pop(why, float("-inf")) > QUIET_SECONDS
        self._met[why] = now
        self._met = dict(list(self._met.items())[-_MOST:])
        if not is_news or self._is_told():
            return False
        record.msg, record.args = f"{Event.CLIENT_BACKGROUND}: %s", (why,)
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        record.event, record.fields = str(Event.CLIENT_BACKGROUND), {"error": why}
        return True


def watch(is_told: Callable[[], bool]) -> None:
    """Have the background threads of this process tell their failures so, in place of an earlier filter."""
    logger = logging.getLogger(LOGGER)
    for found in [one for one in logger.filters if isinstance(one, OneLine)]:
        logger.removeFilter(found)
    logger.addFilter(OneLine(is_told))
