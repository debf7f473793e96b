"""What the service asks Redis once at its start: may it be used at all?"""

import logging
from typing import TYPE_CHECKING, Any

import redis
from kombu.exceptions import KombuError

from . import events
from .errors import SettingsError
from .events import Event

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger("celery_pymongo")

_SECONDS = 2.0


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
