"""Who is there: one report per process in Redis, by Redis' own clock, and what became of the others.

What its Redis user must be allowed, as an ACL: `~<prefix>:<deployment>:*` with `+select +evalsha +script|load
+time +get +set +del +mget +expire +zadd +zrange +zrevrange +zrem +zremrangebyscore +zremrangebyrank`; to read
only, `+select +time +get +mget +zrange +zrevrange`.

Redis may lose its memory at any time: the next reports bring back all of it but the post-mortems. What stands
there and is not readable (`records`) is left out and named.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from redis import exceptions as redis_errors

from ..board.report import MAX_BYTES
from ..store import records, redis_server
from ..store import redis_errors as redis_words
from ..store.records import Read, RecordKind, Unreadable, UnreadableError

if TYPE_CHECKING:
    import redis

T = TypeVar("T")

POST_MORTEM_BYTES = 64 * 1024
"""The most that a post-mortem may have: a row, and 200 records of a ring as JSON."""

KEPT_SECONDS = 86_400
"""How long a report outlives its process, and a post-mortem its reading."""

MOST_PROCESSES = 50_000
"""Of a fleet: those that reported last are read."""

COUNTERS_SECONDS = 3600
"""How long a node's counters outlive it."""

PAUSED = "paused"
"""The document that holds what operators paused on every node; those of one node have its name behind it."""

AHEAD_SECONDS = 60.0
"""How far a moment may lie ahead of Redis' clock, which a failover may put back; what lies further ahead
would say for ever that somebody has just reported.
"""

_GAP_SECONDS = 5
_POST_MORTEMS = 200
_CHUNK = 500
# Of a slot's number.
_DIGITS = 5

