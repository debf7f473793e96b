"""What is asked of the Redis server: once at a start, may it be used at all; and how it is kept."""

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import redis
from kombu.exceptions import KombuError

from .. import events
from ..errors import SettingsError
from ..events import Event

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger("celery_pymongo")

_SECONDS = 2.0
_INFO = (
    *("redis_version", "role", "master_link_status", "loading", "uptime_in_seconds"),
    *("connected_clients", "maxclients"),
    *("used_memory", "maxmemory", "maxmemory_policy", "evicted_keys"),
    *("aof_enabled", "aof_last_write_status", "rdb_last_bgsave_status", "rdb_last_save_time"),
)


def refuse(app: "Celery") -> None:
    """End this program with exit code 78 and one line where the broker's Redis cannot be used."""
    if problem := refusal(app):
        # Without handlers, as before a worker's logging is set up, this goes to stderr.
        events.say(logger, logging.ERROR, Event.REDIS_REFUSED, "REDIS_URL: %s", problem)
        raise SystemExit(SettingsError.exit_code)


def refusal(app: "Celery") -> str | None:
    """Return why the broker's Redis cannot be used, or None where it can or does not answer.

    Bounded to a few seconds: a Redis that is away is Celery's to wait for.
    """
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=_SECONDS)
            info: dict[str, Any] = connection.default_channel.client.info("cluster")
    # kombu wraps what redis-py raises while it connects.
    except (OSError, redis.RedisError, KombuError):
        return None
    return _judge(info)


def _judge(info: dict[str, Any]) -> str | None:
    if info.get("cluster_enabled"):
        return (
            "this Redis is a cluster: Celery's Redis transport and RedBeat use several keys in one "
            "operation, which a cluster refuses. Use one Redis, or Sentinel"
        )
    return None


def describe(client: "redis.Redis") -> dict[str, Any]:
    """Return what INFO tells of clients, memory and persistence; `persistence` adds what CONFIG says of it.

    None is unknown: managed Redis often refuses CONFIG.
    """
    info: Any = client.info()
    told = {name: info.get(name) for name in _INFO}
    try:
        config: Any = client.config_get("save", "maxclients", "appendonly")
    except redis.RedisError:
        config = {}
    limit = told["maxclients"] or config.get("maxclients")
    return told | {
        "product": "Valkey" if info.get("server_name") == "valkey" else "Redis",
        "maxclients": None if limit is None else int(limit),
        "save": config.get("save"),
    }


def doubts(told: Mapping[str, Any], *, is_broker: bool) -> list[str]:
    """Return a line for each way in which this Redis may lose messages; `told` is what `describe` returns.

    Where it is not the broker those are dead letters. What is not known is no doubt.
    """
    kept = "message and result" if is_broker else "dead letter and report"
    return [*_persistence(told, kept), *_eviction(told, kept)]


def _persistence(told: Mapping[str, Any], kept: str) -> Iterator[str]:
    if told["aof_enabled"] != 0 or told["save"] is None:
        return
    what = "what came since the last save" if told["save"] else f"every {kept}"
    yield f"no append-only file: {what} is lost when it restarts; set appendonly to yes"


def _eviction(told: Mapping[str, Any], kept: str) -> Iterator[str]:
    policy = told["maxmemory_policy"]
    if told["maxmemory"] and policy not in (None, "noeviction"):
        yield (
            f"maxmemory-policy is {policy}: it throws keys away when its memory is full, any {kept} among "
            "them; set it to noeviction"
        )
