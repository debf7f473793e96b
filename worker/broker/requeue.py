"""Back to the broker: Celery's Reject, said once, by us, and without a traceback."""

import logging

from celery.exceptions import Reject


class BackToBroker(Reject):
    """Gives the task's message back. Celery tells of each Reject at WARNING with a traceback; of these
    `task.requeued` tells.
    """

    def __init__(self, reason: str | None = None, requeue: bool = True) -> None:
        super().__init__(reason, requeue)


class UnsentRetry(BackToBroker):
    """Gives the message back since the copy that was to run again could not be sent, or was not confirmed."""

    def __init__(self) -> None:
        super().__init__("its retry could not be sent")


def hush() -> None:
    """Keep Celery from telling of what `task.requeued` tells. Idempotent."""
    logging.getLogger("celery.app.trace").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], BackToBroker))
