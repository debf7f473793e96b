"""How many messages wait in the Redis broker, how old they are, and how many are in flight.

Messages carry no time of their own: ours get one when they are sent, by the sender's clock. What others
send, or sent before, is of unknown age. A queue is read as kombu writes it: a list per priority, where
messages enter at its head and leave at its tail. In a Redis with rules for its users this takes `+select
+time +llen +hlen +lindex +evalsha +script|load` on the broker's keys.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from celery.signals import before_task_publish
from redis.exceptions import NoPermissionError

from ..store import records
from ..store.records import Unreadable
from ..store.redis_client import connect_url

if TYPE_CHECKING:
    import redis
    from celery import Celery

HEADER = "celery_pymongo_sent_at"
"""The header of our messages: when they were sent, unix seconds by the sender's clock."""

# Where kombu keeps which queues an exchange has: routing key, pattern, queue.
_BINDINGS = "_kombu.binding."
_BOUND = 200

# Unix seconds; a later stamp is none of ours.
_LATEST = 1e11

_SCHEMES = ("redis://", "rediss://", "sentinel://")

# kombu writes the body first and the headers last; a body in base64 and a text within a header cannot have
# these quotes. Measured: 0.7 ms for a message of 1.4 MB, where fetching it would take 1.4 MB, too.
_STAMP = """
local message = redis.call('LINDEX', KEYS[1], ARGV[1])
if not message then
  return false
end
local _, before = string.find(message, ARGV[2], -16384, true)
return before and string.match(message, '^ ?([%d.]+)', before + 1)
"""
_WRITTEN = f'"{HEADER}":'


@dataclass(frozen=True)
class Layout:
    """How kombu names its keys in Redis; its own defaults."""

    prefix: str = ""
    separator: str = "\x06\x16"
    priorities: tuple[int, ...] = (0, 3, 6, 9)
    unacked: str = "unacked"

    def lists(self, queue: str) -> list[str]:
        """Return the lists of a queue, one per priority."""
        ends = [f"{self.separator}{priority}" if priority else "" for priority in self.priorities]
        return [f"{self.prefix}{queue}{end}" for end in ends]


