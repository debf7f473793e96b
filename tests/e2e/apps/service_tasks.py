"""Tasks of tests: they fail, retry, print and tell what their process is like."""

import logging
import os
import sys
import time
from typing import Any

from celery import Task, shared_task
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.log import get_task_logger
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from tests.e2e.apps import loud
from worker.delivery.task import MongoTask

loud.speak()
logger = get_task_logger(__name__)
KEPT: list[Any] = []


class ToldError(RuntimeError):
    """What a test task fails with."""


@shared_task(name="probe.echo")
def echo(value: Any = None) -> Any:
    """Return the value."""
    return value


@shared_task(name="probe.modules")
def modules(name: str) -> bool:
    """Tell whether this process has imported a module."""
    return name in sys.modules


@shared_task(name="probe.log")
def log(text: str) -> int:
    """Log one line as tasks do and one as libraries do; return the process."""
    logger.info("%s", text)
    logging.getLogger("some.library").warning("%s of a library", text)
    return os.getpid()


@shared_task(name="probe.fail")
def fail(document: dict[str, Any]) -> None:
    """Fail with a document among the local variables and arguments."""
    held = [document]
    raise ToldError(f"failed with {len(held)} document")


@shared_task(name="probe.retry_once", bind=True)
def retry_once(self: Task) -> int:
    """Fail, then succeed."""
    if not self.request.retries:
        raise self.retry(exc=ToldError("not yet"), countdown=0)
    return int(self.request.retries)


@shared_task(name="probe.nap")
def nap(seconds: float) -> float:
    """Hold a slot for a while."""
    time.sleep(seconds)
    return seconds


@shared_task(name="probe.stubborn")
def stubborn(seconds: float) -> None:
    """Go on when it should end."""
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        time.sleep(seconds)


@shared_task(name="probe.write", bind=True)
def write(self: Task, document: dict[str, Any]) -> int:
    """Insert a document through the process's own client; return how many there are."""
    db = self.app.mongo.get_database()
    db.probe.insert_one(document)
    return int(db.probe.count_documents({}))


@shared_task(name="probe.read", bind=True)
def read(self: Task) -> int:
    """Read through the process's own client, as a task that is no MongoTask does: an outage fails it."""
    return int(self.app.mongo.get_database().probe.count_documents({}))


@shared_task(name="probe.upsert", bind=True, base=MongoTask)
def upsert(self: MongoTask, number: int) -> int:
    """Write through the process's own client; an outage sends it back to the broker."""
    self.db.probe.update_one({"_id": number}, {"$set": {"by": os.getpid()}}, upsert=True)
    return number


@shared_task(name="probe.plant")
def plant(name: str) -> None:
    """Fail of something that has nothing to do with MongoDB."""
    raise {"key": KeyError, "value": ValueError, "told": ToldError}[name.partition("-")[0]](name)


@shared_task(name="probe.leak", bind=True, base=MongoTask)
def leak(self: MongoTask) -> None:
    """Leave a session open."""
    session = self.client.start_session()
    KEPT.append(session)
    self.db.probe.find_one({}, session=session)


@shared_task(name="probe.charge", bind=True, base=MongoTask, idempotent=False)
def charge(self: MongoTask, key: str) -> None:
    """Write, and fail in a way that leaves open whether it took effect; must not run twice."""
    self.db.probe.update_one({"_id": key}, {"$inc": {"n": 1}}, upsert=True)
    raise AutoReconnect("connection closed")


@shared_task(name="probe.close_client", bind=True, base=MongoTask)
def close_client(self: MongoTask) -> int:
    """Close what is the process's to close, at the first try."""
    if not self.request.retries:
        self.client.close()
    self.db.probe.find_one({})
    return int(self.request.retries)


@shared_task(name="probe.second_client")
def second_client(uri: str) -> None:
    """Make a client beside the process's own."""
    with MongoClient[dict[str, Any]](uri) as client:
        client.admin.command("ping")


@shared_task(name="probe.raise", bind=True)
def raise_driver_error(self: Task, name: str, secret: str) -> None:
    """Fail of an error of the driver's with a secret in every place that it has."""
    # With the SDK, which a process without a DSN must not import.
    from tests.unit.sentry_events import driver_classes, make

    document = {"_id": name, "name": secret}
    self.app.mongo.get_database().probe.find_one(document)
    raise next(make(kind, secret) for kind in driver_classes() if kind.__name__ == name)


@shared_task(name="probe.print")
def print_line(text: str) -> None:
    """Print, as tasks should not."""
    sys.stdout.write(f"{text}\n")
