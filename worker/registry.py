"""Who is there: one report per process in Redis, by Redis' own clock, and what became of the others.

What its Redis user must be allowed, as an ACL: `~<prefix>:<deployment>:*` with `+select +evalsha +script|load
+time +get +set +del +mget +expire +zadd +zrange +zrevrange +zrem +zremrangebyscore +zremrangebyrank`; to read
only, `+select +time +get +mget +zrange +zrevrange`.

Redis may lose its memory at any time: the next reports bring back all of it but the post-mortems.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import redis_server
from .report import MAX_BYTES

if TYPE_CHECKING:
    import redis

POST_MORTEM_BYTES = 64 * 1024
"""The most that a post-mortem may have: a row, and 200 records of a ring as JSON."""

KEPT_SECONDS = 86_400
"""How long a report outlives its process, and a post-mortem its reading."""

_GAP_SECONDS = 5
_POST_MORTEMS = 200
_CHUNK = 500

# The newest score is when anybody reported last. Where that is long ago it was Redis, or the way to it, that
# was away: whoever judges silence counts from the end of the gap.
_PUBLISH = """
local time = redis.call('TIME')
local now = time[1] .. string.format('.%06d', time[2])
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]
if not last or now - last > tonumber(ARGV[4]) then
  redis.call('SET', KEYS[3], now, 'EX', ARGV[3])
end
local previous = ARGV[5] == '1' and redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return {now, previous}
"""

# A process that began later in the same slot has another pid or start: its report stays.
_BURY = """
if not redis.call('SET', KEYS[1], '1', 'EX', ARGV[5], 'NX') then
  return 0
end
local time = redis.call('TIME')
local now = time[1] .. string.format('.%06d', time[2])
redis.call('ZADD', KEYS[4], now, ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now - ARGV[5])
redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -1 - ARGV[6])
redis.call('EXPIRE', KEYS[4], ARGV[5])
local standing = redis.call('GET', KEYS[2])
local is_read, is_same = pcall(function()
  local report = cjson.decode(standing)
  return report.pid == tonumber(ARGV[2]) and math.floor(report.started) == tonumber(ARGV[3])
end)
if not standing or (is_read and is_same) then
  redis.call('DEL', KEYS[2])
  redis.call('ZREM', KEYS[3], ARGV[1])