@dataclass(frozen=True, slots=True)
class Queue:
    """Messages that wait, and the age in seconds of the oldest that says when it was sent.

    The messages at both ends of each list are asked: one that was given back stands at the head.
    """

    depth: int
    age: float | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits by queue, and what workers have taken and not acknowledged, all queues together.

    The latter includes messages with an ETA or countdown, which workers take early. None is unknown. A queue
    whose key holds something else is left out and `unreadable`.
    """

    queues: dict[str, Queue]
    unacked: int | None
    unreadable: tuple[Unreadable, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "queues": {name: asdict(queue) for name, queue in self.queues.items()},
            "unacked": self.unacked,
        }


class Queues:
    """The queues of a Redis broker."""

    def __init__(self, redis: "redis.Redis", layout: Layout) -> None:
        self._redis: Any = redis
        self._layout = layout
        self._stamp = self._redis.register_script(_STAMP)

    def read(self, names: Collection[str]) -> Waiting:
        """Return what waits in these queues now; raises redis.RedisError where Redis fails."""
        lists = {name: self._layout.lists(name) for name in names}
        unacked_key = f"{self._layout.prefix}{self._layout.unacked}"
        keys = [key for of_queue in lists.values() for key in of_queue]
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time().hlen(unacked_key)
            for key in keys:
                pipe.llen(key)
            clock, *found = pipe.execute(raise_on_error=False)
        bad: list[Unreadable] = []
        unacked, *lengths = (
            _length(length, key, bad) for key, length in zip([unacked_key, *keys], found, strict=True)
        )
        known = iter(lengths)
        depths = {name: {key: next(known) for key in keys} for name, keys in lists.items()}
        now = records.clock(clock)
        waiting = {
            name: self._queue({key: length or 0 for key, length in of_queue.items()}, now)
            for name, of_queue in depths.items()
            if None not in of_queue.values()
        }
        return Waiting(waiting, unacked, tuple(bad))

    def bound(self, *, rounds: int = 50) -> list[str]:
        """Return the names of queues that somebody has declared here, ever: also those that nobody consumes.

        A large Redis is searched in part; a user who may not scan (`+scan +smembers`) sees none. Raises
        redis.RedisError where Redis fails.
        """
        try:
            keys = self._binding_keys(rounds)
            with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.smembers(key)
                told = pipe.execute(raise_on_error=False)
            sets = [found for found in told if isinstance(found, (list, set))]
            members = [member.decode(errors="replace") for found in sets for member in found]
        except NoPermissionError:
            return []
        names = {member.rpartition(self._layout.separator)[2] for member in members}
        return sorted(name for name in names if not _is_private(name))

    def _binding_keys(self, rounds: int) -> list[bytes]:
        keys: set[bytes] = set()
        cursor = 0
        for _ in range(rounds):
            cursor, found = self._redis.scan(cursor, match=f"{self._layout.prefix}{_BINDINGS}*", count=1000)
            keys |= set(found)
            if cursor == 0 or len(keys) >= _BOUND:
                break
        return sorted(keys)[:_BOUND]

    def _queue(self, depths: dict[str, int], now: float) -> Queue:
        sent = [stamp for key, depth in depths.items() for stamp in self._stamps(key, depth)]
        # A sender's clock may be ahead of Redis'.
        return Queue(sum(depths.values()), max(0.0, now - min(sent)) if sent else None)

    def _stamps(self, key: str, depth: int) -> Iterator[float]:
        # One message a round trip: of a pipeline Redis would look at all before it serves anybody else.
        for place in (-1, 0)[: min(depth, 2)]:
            stamp = self._stamp(keys=[key], args=[place, _WRITTEN])
            if (sent := records.number_of(stamp, most=_LATEST)) is not None:
                yield sent


def _length(reply: Any, key: str, bad: list[Unreadable]) -> int | None:
    """Return a length; None where the key holds something else, which is added to `bad`."""
    if not records.is_other(reply):
        return int(reply)
    bad.append(Unreadable(records.QUEUE, records.shown(key)))
    return None


def _is_private(name: str) -> bool:
    """Say whether a queue is remote control's or an event listener's own."""
    return not name or name.endswith(".pidbox") or name.startswith("celeryev")


def to_ask(reports: Collection[Mapping[str, Any]], own: Collection[str]) -> list[str]:
    """Return the queues to ask about: those under a closed gate first, which no report counts as consumed,
    then what the reports' nodes consume and what is the asking app's `own`.
    """
    gated = {name for report in reports for name in report.get("gate") or ()}
    consumed = {name for report in reports for name in report.get("queues") or ()}
    return [*sorted(gated), *sorted({*consumed, *own} - gated)]


def of(app: "Celery") -> Queues | None:
    """Return the queues of this app's broker; None, where it is no Redis."""
    url, options = app.conf.broker_read_url, app.conf.broker_transport_options
    if isinstance(url, (list, tuple)):
        url = ";".join(url)
    if not str(url).startswith(_SCHEMES):
        return None
    tls = app.conf.broker_use_ssl
    client = connect_url(
        url,
        master=options.get("master_name"),
        sentinel=options.get("sentinel_kwargs"),
        tls=tls if isinstance(tls, Mapping) else {} if tls else None,
    )
    return Queues(client, _layout(options))


def _layout(options: Mapping[str, Any]) -> Layout:
    names = {"prefix": "global_keyprefix", "separator": "sep", "unacked": "unacked_key"}
    chosen = {name: options[option] for name, option in names.items() if option in options}
    if "priority_steps" in options:
        chosen["priorities"] = tuple(options["priority_steps"])
    return Layout(**chosen)


def stamp(headers: dict[str, Any]) -> None:
    """Note in a message's headers that it is sent now; a retry is a message of its own."""
    headers[HEADER] = time.time()


def connect() -> None:
    """Stamp every task that this process sends."""
    before_task_publish.connect(_on_publish, weak=False, dispatch_uid="celery_pymongo.queues")


def _on_publish(headers: Any = None, **_kwargs: Any) -> None:
    if isinstance(headers, dict):
        stamp(headers)
