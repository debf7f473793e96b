"""Tasks of tests: they fail, retry, print and tell what their process is like."""

import logging
import os
import sys
import time
from typing import Any

from celery import Task, shared_task
from celery.utils.log import get_task_logger

from worker.task import MongoTask

logger = get_task_logger(__name__)


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


@shared_task(name="probe.print")
def print_line(text: str) -> None:
    """Print, as tasks should not."""
    sys.stdout.write(f"{text}\n")
