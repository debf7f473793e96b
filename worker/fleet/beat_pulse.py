"""Beat's own sign of life, whatever its scheduler: written after its ticks, read by the health check.

The arrival of tasks would not do: a busy worker is not a dead beat. In a Redis with rules for its users this
takes `+select +evalsha +script|load +time +hset +hgetall +hdel +expire` on the deployment's keys.
"""

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from redis import RedisError

from ..store import records
from ..store.records import Read, Unreadable, UnreadableError

if TYPE_CHECKING:
    import redis

logger = logging.getLogger("celery_pymongo.beat")

EVERY_SECONDS = 2.0
"""Beat ticks as often as something is due; the pulse need not."""

AWAY_SECONDS = 15.0
"""How long beat does not try again where Redis did not take its pulse: a try may take two seconds."""

_KEPT_SECONDS = 86_400
# A tick that lies further ahead of Redis' clock would be the last for ever.
_AHEAD_SECONDS = 60.0
_MOST = 1000

# By beat when it first and last ticked, by Redis' clock: two that tick at the same time send all twice.
_TICK = """
local time = redis.call('TIME')
local now = time[1] .. string.format('.%06d', time[2])
local known = redis.pcall('HGETALL', KEYS[1])
if known.err then
  redis.call('DEL', KEYS[1])
  known = {}
end
local since = now
for place = 1, #known, 2 do
  local first, last = string.match(known[place + 1], '^(%S+) (%S+)')
  first, last = tonumber(first), tonumber(last)
  if known[place] == ARGV[1] then
    if first and first >= 0 and first <= tonumber(now) then
      since = string.match(known[place + 1], '^%S+')
    end
  elseif last and now - last > tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], known[place])
  end
end
redis.call('HSET', KEYS[1], ARGV[1], since .. ' ' .. now .. ' ' .. ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
"""


@dataclass(frozen=True)
class Pulse:
    """A beat's last tick: how many seconds ago by Redis' clock, on which host, its pid and its scheduler.

    `age` is how many seconds ago it first ticked.
    """

    silence: float
    host: str
    pid: int
    scheduler: str
    age: float = 0.0


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
        self._key = key
        self._tick = self._redis.register_script(_TICK)
        self._clock = clock
        self._due_at = float("-inf")

    @property
    def _beats(self) -> str:
        return self._key("beats")

    def attach(self, scheduler: Any) -> None:
        """Pulse after each tick of this scheduler from now on; once is enough.

        A stand-by waits for its lock before its first tick ends, so it has no pulse.
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
        host, pid = socket.gethostname(), os.getpid()
        document = {"host": host, "pid": pid, "scheduler": scheduler}
        pause = EVERY_SECONDS
        try:
            self._tick(keys=[self._beats], args=[f"{host}:{pid}", json.dumps(document), _KEPT_SECONDS])
        except (RedisError, OSError) as error:
            pause = AWAY_SECONDS
            logger.debug("no pulse: %s", type(error).__name__)
        self._due_at = self._clock() + pause

    def read(self) -> Pulse | None:
        """Return the last pulse of any beat; None where there was none for a day. Raises redis.RedisError."""
        return newest(self.read_all().found)

    def read_all(self) -> Read[list[Pulse]]:
        """Return the last pulse of each beat that ticked in the last day. Raises redis.RedisError."""
        with self._redis.pipeline(transaction=False) as pipe:
            clock, known = pipe.time().hgetall(self._beats).execute(raise_on_error=False)
        if records.is_other(known):
            return Read([], (records.BEAT.at(self._beats),))
        now = records.clock(clock)
        pulses: list[Pulse] = []
        bad: list[Unreadable] = []
        for name, text in list(known.items())[:_MOST]:
            try:
                pulses.append(_pulse(text, now, self._beats, name))
            except UnreadableError as error:
                bad.append(error.record)
        return Read(pulses, tuple(bad))


def newest(pulses: Iterable[Pulse]) -> Pulse | None:
    """Return the pulse of the beat that ticked last."""
    return min(pulses, key=lambda pulse: pulse.silence, default=None)


def _pulse(text: bytes, now: float, key: str, name: bytes) -> Pulse:
    first, last, document = [*text.split(b" ", 2), b"", b""][:3]
    moments = [records.number_of(at, most=now + _AHEAD_SECONDS) for at in (first, last)]
    if None in moments:
        raise UnreadableError(records.BEAT.at(key, name))
    age, silence = (max(0.0, round(now - (at or 0.0), 3)) for at in moments)
    return Pulse(silence, **records.BEAT.read(document, key, name), age=age)
