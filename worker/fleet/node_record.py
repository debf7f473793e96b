"""What a node says of itself: how it was started, with which versions, options and limits. Written once.

A process's reports say how it does, this says what it is. It names no host, no user and no secret.
"""

import inspect
import json
import platform
import resource
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..broker.kind import REDIS
from ..settings import uris
from ..text import shorten

if TYPE_CHECKING:
    from ..settings.fields import Settings

_PACKAGES = ("celery", "kombu", "redis", "pymongo")
_LOOPBACK = ("localhost", "127.", "::1", "/")
# kombu's default for Redis, in seconds.
_VISIBILITY_TIMEOUT = 3600
_LINE, _LINES = 200, 8

# What goes first where a record is too long, the least missed first.
_SPARE = ("risks", "init_handlers", "longest_tasks", "before_fork")

Limits = Mapping[str, float | None]
"""Hard time limits in seconds, by task; None for a task that has none."""


def build(
    conf: Any, settings: "Settings", *, worker: Mapping[str, Any], limits: Limits, risks: Sequence[str]
) -> dict[str, Any]:
    """Return the record. `worker` is what its command line, pool and broker say: kind, broker, concurrency,
    prefetch, max_tasks_per_child, began (unix seconds), init_handlers.
    """
    transport = conf.broker_transport_options or {}
    known = [limit for limit in limits.values() if limit is not None]
    longest = max(known, default=None) if len(known) == len(limits) else None
    at_once = 1 if worker["kind"] in ("prefork", "solo") else worker["concurrency"]
    packages = [*_PACKAGES, *([worker["kind"]] if worker["kind"] in ("gevent", "eventlet") else [])]
    return {
        "v": 1,
        **worker,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
        "options": {name: value for name, value, _ in settings.effective_options(at_once)},
        "mongodb": _mongodb(settings),
        "redis": _redis(settings.redis_url.get_secret_value()),
        "result_backend": str(conf.result_backend or "").partition(":")[0].partition("+")[0] or None,
        "longest_time_limit": longest,
        "shortest_time_limit": min(known, default=None),
        "longest_tasks": [name for name, limit in limits.items() if limit == longest][:3] if longest else [],
        "visibility_timeout": float(transport.get("visibility_timeout", _VISIBILITY_TIMEOUT))
        if worker["broker"] == REDIS
        else None,
        "alive_timeout": conf.worker_proc_alive_timeout,
        "acks_late": bool(conf.task_acks_late),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "before_fork": [],
        "risks": [shorten(risk, _LINE) for risk in risks[:_LINES]],
    }


def encode(record: Mapping[str, Any], limit: int) -> str:
    """Return the record in at most `limit` bytes; where names are long, what is missed least is left out."""
    kept = dict(record)
    for name in ("", *_SPARE):
        kept.pop(name, None)
        text = json.dumps(kept, separators=(",", ":"), default=str)
        if len(text.encode()) <= limit:
            break
    return text


def init_handlers(receivers: Sequence[Any], resolve: Callable[[Any], Any], *, own: str) -> list[str]:
    """Return an app's own handlers among the `receivers` of a signal of Celery's, with their files."""
    handlers = [handler for _, receiver in receivers if (handler := resolve(receiver))]
    theirs = (own, "celery", "kombu", "billiard", "sentry_sdk")
    return [
        f"{module}.{getattr(handler, '__qualname__', '')}{_place(handler)}"
        for handler in handlers
        if (module := str(getattr(handler, "__module__", ""))).partition(".")[0] not in theirs
    ][:5]


def _place(handler: Any) -> str:
    """Return in which file and line a function begins, in parentheses; empty where that is not known."""
    code = getattr(inspect.unwrap(handler), "__code__", None)
    return "" if code is None else f" ({shorten(code.co_filename, 80, keep_end=True)}:{code.co_firstlineno})"


def _mongodb(settings: "Settings") -> dict[str, Any]:
    uri = settings.mongodb_uri.get_secret_value()
    options = {name.lower(): value for name, value, _ in settings.effective_options(1)}
    is_lax = any(str(options.get(name)).lower() == "true" for name in _LAX)
    return {
        "local": not uris.is_srv(uri) and all(map(is_local, uris.mongo_hosts(uri))),
        "login": uris.has_login(uri) or "authmechanism" in options,
        "tls": bool(options.get("tls")),
        "verified": not is_lax if options.get("tls") else None,
    }


_LAX = ("tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames")


def _redis(url: str) -> dict[str, Any]:
    parts = [urlsplit(part) for part in url.split(";")]
    is_tls = parts[0].scheme == "rediss"
    return {
        "local": all(is_local(part.hostname or "localhost") for part in parts),
        "login": bool(parts[0].password),
        "tls": is_tls,
        "verified": "ssl_cert_reqs=none" not in url.lower().replace("cert_none", "none") if is_tls else None,
    }


def is_local(host: str) -> bool:
    """Say whether a host of a URI is this one: nothing goes over a network."""
    return host.startswith(_LOOPBACK)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