# The newest score is when anybody reported last. Where that is long ago it was Redis, or the way to it, that
# was away: whoever judges silence counts from the end of the gap.
_PUBLISH = """
local time = redis.call('TIME')
local now = time[1] .. string.format('.%06d', time[2])
local newest = redis.pcall('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
if newest.err then
  redis.call('DEL', KEYS[2])
end
local last = newest[2]
if not last or now - last > tonumber(ARGV[4]) then
  redis.call('SET', KEYS[3], now, 'EX', ARGV[3])
end
local previous = ARGV[5] == '1' and redis.pcall('GET', KEYS[1])
if type(previous) == 'table' then
  previous = false
end
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
if type(redis.pcall('ZADD', KEYS[4], now, ARGV[4])) == 'table' then
  redis.call('DEL', KEYS[4])
  redis.call('ZADD', KEYS[4], now, ARGV[4])
end
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now - ARGV[5])
redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -1 - ARGV[6])
redis.call('EXPIRE', KEYS[4], ARGV[5])
local standing = redis.pcall('GET', KEYS[2])
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
    """All reports; `silent_until` ends the last time when nobody could report, 0.0 where that is unknown.

    `unread` are the processes that reported and whose report cannot be read; `is_known` is False where nobody
    can tell which processes there are.
    """

    now: float
    silent_until: float
    processes: list[Seen]
    unread: frozenset[str] = frozenset()
    is_known: bool = True
    unreadable: tuple[Unreadable, ...] = field(default=(), repr=False)


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

    def count(self, node: str, counters: str) -> None:
        """Keep what all processes of a node have counted, as JSON."""
        self._redis.set(self._key("counters", node), counters, ex=COUNTERS_SECONDS)

    def counters(self, names: Sequence[str]) -> Read[dict[str, dict[str, Any]]]:
        """Return what the processes of these nodes have counted; unknown nodes are left out."""
        return self._by_name(records.COUNTERS, {name: self._key("counters", name) for name in names})

    def nodes(self, names: Sequence[str]) -> Read[dict[str, dict[str, Any]]]:
        """Return what these nodes say of themselves; those that said nothing are left out."""
        return self._by_name(records.NODE, {name: self._key("node", name) for name in names})

    def paused(self, nodes: Sequence[str]) -> Read[dict[str, dict[str, Any]]]:
        """Return what operators paused on these nodes, and under "" on all, as far as anything was."""
        names = {"": PAUSED} | {node: f"{PAUSED}:{node}" for node in nodes}
        return self._by_name(records.PAUSED, {node: self.document_key(name) for node, name in names.items()})

    def server(self) -> dict[str, Any]:
        """Return what this Redis tells of itself, see `redis_server.describe`."""
        return redis_server.describe(self._redis)

    def fleet(self) -> Reading:
        """Return every report that can be read, of at most MOST_PROCESSES processes."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time().get(self._silent)
            pipe.zrange(self._members, -MOST_PROCESSES, -1, withscores=True)
            time, silent, members = pipe.execute(raise_on_error=False)
        now = records.clock(time)
        bad: list[Unreadable] = []
        silent_until = self._moment(silent, bad, now)
        of_members = Unreadable(records.MEMBER, records.shown(self._members))
        processes, unread = self._seen(records.listed(members, of_members, bad), bad, now)
        is_known = not records.is_other(members)
        return Reading(now, silent_until, processes, frozenset(unread), is_known, tuple(bad))

    def silence(self, member: str, pid: int) -> float | None:
        """Return how long a process has not reported, in seconds; None where it has no report.

        Raises UnreadableError where nobody can tell.
        """
        key = self._report(member)
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time().get(key).zscore(self._members, member)
            time, text, at = pipe.execute(raise_on_error=False)
        if text is None:
            return None
        report = records.REPORT.read(text, key)
        if isinstance(at, Exception):
            records.text_of(at, records.MEMBER, self._members)
        return records.clock(time) - at if report["pid"] == pid and at is not None else None

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

    def postmortems(self, count: int = 50) -> Read[list[dict[str, Any]]]:
        """Return the newest post-mortems, the latest first; each is kept for a day at least, 200 at most."""
        key = self._key("post-mortems")
        bad: list[Unreadable] = []
        kind = records.POST_MORTEM
        reply = records.replied(lambda: self._redis.zrevrange(key, 0, count - 1))
        texts = enumerate(records.listed(reply, kind.at(key), bad))
        found = [_read(kind, text, bad, key, f"rank {place}") for place, text in texts]
        return Read([mortem for mortem in found if mortem is not None], tuple(bad))

    def refusal(self) -> str | None:
        """Return with which word Redis refuses to write, as OOM; None where it writes, or nobody may tell."""
        try:
            self._redis.set(self._key("lead", "writes"), "1", px=1)
        except redis_errors.ResponseError as error:
            word = redis_words.code(error)
            return word if word in redis_words.WRITES_REFUSED else None
        return None

    def lead(self, name: str, seconds: float) -> bool:
        """Take the lease of this name for so long; False where somebody holds it."""
        return bool(self._redis.set(self._key("lead", name), "1", nx=True, px=int(seconds * 1000)))

    def hold(self, name: str, seconds: float) -> None:
        """Take the lease of this name for so long, whoever has it."""
        self._redis.set(self._key("lead", name), "1", px=int(seconds * 1000))

    def doubts(self, *, is_broker: bool) -> list[str]:
        """Return a line for each way in which this Redis may lose messages, see `redis_server`."""
        return redis_server.doubts(redis_server.describe(self._redis), is_broker=is_broker)

    def load(self, kind: RecordKind[T], name: str) -> T | None:
        """Return the document of this kind stored under this name.

        Raises UnreadableError where something else stands there.
        """
        key = self.document_key(name)
        text = records.replied(lambda: self._redis.get(key))
        return None if text is None else kind.read(text, key)

    def store(self, name: str, document: dict[str, Any]) -> None:
        """Store a small document under this name, for good."""
        self._redis.set(self.document_key(name), json.dumps(document, separators=(",", ":")))

    def document_key(self, name: str) -> str:
        """Return where the document of this name stands."""
        return self._key("document", name)

    @property
    def _members(self) -> str:
        return self._key("members")

    @property
    def _silent(self) -> str:
        return self._key("silent-until")

    def _report(self, member: str) -> str:
        return self._key("report", member)

    def _by_name(
        self, kind: RecordKind[dict[str, Any]], keys: Mapping[str, str]
    ) -> Read[dict[str, dict[str, Any]]]:
        found: dict[str, dict[str, Any]] = {}
        bad: list[Unreadable] = []
        names = list(keys)
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            replies = self._texts([keys[name] for name in chunk])
            for name, reply in zip(chunk, replies, strict=True):
                record = _read(kind, reply, bad, keys[name])
                if record is not None:
                    found[name] = record
        return Read(found, tuple(bad))

    def _moment(self, reply: Any, bad: list[Unreadable], now: float) -> float:
        if reply is None:
            return 0.0
        try:
            text = records.text_of(reply, records.SILENT, self._silent)
        except UnreadableError as error:
            bad.append(error.record)
            return 0.0
        moment = records.number_of(text, most=now + AHEAD_SECONDS)
        if moment is None:
            bad.append(Unreadable(records.SILENT, self._silent))
        return moment or 0.0

    def _seen(
        self, members: Sequence[tuple[bytes, float]], bad: list[Unreadable], now: float
    ) -> tuple[list[Seen], set[str]]:
        """Return the processes whose reports can be read, and the names of those whose cannot."""
        found: list[Seen] = []
        unread: set[str] = set()
        named: list[tuple[str, float]] = []
        for name, at in members:
            member = _member(name)
            if member is None or not 0 <= at <= now + AHEAD_SECONDS:
                bad.append(Unreadable(records.MEMBER, records.shown(self._members, name)))
                unread |= {member} if member else set()
            else:
                named.append((member, at))
        # In chunks: one reply with all reports of a large fleet would be megabytes of Redis' buffers.
        for start in range(0, len(named), _CHUNK):
            chunk = named[start : start + _CHUNK]
            keys = [self._report(member) for member, _ in chunk]
            for (member, at), key, text in zip(chunk, keys, self._texts(keys), strict=True):
                before = len(bad)
                report = _read(records.REPORT, text, bad, key)
                if report is not None and not _is_of(report, member):
                    bad.append(records.REPORT.at(key))
                if len(bad) > before:
                    unread.add(member)
                elif report is not None:
                    found.append(Seen(member, at, report))
        return found, unread

    def _texts(self, keys: Sequence[str]) -> list[Any]:
        """Return the replies for these keys: text, None, or the error where a value has another type."""
        replies = self._redis.mget(keys) if keys else []
        # MGET makes no difference between nothing and something else.
        absent = [place for place, reply in enumerate(replies) if reply is None]
        if absent:
            with self._redis.pipeline(transaction=False) as pipe:
                for place in absent:
                    pipe.get(keys[place])
                for place, reply in zip(absent, pipe.execute(raise_on_error=False), strict=True):
                    replies[place] = reply
        return list(replies)


def _limit(what: str, text: bytes, most: int) -> None:
    if len(text) > most:
        raise TooLargeError(f"{what} of {len(text)} bytes; {most} is the most")


def _read(kind: RecordKind[T], reply: Any, bad: list[Unreadable], key: str, *within: str) -> T | None:
    """Return a record; None where there is none, or where it is added to `bad`."""
    if reply is None:
        return None
    try:
        return kind.read(reply, key, *within)
    except UnreadableError as error:
        bad.append(error.record)
        return None


def _member(name: bytes) -> str | None:
    """Return the name of a process, `<node>/<slot>`; None for anything else."""
    try:
        member = name.decode()
    except ValueError:
        return None
    node, _, slot = member.rpartition("/")
    return member if node and slot.isascii() and slot.isdigit() and len(slot) <= _DIGITS else None


def _is_of(report: dict[str, Any], member: str) -> bool:
    """Say whether a report is of the process under whose name it stands."""
    node, _, slot = member.rpartition("/")
    return bool(report.get("node", node) == node and str(report.get("slot", slot)) == slot)
