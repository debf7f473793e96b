"""Beat's own sign of life, whatever its scheduler: written after its ticks, read by the health check.

The arrival of tasks would not do: a busy worker is not a dead beat.
"""

import json
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from redis import RedisError

if TYPE_CHECKING:
    import redis

logger = logging.getLogger("celery_pymongo.beat")

EVERY_SECONDS = 2.0
"""Beat ticks as often as something is due; the pulse need not."""

AWAY_SECONDS = 15.0
"""How long beat does not try again where Redis did not take its pulse: a try may take two seconds."""

_KEPT_MS = 86_400_000


@dataclass(frozen=True)
class Pulse:
    """Beat's last tick: how many seconds ago by Redis' clock, on which host, its pid and its scheduler."""

    silence: float
    host: str
    pid: int
    scheduler: str


class BeatPulse:
    """The pulse of one deployment. `key` prefixes keys (`settings.key`)."""

    def __init__(
        self,
        redis: "redis.Redis",
        key: Callable[..., str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis: Any = redis
        self._key = key("beat")
        self._clock = clock
        self._due_at = float("-inf")

    def attach(self, scheduler: Any) -> None:
        """Pulse after each tick of this scheduler from now on; once is enough.

        A stand-by of RedBeat's waits for its lock before it ticks, so it has no pulse.
        """
        tick = scheduler.tick
        if getattr(tick, "has_pulse", False):
            return

        @wraps(tick)
        def tick_and_pulse(*args: Any, **kwargs: Any) -> Any:
            delay = tick(*args, **kwargs)
            self.beat(type(scheduler).__name__)
            return delay

        tick_and_pulse.has_pulse = True  # type: ignore[attr-defined] # a mark on a function of our own
        scheduler.tick = tick_and_pulse

    def beat(self, scheduler: str) -> None:
        """Write the pulse if one is due. Never raises; takes as long as the Redis client may."""
        if self._clock() < self._due_at:
            return
        document = {"host": socket.gethostname(), "pid": os.getpid(), "scheduler": scheduler}
        pause = EVERY_SECONDS
        try:
            self._redis.set(self._key, json.dumps(document), px=_KEPT_MS)
        except (RedisError, OSError) as error:
            pause = AWAY_SECONDS
            logger.debug("no pulse: %s", type(error).__name__)
        self._due_at = self._clock() + pause

    def read(self) -> Pulse | None:
        """Return the last pulse; None where there was none for a day. Raises redis.RedisError."""
        with self._redis.pipeline() as pipe:
            text, left_ms = pipe.get(self._key).pttl(self._key).execute()
        # What is left of its life tells its age by Redis' own clock.
        return Pulse((_KEPT_MS - left_ms) / 1000, **json.loads(text)) if text and left_ms >= 0 else None
