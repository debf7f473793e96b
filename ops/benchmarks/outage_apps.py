"""The apps that an outage is compared on: one upsert by _id, in a MongoTask and in what people write by hand.

Found by name (`celery -A ops.benchmarks.outage_apps:ours`). All have the same Celery settings and mends;
those by hand have PyMongo's own client options, as such apps do.
"""

import os
import time
from functools import cache
from pathlib import Path
from typing import Any

from celery import Celery, signals

from .apps import COLLECTION, spec

TASK = "bench.upsert"


def __getattr__(name: str) -> Any:
    if name not in _APPS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _APPS[name]()


def _ours() -> Celery:
    """This project: the service's app and its task class."""
    from worker.celery import create_app
    from worker.settings.fields import load_settings

    app = create_app(load_settings(env_file=None))

    def upsert(self: Any, number: int, pause_seconds: float) -> None:
        _write(self.db[COLLECTION], number, pause_seconds)

    app.task(name=TASK, bind=True, base=app.mongo.Task)(upsert)
    return _recorded(app)


def _bare() -> Celery:
    """A module-level client, made by each child at its first use."""
    return _by_hand({})


def _autoretry() -> Celery:
    """The same with Celery's own retries."""
    from pymongo.errors import PyMongoError

    return _by_hand(
        {"autoretry_for": (PyMongoError,), "retry_backoff": True, "retry_jitter": True, "max_retries": 3}
    )


_APPS = {"ours": cache(_ours), "bare": cache(_bare), "autoretry": cache(_autoretry)}


def _by_hand(options: dict[str, Any]) -> Celery:
    import pymongo  # noqa: F401 - in MAIN, before the fork, as a module-level import is

    from worker.integration import fixes

    app = Celery("bench")
    app.conf.update(spec().celery)
    # Bugs of Celery's own are not what is compared.
    fixes.install(app)

    def upsert(number: int, pause_seconds: float) -> None:
        _write(_client()[spec().database][COLLECTION], number, pause_seconds)

    app.task(name=TASK, acks_late=True, reject_on_worker_lost=True, **options)(upsert)
    return _recorded(app)


@cache
def _client() -> Any:
    from pymongo import MongoClient

    return MongoClient(spec().mongo_uri)


def _write(collection: Any, number: int, pause_seconds: float) -> None:
    collection.update_one({"_id": number}, {"$set": {"at": time.time()}}, upsert=True)
    time.sleep(pause_seconds)


def _recorded(app: Celery) -> Celery:
    """Write a line for each run of the task, with what became of it; a line of this size is not torn."""
    began: dict[str, int] = {}

    def prerun(task_id: str, **_kwargs: Any) -> None:
        began[task_id] = time.monotonic_ns()

    def postrun(task_id: str, task: Any, args: Any, state: str | None = None, **_kwargs: Any) -> None:
        if task.name == TASK:
            line = f"{args[0]} {began.pop(task_id)} {time.monotonic_ns()} {state or '?'}\n"
            os.write(_lines(), line.encode())

    signals.task_prerun.connect(prerun, weak=False)
    signals.task_postrun.connect(postrun, weak=False)
    return app


@cache
def _lines() -> int:
    return os.open(Path(spec().records), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
