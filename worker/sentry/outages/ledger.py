"""What the fleet shares of an outage, in Redis: who tells of it, what was told, what is counted into it."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...store import records
from ...store.records import UnreadableError
from .state import Outage

if TYPE_CHECKING:
    import redis

logger = logging.getLogger("celery_pymongo.sentry")

LOCK_SECONDS = 10.0
"""How long the sender may be silent before another takes over: several ticks."""

_KEPT_SECONDS = 30 * 86_400
# Seconds that Redis' clock may be ahead of a host's.
_AHEAD = 3600.0

# Taken, or held on to by who has it.
_TAKE = """
local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'string' and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

# One that lost the lock while it was stopped must not undo what its successor did.
_WRITE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
return 1
"""


@dataclass(frozen=True)
class Counts:
    """What an outage is known to have cost: tasks given back, errors by task, and the members cut off."""

    requeued: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    members: frozenset[str] = frozenset()


class Ledger:
    """The outage of one deployment. Methods raise redis.RedisError.

    `hasty` is a client with shorter timeouts, for a process that ends.
    """

    def __init__(
        self, redis: "redis.Redis", key: Callable[..., str], *, hasty: "redis.Redis | None" = None
    ) -> None:
        self._redis: Any = redis
        self._hasty: Any = hasty or redis
        self._key = key
        self._take = self._redis.register_script(_TAKE)
        self._write = self._redis.register_script(_WRITE)

    @property
    def _state(self) -> str:
        return self._key("outage")

    @property
    def _lock(self) -> str:
        return self._key("lead", "sentry")

    def take(self, owner: str) -> bool:
        """Become the sender, or stay it; False where another is."""
        return bool(self._take(keys=[self._lock], args=[owner, int(LOCK_SECONDS * 1000)]))

    def read(self) -> Outage | None:
        """Return the state; None where there was no outage yet. What cannot be read as one is none."""
        try:
            return self.load()
        except UnreadableError as error:
            logger.debug("%s", error)
            return None

    def load(self) -> Outage | None:
        """Return the state, likewise. Raises UnreadableError for what is none."""
        text = records.replied(lambda: self._redis.get(self._state))
        if text is None:
            return None
        try:
            outage = Outage.decode(text)
        except ValueError as error:
            raise UnreadableError(records.OUTAGE.at(self._state)) from error
        # One that was last seen in times to come would never be over.
        if max(outage.since, outage.last_down, outage.told_at) > time.time() + _AHEAD:
            raise UnreadableError(records.OUTAGE.at(self._state))
        return outage

    def write(self, owner: str, outage: Outage, *, hastily: bool = False) -> bool:
        """Store the state; False where somebody else is the sender by now."""
        client = self._hasty if hastily else self._redis
        args: list[str | int] = [owner, outage.encode(), _KEPT_SECONDS]
        return bool(self._write(keys=[self._lock, self._state], args=args, client=client))

    def add(
        self,
        outage_id: str,
        *,
        requeued: int = 0,
        errors: Mapping[str, int] | None = None,
        hastily: bool = False,
    ) -> None:
        """Count these into an outage."""
        name = self._key("outage", outage_id, "counts")
        with (self._hasty if hastily else self._redis).pipeline(transaction=False) as pipe:
            if requeued:
                pipe.hincrby(name, "requeued", requeued)
            for task, count in (errors or {}).items():
                pipe.hincrby(name, f"error:{task}", count)
            pipe.expire(name, _KEPT_SECONDS).execute()

    def touch(self, outage_id: str, members: Iterable[str]) -> None:
        """Remember these processes as cut off in an outage."""
        if found := list(members):
            name = self._key("outage", outage_id, "members")
            self._redis.pipeline(transaction=False).sadd(name, *found).expire(name, _KEPT_SECONDS).execute()

    def counts(self, outage_id: str) -> Counts:
        """Return what is counted so far."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._key("outage", outage_id, "counts"))
            pipe.smembers(self._key("outage", outage_id, "members"))
            counted, members = pipe.execute(raise_on_error=False)
        # What is no count counts nothing.
        read = records.counts_of(_whole(counted, dict) or {})
        numbers = {name: number for name, number in read.items() if number is not None}
        requeued = numbers.pop("requeued", 0)
        errors = Counter({name.removeprefix("error:"): number for name, number in numbers.items()})
        cut_off = (member.decode(errors="replace") for member in _whole(members, (list, set)) or ())
        return Counts(requeued, dict(errors.most_common()), frozenset(cut_off))


def _whole(reply: Any, kind: type | tuple[type, ...]) -> Any:
    """Return the reply; None where the key holds something else. Raises what else Redis answered."""
    return reply if not records.is_other(reply) and isinstance(reply, kind) else None
