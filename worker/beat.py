"""The service's beat: RedBeat, once it is known that this Redis may be used."""

from typing import Any

from redbeat import RedBeatScheduler

from . import redis_server


class Scheduler(RedBeatScheduler):
    """RedBeat's scheduler. It writes to Redis before Celery sends its first signal to a beat, hence here."""

    def setup_schedule(self, *args: Any, **kwargs: Any) -> None:
        """Store the entries, where Redis is of a kind that can hold them; exit code 78 elsewhere."""
        redis_server.refuse(self.app)
        super().setup_schedule(*args, **kwargs)
