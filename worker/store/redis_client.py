"""Our own client of Redis: for the registry, the history and the queues' depth, never for messages.

kombu's and Celery's connections wait as long as the broker's settings say; monitoring may not.
"""

import re
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

if TYPE_CHECKING:
    from ..settings.fields import Settings

SECONDS = 1.0
"""How long Redis may take to connect, and to answer one command."""

HASTY_SECONDS = 0.025
"""The same for a goodbye: a process that is told to end has a tenth of a second left."""

_SENTINEL_PORT = 26379


class NoRedisError(redis.ConnectionError):
    """Neither REDIS_URL nor the app's broker or result backend names a Redis. `why` is for people."""

    why = "no Redis is named"

    def __init__(self) -> None:
        super().__init__(f"{self.why}: REDIS_URL is not set, and the app's broker and results are elsewhere")


class NoRedis(redis.ConnectionPool):
    """Stands where no Redis is named: whatever is asked of it raises NoRedisError at once; no I/O."""

    def get_connection(self, *_args: Any, **_options: Any) -> Any:
        """Raise NoRedisError."""
        raise NoRedisError


def connect(settings: "Settings", *, seconds: float = SECONDS) -> "redis.Redis":
    """Return a client of the Redis that the settings name; no I/O.

    Connections are made at the first command, one per concurrent user, and anew after a fork: the pool
    knows its pid. Each command is tried once; with Sentinel a new connection asks the Sentinels first, each
    within `seconds`. Looking up a host's name has the resolver's own limit.
    """
    password = settings.redis_sentinel_password
    return connect_url(
        settings.redis_url.get_secret_value(),
        master=settings.redis_sentinel_master,
        sentinel={} if password is None else {"password": password.get_secret_value()},
        seconds=seconds,
    )


def connect_url(
    url: str,
    *,
    master: str | None = None,
    sentinel: Mapping[str, Any] | None = None,
    tls: Mapping[str, Any] | None = None,
    seconds: float = SECONDS,
) -> "redis.Redis":
    """Return a client of a redis://, rediss:// or sentinel:// URL, or of the first of several; no I/O.

    `sentinel` holds what the Sentinels themselves ask for, `tls` redis-py's ssl_ options, which the URL's
    override. Certificates are verified unless one of them says otherwise: that is redis-py's default.
    """
    parts = re.split(r";(?=(?:sentinel|rediss?)://)", url)
    own = _own(seconds)
    options = {**(tls or {}), **_parsed(parts[0]), **own}
    is_tls = tls is not None or url.startswith("rediss://")
    if is_tls and _verifies(options):
        # redis-py's default since 6.0.
        options.setdefault("ssl_check_hostname", True)
    if not url.startswith("sentinel://"):
        kind = redis.SSLConnection if is_tls else redis.Connection
        return redis.Redis(connection_pool=redis.ConnectionPool(connection_class=kind, **options))
    hosts = [_host(part) for part in parts]
    sentinels: Any = Sentinel(hosts, sentinel_kwargs={**(sentinel or {}), **own}, ssl=is_tls, **options)  # type: ignore[no-untyped-call] # redis-py has no types for it
    client: redis.Redis = sentinels.master_for(master)
    return client


def _parsed(url: str) -> dict[str, Any]:
    """Return login, database and options of a URL, and host and port where they are Redis' own."""
    is_sentinel = url.startswith("sentinel://")
    options: dict[str, Any] = parse_url(re.sub("^sentinel:", "redis:", url))  # type: ignore[no-untyped-call] # as above
    if "ssl_cert_reqs" in options:
        # Celery and kombu know CERT_REQUIRED, too; redis-py does not.
        options["ssl_cert_reqs"] = options["ssl_cert_reqs"].lower().removeprefix("cert_")
    unused = {"connection_class"} | ({"host", "port"} if is_sentinel else set())
    return {name: value for name, value in options.items() if name not in unused}


def _verifies(options: Mapping[str, Any]) -> bool:
    return options.get("ssl_cert_reqs") not in ("none", ssl.CERT_NONE)


def _own(seconds: float) -> dict[str, Any]:
    return {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "socket_keepalive": True,
        # redis-py would try three times more, each for as long.
        "retry": Retry(NoBackoff(), 0),
        # Replies of one shape in every version of redis-py, and no greeting beyond AUTH and SELECT.
        "protocol": 2,
    }


def _host(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "localhost", parts.port or _SENTINEL_PORT
