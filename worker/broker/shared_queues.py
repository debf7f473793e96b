"""Which deployments consume which queues of a broker: each takes the other's tasks where two consume one.

A deployment's name keeps apart what this package keeps, and not an app's own queues. So each node notes now
and then what it consumes where nodes of other deployments note it, too: beside the deployments, by broker. Of
the broker a digest is kept: of its address without a login, its database or virtual host, and its prefix.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..board import process_identity
from ..store import app_redis, records
from ..store.records import Unreadable, UnreadableError

if TYPE_CHECKING:
    import redis

    from ..settings.fields import Settings

FRESH_SECONDS = 900.0
"""A node notes what it consumes each five minutes."""

_MOST = 2000
_PORTS = {"redis": 6379, "sentinel": 26379, "amqp": 5672}
_KINDS = {"rediss": "redis", "amqps": "amqp", "pyamqp": "amqp", "librabbitmq": "amqp"}
_LOCAL = ("localhost", "127.0.0.1", "::1")


class SharedQueues:
    """The queues of one broker, by deployment. Methods raise redis.RedisError.

    `key` names keys beside the deployments (`settings.key_beside`), `broker` is what `broker_of` returns.
    """

    def __init__(self, redis: "redis.Redis", key: Callable[..., str], broker: str) -> None:
        self._redis: Any = redis
        self._name = key("consumers", broker)

    def note(self, deployment: str, queues: Collection[str], *, now: float) -> None:
        """Note that a deployment consumes these queues; `now` is unix seconds by Redis' clock.

        What nobody has noted for long is taken away, so it takes a few bytes per deployment and queue,
        whatever the number of nodes.
        """
        if not queues:
            return
        members = {json.dumps([deployment, queue], separators=(",", ":")): now for queue in queues}
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(self._name, members)
            pipe.zremrangebyscore(self._name, "-inf", now - FRESH_SECONDS)
            pipe.expire(self._name, int(FRESH_SECONDS))
            pipe.execute()

    def others(self, deployment: str, bad: list[Unreadable] | None = None) -> Mapping[str, tuple[str, ...]]:
        """Return the queues that other deployments consume, with their names; what cannot be read is added to
        `bad`.
        """
        unreadable = [] if bad is None else bad
        seconds, _ = self._redis.time()
        found: dict[str, set[str]] = {}
        first, last = seconds - FRESH_SECONDS, seconds + FRESH_SECONDS
        members = records.replied(lambda: self._redis.zrangebyscore(self._name, first, last, 0, _MOST))
        for member in records.listed(members, records.CONSUMER.at(self._name), unreadable):
            try:
                name, queue = records.CONSUMER.read(member, self._name, member)
            except UnreadableError as error:
                unreadable.append(error.record)
                continue
            if name != deployment:
                found.setdefault(queue, set()).add(name)
        return {queue: tuple(sorted(names)) for queue, names in found.items()}


def broker_of(conf: Any, settings: "Settings") -> str | None:
    """Return what stands for the broker of an app and its part of it: the same for whoever shares its queues.
    None for brokers that are no servers.

    `settings` name the Redis that the fleet's view is kept in: where that is the broker, it is the same one
    for all who meet there, whatever they call it.
    """
    url = conf.broker_read_url or conf.broker_url or ""
    parts = urlsplit((url[0] if isinstance(url, (list, tuple)) else str(url)).partition(";")[0])
    kind = _KINDS.get(parts.scheme, parts.scheme)
    if kind not in _PORTS:
        return None
    options = conf.broker_transport_options or {}
    place = [kind, parts.path.strip("/"), options.get("global_keyprefix") or ""]
    if not app_redis.is_broker(settings, conf):
        host = (parts.hostname or "localhost").lower()
        where = process_identity.boot_id() if host in _LOCAL else host
        place += [where, str(parts.port or _PORTS[kind]), str(options.get("master_name") or "")]
    return hashlib.blake2s("\0".join(place).encode(), digest_size=8).hexdigest()