end
return 1
"""


class TooLargeError(ValueError):
    """What was to be stored is larger than it may be; whoever builds it leaves something out."""


@dataclass(frozen=True, slots=True)
class Published:
    """What Redis answered a report: its own time, unix seconds, and with the first one what stood there.

    `previous` may be this process's own report, where the answer to it was lost: compare pid and start.
    """

    now: float
    previous: bytes | None


@dataclass(frozen=True, slots=True)
class Seen:
    """A process's last report and when it came, by Redis' clock."""

    member: str
    at: float
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """All reports; `silent_until` ends the last time when nobody could report, 0.0 where that is unknown."""

    now: float
    silent_until: float
    processes: list[Seen]


class Registry:
    """The fleet in Redis. `key` prefixes keys (`settings.key`); members are named `<node>/<slot>`.

    Every method raises redis.RedisError where Redis fails, within the timeouts of its client. `hasty` is a
    client with shorter ones, for the goodbye.
    """

    def __init__(
        self, redis: "redis.Redis", key: Callable[..., str], *, hasty: "redis.Redis | None" = None
    ) -> None:
        self._redis: Any = redis
        self._hasty: Any = hasty or redis
        self._key = key
        self._members = key("members")
        self._silent = key("silent-until")
        # One round trip; a server that does not know the script any more is told it again.
        self._publish = self._redis.register_script(_PUBLISH)
        self._bury = self._redis.register_script(_BURY)
        # With the pid: a fork inherits what its parent has said.
        self._introduced: set[tuple[int, str]] = set()

    def publish(self, member: str, report: bytes) -> Published:
        """Store a report; one round trip.

        Raises TooLargeError above MAX_BYTES.
        """
        _limit("a report", report, MAX_BYTES)
        introduction = (os.getpid(), member)
        now, previous = self._publish(
            keys=[self._report(member), self._members, self._silent],
            args=[member, report, KEPT_SECONDS, _GAP_SECONDS, int(introduction not in self._introduced)],
        )
        self._introduced.add(introduction)
        return Published(float(now), previous)

    def goodbye(self, member: str) -> None:
        """Take a process out that ends well. Nothing may publish for it any more."""
        with self._hasty.pipeline(transaction=False) as pipe:
            pipe.delete(self._report(member)).zrem(self._members, member).execute()

    def introduce(self, node: str, record: str) -> None:
        """Keep what a node says of itself, see `node_record`, as JSON."""
        self._redis.set(self._key("node", node), record, ex=KEPT_SECONDS)

    def nodes(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what these nodes say of themselves; those that said nothing are left out."""
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            texts = self._redis.mget([self._key("node", name) for name in chunk])
            told = zip(chunk, map(_read, texts), strict=True)
            found |= {name: record for name, record in told if record is not None}
        return found

    def server(self) -> dict[str, Any]:
        """Return what this Redis tells of itself, see `redis_server.describe`."""
        return redis_server.describe(self._redis)

    def fleet(self) -> Reading:
        """Return every report there is; what cannot be read as JSON is none."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time().get(self._silent).zrange(self._members, 0, -1, withscores=True)
            (seconds, micros), silent_until, members = pipe.execute()
        return Reading(seconds + micros / 1e6, float(silent_until or 0), list(self._seen(members)))

    def silence(self, member: str, pid: int) -> float | None:
        """Return how long a process has not reported, in seconds; None where it has no report."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time().get(self._report(member)).zscore(self._members, member)
            (seconds, micros), text, at = pipe.execute()
        is_same = (_read(text) or {}).get("pid") == pid
        return seconds + micros / 1e6 - at if is_same and at is not None else None

    def bury(self, post_mortem: dict[str, Any]) -> bool:
        """Store the post-mortem of a process that left without a goodbye; False where another has done it.

        Its "member", "pid" and "started" name the process. Its report goes, a successor's stays.
        Raises TooLargeError above POST_MORTEM_BYTES.
        """
        member: str = post_mortem["member"]
        pid, started = post_mortem["pid"], int(post_mortem["started"])
        text = json.dumps(post_mortem, separators=(",", ":")).encode()
        _limit("a post-mortem", text, POST_MORTEM_BYTES)
        claim = self._key("buried", member, pid, started)
        keys = [claim, self._report(member), self._members, self._key("post-mortems")]
        return bool(self._bury(keys=keys, args=[member, pid, started, text, KEPT_SECONDS, _POST_MORTEMS]))

    def postmortems(self, count: int = 50) -> list[dict[str, Any]]:
        """Return the newest post-mortems, the latest first; each is kept for a day at least, 200 at most."""
        return [json.loads(text) for text in self._redis.zrevrange(self._key("post-mortems"), 0, count - 1)]

    def lead(self, name: str, seconds: float) -> bool:
        """Take the lease of this name for so long; False where somebody holds it."""
        return bool(self._redis.set(self._key("lead", name), "1", nx=True, px=int(seconds * 1000)))

    def hold(self, name: str, seconds: float) -> None:
        """Take the lease of this name for so long, whoever has it."""
        self._redis.set(self._key("lead", name), "1", px=int(seconds * 1000))

    def doubts(self, *, is_broker: bool) -> list[str]:
        """Return a line for each way in which this Redis may lose messages, see `redis_server`."""
        return redis_server.doubts(redis_server.describe(self._redis), is_broker=is_broker)

    def load(self, name: str) -> dict[str, Any] | None:
        """Return the document stored under this name."""
        text = self._redis.get(self._key("document", name))
        document: dict[str, Any] | None = None if text is None else json.loads(text)
        return document

    def store(self, name: str, document: dict[str, Any]) -> None:
        """Store a small document under this name, for good."""
        self._redis.set(self._key("document", name), json.dumps(document, separators=(",", ":")))

    def _report(self, member: str) -> str:
        return self._key("report", member)

    def _seen(self, members: list[tuple[bytes, float]]) -> Iterator[Seen]:
        # In chunks: one reply with all reports of a large fleet would be megabytes of Redis' buffers.
        for start in range(0, len(members), _CHUNK):
            chunk = [(member.decode(), at) for member, at in members[start : start + _CHUNK]]
            texts = self._redis.mget([self._report(member) for member, _ in chunk])
            for (member, at), text in zip(chunk, texts, strict=True):
                if (report := _read(text)) is not None:
                    yield Seen(member, at, report)


def _limit(what: str, text: bytes, most: int) -> None:
    if len(text) > most:
        raise TooLargeError(f"{what} of {len(text)} bytes; {most} is the most")


def _read(text: bytes | None) -> dict[str, Any] | None:
    try:
        report = json.loads(text or "null")
    except ValueError:
        return None
    return report if isinstance(report, dict) else None
