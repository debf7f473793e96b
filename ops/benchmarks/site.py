"""Where a benchmark runs: a folder, a MongoDB and a Redis, of its own unless the environment names them."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pymongo
import redis
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from ..local.identify import ASK
from ..local.servers import LocalServer, mongo_server, redis_server
from .apps import COLLECTION, DOCUMENTS

PREFIX = "celery-pymongo-bench"
_DATABASE = "celery_pymongo_bench"


class MeasurementError(RuntimeError):
    """Nothing can be said: a server or worker failed, or what ran is not what was to be measured."""


@dataclass(frozen=True)
class Site:
    """The addresses, what answers there, and the environment of the workers."""

    folder: Path
    environment: Mapping[str, str]
    labels: Mapping[str, str]

    def environment_of(self, deployment: str) -> dict[str, str]:
        """Return the environment of a worker whose keys in Redis are its own."""
        return {**self.environment, "CELERY_PYMONGO_DEPLOYMENT": deployment}


@contextmanager
def open_site() -> Iterator[Site]:
    """Start what is missing and fill the collection; leave nothing behind, in foreign servers neither."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix=f"{PREFIX}-")))
        addresses: dict[str, str] = {}
        labels: dict[str, str] = {}
        for name, variable, make in (
            ("mongo", "MONGODB_URI", mongo_server),
            ("redis", "REDIS_URL", redis_server),
        ):
            addresses[variable], labels[name] = _server(stack, name, os.environ.get(variable), make, folder)
        stack.enter_context(_documents(addresses["MONGODB_URI"]))
        stack.enter_context(_keys(addresses["REDIS_URL"]))
        yield Site(folder, _environment(addresses), labels)


def _server(
    stack: ExitStack, name: str, uri: str | None, make: Callable[[Path], LocalServer], folder: Path
) -> tuple[str, str]:
    if uri:
        return uri, _ask(name, uri)
    server = stack.enter_context(make(folder / name))
    return server.uri, server.label


def _ask(name: str, uri: str) -> str:
    try:
        return ASK[name](uri)
    except (PyMongoError, RedisError, ValueError) as error:
        reason = str(error).split(" (configured timeouts", 1)[0].split(", Timeout:", 1)[0]
        raise MeasurementError(f"no answer from the {name} server that is set: {reason}") from None


@contextmanager
def _documents(uri: str) -> Iterator[None]:
    with pymongo.MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=5000) as client:
        collection = client[_DATABASE][COLLECTION]
        collection.drop()
        collection.insert_many({"_id": number, "name": f"item {number}"} for number in range(DOCUMENTS))
        try:
            yield
        finally:
            client.drop_database(_DATABASE)


@contextmanager
def _keys(url: str) -> Iterator[None]:
    """Delete the keys of this benchmark, also those of one that was killed."""
    with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
        _delete_keys(client)
        try:
            yield
        finally:
            _delete_keys(client)


def _delete_keys(client: "redis.Redis") -> None:
    for key in client.scan_iter(match=f"{PREFIX}:*", count=1000):
        client.delete(key)


def _environment(addresses: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without what would make two runs differ."""
    ours = {
        "MONGODB_DATABASE": _DATABASE,
        "CELERY_PYMONGO_KEYPREFIX": PREFIX,
        "PYTHONUNBUFFERED": "1",
    }
    kept = {name: value for name, value in os.environ.items() if not _is_setting(name)}
    return {**kept, **ours, **addresses}


def _is_setting(name: str) -> bool:
    if name.startswith("MONGODB_"):
        return "MONGODB_URI" not in os.environ
    return name.startswith(("REDIS_", "CELERY_PYMONGO_", "SENTRY_"))
