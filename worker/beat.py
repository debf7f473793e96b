"""The service's beat: RedBeat, once it is known that this Redis may be used."""

import logging
import sys
from typing import Any

from redbeat import RedBeatScheduler
from redis.exceptions import LockError

from . import events, redis_server
from .events import Event

logger = logging.getLogger("celery_pymongo.beat")


class Scheduler(RedBeatScheduler):
    """RedBeat's scheduler. It writes to Redis before Celery sends its first signal to a beat, hence here."""

    def setup_schedule(self, *args: Any, **kwargs: Any) -> None:
        """Store the entries, where Redis is of a kind that can hold them; exit code 78 elsewhere."""
        redis_server.refuse(self.app)
        super().setup_schedule(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Send what is due. Where the lock is lost, to another beat or with Redis's memory, beat ends."""
        try:
            return super().tick(*args, **kwargs)
        except LockError:
            message = "the leader's lock is lost; this beat ends, for its supervisor to start it again"
            events.say(logger, logging.WARNING, Event.BEAT_LOCK_LOST, message)
            # Celery logs the error. Python would print it too, into the log, as hundreds of lines.
            sys.excepthook = lambda *_error: None
            raise
