"""Servers that the settings name, asked before anything starts: one line where they cannot be used."""

from __future__ import annotations

from typing import Any

import pymongo
import redis
from pymongo.errors import PyMongoError

from worker.mongo.reasons import reason
from worker.settings.fields import Settings
from worker.settings.redact import redact_uri

from .servers import ServerError

SECONDS = 5


def check(settings: Settings) -> None:
    """Ask the named servers.

    Raises:
        ServerError: one does not answer, or refuses us; the sentence says why.
    """
    if "mongodb_uri" in settings.model_fields_set:
        _check_mongo(settings)
    if "redis_url" in settings.model_fields_set and settings.redis_sentinel_master is None:
        _check_redis(settings)


def describe(name: str, uri: str, *, port: int | None) -> str:
    """Say which server is used, and that a port of our own was asked for in vain."""
    unused = "" if port is None else f"; --{name}-port is not used"
    return f"{name}: {redact_uri(uri)}, as the settings name it{unused}"


def _check_mongo(settings: Settings) -> None:
    uri = settings.mongodb_uri
    options = settings.client_options(1) | {"serverSelectionTimeoutMS": SECONDS * 1000}
    try:
        with pymongo.MongoClient[dict[str, Any]](uri.get_secret_value(), **options) as client:
            client.admin.command("ping")
    except PyMongoError as error:
        raise ServerError(f"MONGODB_URI: {uri} cannot be used: {reason(error)}") from None


def _check_redis(settings: Settings) -> None:
    url = settings.redis_url
    try:
        with redis.Redis.from_url(
            url.get_secret_value(), socket_timeout=SECONDS, socket_connect_timeout=SECONDS
        ) as client:
            client.ping()
    except redis.RedisError as error:
        raise ServerError(f"REDIS_URL: {url} cannot be used: {error}") from None
