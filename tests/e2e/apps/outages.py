"""The service's app with a task of every kind of operation, and tasks whose errors are no outage of ours.

LIFECYCLE_CONF is JSON: Celery settings on top of the service's own. OUTAGES_DNS is the port of a name server
on 127.0.0.1 that is asked in the place of the host's own.
"""

import json
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dns.resolver
from gridfs import GridFSBucket
from pymongo import InsertOne, MongoClient, ReadPreference
from pymongo.errors import PyMongoError

from tests.e2e.apps import loud
from tests.e2e.name_server import MEMBER
from worker.celery import create_app
from worker.delivery.task import MongoTask
from worker.settings.fields import load_settings

if port := os.environ.get("OUTAGES_DNS"):
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], int(port)
    dns.resolver.default_resolver = resolver
    lookup: Any = socket.getaddrinfo
    socket.getaddrinfo = lambda host, *args, **options: lookup(
        "127.0.0.1" if host == MEMBER else host, *args, **options
    )

loud.speak()
app = create_app(load_settings())
app.conf.update(task_default_queue="lifecycle")
app.conf.update(json.loads(os.environ.get("LIFECYCLE_CONF", "{}")))


class OrderError(Exception):
    """An error of the tasks' own."""


def update(db: Any, key: Any) -> None:
    db.outages.update_one({"_id": key}, {"$set": {"ok": 1}}, upsert=True)


def transaction(db: Any, key: Any) -> None:
    with db.client.start_session() as session, session.start_transaction():
        db.paid.replace_one({"_id": key}, {"ok": 1}, upsert=True, session=session)


def with_transaction(db: Any, key: Any) -> None:
    with db.client.start_session() as session:
        session.with_transaction(
            lambda inner: db.paid.replace_one({"_id": key}, {"ok": 1}, upsert=True, session=inner)
        )


def files(db: Any, key: Any) -> None:
    GridFSBucket(db).upload_from_stream(str(key), b"x" * 600_000)


def changes(db: Any, key: Any) -> None:
    with db.outages.watch(max_await_time_ms=50) as stream:
        for _ in range(5):
            stream.try_next()


def wrapped(db: Any, key: Any) -> None:
    try:
        update(db, key)
    except PyMongoError as error:
        raise OrderError("not saved") from error


def in_the_handling(db: Any, key: Any) -> None:
    try:
        update(db, key)
    except PyMongoError:
        raise OrderError("not saved")  # noqa: B904 - as much code does


def grouped(db: Any, key: Any) -> None:
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(update, db, f"{key}-{part}") for part in range(2)]
    if found := [error for each in both if isinstance(error := each.exception(), Exception)]:
        raise ExceptionGroup("not saved", found)


KINDS: dict[str, Callable[[Any, Any], object]] = {
    "insert": lambda db, _key: db.outages.insert_one({}),
    "update": update,
    "many": lambda db, _key: db.outages.insert_many([{} for _ in range(5)]),
    "bulk": lambda db, _key: db.outages.bulk_write([InsertOne({}) for _ in range(20)], ordered=False),
    "find": lambda db, key: db.outages.find_one({"_id": key}),
    "cursor": lambda db, _key: list(db.many.find(batch_size=2)),
    "aggregate": lambda db, _key: list(db.many.aggregate([{"$group": {"_id": "$n"}}], batchSize=2)),
    "command": lambda db, _key: db.command("collStats", "outages"),
    "index": lambda db, _key: db.indexed.create_index("ok"),
    "transaction": transaction,
    "with_transaction": with_transaction,
    "files": files,
    "changes": changes,
    "wrapped": wrapped,
    "in_the_handling": in_the_handling,
    "grouped": grouped,
}


@app.task(base=MongoTask, bind=True)
def use(self: Any, kind: str, key: int) -> int:
    """Use MongoDB in one of many ways."""
    KINDS[kind](self.db, f"{kind}-{key}")
    return key


# -- errors that say nothing of this process's own MongoDB ----------------------------------------


def elsewhere(self: Any, uri: str) -> None:
    """Use another cluster, which is away."""
    with MongoClient[Any](uri, serverSelectionTimeoutMS=300) as client:
        client.stats.events.insert_one({})


def refused(self: Any, uri: str) -> None:
    """Log in to another cluster, or with another client, by a password that is wrong."""
    with MongoClient[Any](uri, username="nobody", password="wrong") as client:  # noqa: S106 - it is wrong
        client.stats.events.insert_one({})


def stale(self: Any, uri: str) -> None:
    """Read from a secondary, of which there is none."""
    preference = ReadPreference.SECONDARY
    self.db.get_collection("outages", read_preference=preference).find_one()


def closed(self: Any, uri: str) -> None:
    """Use another client that is closed."""
    client = MongoClient[Any](uri)
    client.close()
    client.stats.events.find_one()


def wrapped_elsewhere(self: Any, uri: str) -> None:
    """Raise an error of the task's own from another cluster's."""
    try:
        elsewhere(self, uri)
    except PyMongoError as error:
        raise OrderError("no statistics") from error


OWN: dict[str, Callable[[Any, str], None]] = {
    function.__name__: function for function in (elsewhere, refused, stale, closed, wrapped_elsewhere)
}


@app.task(base=MongoTask, bind=True, max_retries=2)
def fail(self: Any, kind: str, uri: str) -> None:
    """Count the run, then meet an error that is this task's own."""
    self.db.outages.update_one({"_id": kind}, {"$inc": {"runs": 1}}, upsert=True)
    OWN[kind](self, uri)
