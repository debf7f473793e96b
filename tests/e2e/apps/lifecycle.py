"""The service's app with a few tasks that show where they run and provoke how processes end.

LIFECYCLE_CONF is JSON: Celery settings on top of the service's own.
"""

import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from typing import Any

import billiard
from celery import Task, chord, group
from celery.signals import worker_ready
from pymongo import MongoClient
from pymongo.errors import NotPrimaryError

from tests.e2e.apps import loud, turned
from worker.celery import create_app
from worker.delivery.task import MongoTask
from worker.errors import ClientInMainError
from worker.mongo.once import once, run_once
from worker.pool.adapter import read_gauges
from worker.process import process
from worker.settings.fields import load_settings

turned.register()
loud.speak()
app = create_app(load_settings())
app.conf.update(task_default_queue="lifecycle")
app.conf.update(json.loads(os.environ.get("LIFECYCLE_CONF", "{}")))

if early := os.environ.get("LIFECYCLE_EARLY_CLIENT"):
    if early == "own":
        EARLY: Any = app.mongo.get_client()
    else:
        EARLY = MongoClient(early)
    EARLY.admin.command("ping")


@worker_ready.connect
def ask_in_main(**_kwargs: Any) -> None:
    """Ask for a client where a prefork worker must have none."""
    try:
        app.mongo.get_client()
    except ClientInMainError as error:
        logging.getLogger(__name__).warning("refused: %s", error)


@app.task(base=MongoTask, bind=True, acks_late=False)
def place(self: Any, seconds: float = 0.0) -> dict[str, Any]:
    """Say where this ran, and what its pool had done before."""
    before = self.mongo.pool()
    time.sleep(seconds)
    self.db.command("ping")
    report: dict[str, Any] = before | {"tags": _sentry_tags(), "is_one": self.mongo is process.current()}
    return report


@app.task(base=MongoTask, bind=True)
def write(self: Any, key: int) -> int:
    """Upsert one document: the same however often it runs."""
    self.db.lifecycle.update_one({"_id": key}, {"$set": {"by": os.getpid()}}, upsert=True)
    return key


@app.task(base=MongoTask, bind=True, acks_late=False)
def write_early(self: Any, key: int) -> int:
    """Likewise, with a message that is acknowledged before."""
    self.db.lifecycle.update_one({"_id": key}, {"$set": {"by": os.getpid()}}, upsert=True)
    return key


