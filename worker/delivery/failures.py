"""A task that an outage fails, as one of a plain class: told in one line, without the driver's traceback.

Where in the code it was is of no interest then, and its result has the traceback all the same.
"""

import logging
import time
from collections.abc import Callable

from ..connection.circuit import Circuit
from ..mongo.classify import classify
from ..mongo.reasons import public_name, summary
from ..tracking.work import current_work
from . import recovery

LOGGER = "celery.app.trace"
"""Where Celery logs that a task failed."""


class OutageInOneLine(logging.Filter):
    """Takes the traceback from a failure that an outage explains; what else fails passes as it is."""

    def __init__(self, circuit: Callable[[], Circuit]) -> None:
        super().__init__()
        self._circuit = circuit

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass, in one line where MongoDB was away while its task ran."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        told = record.args
        if isinstance(told, dict) and "exc" in told and error is not None and self._is_of_outage(error):
            name, why = public_name(error), summary(error)
            record.args = told | {
                "exc": f"{name}, since MongoDB is away" + (f": {why}" if why != name else "")
            }
            record.exc_info = record.exc_text = None
        return True

    def _is_of_outage(self, error: BaseException) -> bool:
        work = current_work.get()
        since = time.monotonic() if work is None else work.started_at
        if recovery.is_of_celery(error) or not self._circuit().was_open_since(since):
            return False
        return recovery.can_wait(error, classify(error))


def shorten(circuit: Callable[[], Circuit]) -> None:
    """Have this process's failures told so, in place of an earlier filter; `circuit`: how it sees MongoDB."""
    logger = logging.getLogger(LOGGER)
    for found in [one for one in logger.filters if isinstance(one, OutageInOneLine)]:
        logger.removeFilter(found)
    logger.addFilter(OutageInOneLine(circuit))