@app.task(base=MongoTask, bind=True)
def poison(self: Any) -> None:
    """End its process by force, each time."""
    logging.getLogger(__name__).warning("poisoned: %d", os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(base=MongoTask, bind=True)
def leave(self: Any, how: str) -> None:
    """Raise what would end a process, or send this one a signal."""
    logging.getLogger(__name__).warning("leaving by %s", how)
    errors = {"exit": SystemExit(1), "exit 0": SystemExit(0), "interrupt": KeyboardInterrupt()}
    errors |= {"generator": GeneratorExit(), "memory": MemoryError()}
    if how == "signal":
        os.kill(os.getpid(), signal.SIGTERM)
    raise errors[how]


@app.task(base=MongoTask, bind=True, idempotent=False)
def keep(self: Any, value: Any) -> None:
    """Note the value, and end the process by force the first time."""
    self.db.kept.update_one({"_id": self.request.id}, {"$push": {"values": repr(value)}}, upsert=True)
    if len(self.db.kept.find_one({"_id": self.request.id})["values"]) == 1:
        os._exit(1)


def crunch(number: int) -> int:
    """Write from a process that a task has forked."""
    app.mongo.get_database().crunched.insert_one({"number": number, "pid": os.getpid()})
    return os.getpid()


@app.task(base=MongoTask, bind=True)
def fan(self: Any) -> tuple[int, list[int]]:
    """Work in a pool of its own."""
    with billiard.Pool(2) as pool:
        return os.getpid(), pool.map(crunch, range(4))


@app.task(base=MongoTask, bind=True)
def fork(self: Any, how: str) -> tuple[int, int]:
    """Return this process and how the one that it forks ended."""
    child = os.fork()
    if child == 0:
        crunch(0)
        if how == "returns":
            return 0, 0
        sys.exit(3)
    return os.getpid(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@app.task(base=MongoTask, bind=True, idempotent=False)
def fork_then_retry(self: Any) -> None:
    """Ask for another run, which must not be where the fork may have written."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    raise self.retry(countdown=0.1)


@app.task(base=MongoTask, bind=True, idempotent=False)
def page(self: Any, key: str, number: int, last: int) -> int:
    """Work a page off, and then, in place of this, the next."""
    self.db.pages.insert_one({"key": key, "number": number})
    return number if number == last else self.replace(page.si(key, number + 1, last))


@app.task(base=MongoTask, bind=True)
def reward(self: Any, key: str, replacement: str, number: int = 0) -> str:
    """Add ten once, and give the rest to another task under this one's id."""
    once(self.db.accounts, {"_id": key}, {"$inc": {"points": 10}}, task_id=self.request.id, upsert=True)
    run_once(self.db, lambda session: _count(self.db, key, session), task_id=self.request.id)
    following: dict[str, Any] = {
        "another": bonus.si(key),
        "itself": reward.si(key, "itself", number + 1),
        "a group": group([bonus.si(key), bonus.si(key)]),
        "a chord": chord([bonus.si(key), bonus.si(key)], reward.si(key, "nothing")),
        "a chain": bonus.si(key) | reward.si(key, "nothing"),
    }
    is_last = replacement == "nothing" or number == 2
    return "rewarded" if is_last else self.replace(following[replacement])


@app.task(base=MongoTask, bind=True)
def bonus(self: Any, key: str) -> str:
    """Add one once."""
    effect = once(
        self.db.accounts, {"_id": key}, {"$inc": {"points": 1}}, task_id=self.request.id, upsert=True
    )
    run_once(self.db, lambda session: _count(self.db, key, session), task_id=self.request.id)
    return str(effect)


def _count(data: Any, key: str, session: Any) -> None:
    data.counts.update_one({"_id": key}, {"$inc": {"n": 1}}, upsert=True, session=session)


@app.task(base=MongoTask, bind=True, idempotent=False)
def note(self: Any, key: str, ending: str = "well", seconds: float = 0.0) -> str:
    """Write, which must not happen twice for one message."""
    if ending == "retried" and self.request.retries == 0:
        raise self.retry(countdown=0.1)
    self.db.notes.insert_one({"key": key, "retries": self.request.retries})
    time.sleep(seconds)
    if ending == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if ending == "failed":
        raise ValueError(key)
    return key


class Begins(MongoTask):
    """Says in MongoDB that it begins."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self.db.lifecycle.update_one({"_id": f"{task_id} began"}, {"$inc": {"n": 1}}, upsert=True)


class Returns(Begins):
    """As web frameworks' guides have it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


class Context(Task):
    """Likewise, for tasks of any kind."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


class ContextFirst(Context, MongoTask):
    """Likewise, before MongoTask."""


class Ends(MongoTask):
    """Says in MongoDB how it ended, or leaves."""

    ignore_result = True

    def on_success(self, retval: str, task_id: str, args: Any, kwargs: Any) -> None:
        logging.getLogger(__name__).warning("ending by %s", retval)
        if retval == "by force":
            os._exit(1)
        self.db.lifecycle.update_one({"_id": f"{task_id} ended"}, {"$inc": {"n": 1}}, upsert=True)


@app.task(base=Begins, bind=True)
def begun(self: Any) -> str:
    """Leave all to what comes before."""
    return str(self.request.id)


@app.task(base=Returns, bind=True)
def returning(self: Any) -> str:
    """Write in the body, too."""
    self.db.lifecycle.update_one({"_id": self.request.id}, {"$inc": {"n": 1}}, upsert=True)
    return str(self.request.id)


@app.task(base=ContextFirst, bind=True)
def within(self: Any) -> str:
    """Likewise."""
    self.db.lifecycle.update_one({"_id": self.request.id}, {"$inc": {"n": 1}}, upsert=True)
    return str(self.request.id)


@app.task(base=Ends, bind=True)
def ending(self: Any, how: str, seconds: float = 0.0) -> str:
    """Leave the rest to its hook."""
    time.sleep(seconds)
    return how


@app.task(base=MongoTask, bind=True)
def linger(self: Any, seconds: float) -> None:
    """Run for long."""
    logging.getLogger(__name__).warning("lingering")
    time.sleep(seconds)


@app.task(base=MongoTask, bind=True, idempotent=False)
def add(self: Any, key: str, ending: str = "well") -> int:
    """Add one, which must not happen twice; then end well, badly or by force."""
    logging.getLogger(__name__).warning("adding to %s", key)
    self.db.lifecycle.update_one({"_id": key}, {"$inc": {"n": 1}}, upsert=True)
    if ending == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if ending == "failing over":
        raise NotPrimaryError("the primary steps down")
    return 1


@app.task(base=MongoTask, bind=True)
def replace(self: Any) -> int:
    """Put a new client in the place of this process's own."""
    self.mongo.holder.replace()
    self.db.command("ping")
    return os.getpid()


@app.task(acks_late=False, reject_on_worker_lost=False)
def die() -> None:
    """Leave as the kernel's out-of-memory killer would make us."""
    logging.getLogger(__name__).warning("dying in %d", os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(acks_late=False, reject_on_worker_lost=False)
def sleep(seconds: float) -> int:
    """Hold a slot."""
    logging.getLogger(__name__).warning("asleep in %d", os.getpid())
    time.sleep(seconds)
    return os.getpid()


@app.task(acks_late=False, reject_on_worker_lost=False)
def hog(seconds: int) -> int:
    """Call C code that keeps the interpreter to itself: no other thread of this process runs meanwhile."""
    ctypes.PyDLL(None).sleep(seconds)
    return os.getpid()


@app.task(acks_late=False, soft_time_limit=1)
def wait_in_vain() -> None:
    """Wait for the one connection of the pool, which another thread holds, until the time limit comes.

    No MongoTask, whose operations end before its time limit does.
    """
    collection = app.mongo.get_database().lifecycle
    holder = threading.Thread(target=collection.distinct, args=("_id",))
    holder.start()
    while not app.mongo.monitor.holders:
        time.sleep(0.01)
    try:
        collection.find_one()
    finally:
        holder.join()


@app.task(base=MongoTask, bind=True)
def gauges(self: Any) -> dict[str, Any]:
    """Return the gauges by the monitor's events, the pool's own counters, and what had to be corrected."""
    monitor = self.mongo.monitor
    return {
        "told": {name: gauges.to_dict() for name, gauges in monitor.gauges().items()},
        "true": {name: gauges.to_dict() for name, gauges in (read_gauges(self.client) or {}).items()},
        "drift": monitor.totals(time.monotonic()).count["drift"],
    }


@app.task
def second_client(uri: str) -> int:
    """Make a client that is not the process's own."""
    with MongoClient[dict[str, Any]](uri) as client:
        client.admin.command("ping")
    return os.getpid()


def _sentry_tags() -> dict[str, str]:
    """What Sentry would tell of this process; nothing where it is not set up."""
    sdk = sys.modules.get("sentry_sdk")
    # There is no public way to read tags back.
    return dict(sdk.get_isolation_scope()._tags) if sdk and sdk.is_initialized() else {}
