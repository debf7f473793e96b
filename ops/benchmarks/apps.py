"""The apps that are compared: one task, `find_one` by _id, and a client held in four ways.

Their workers find them by name (`celery -A ops.benchmarks.apps:bare`), made when asked for. Only `shared`
imports this project; the others get their Celery settings and client options from the benchmark, so that
every app has the same.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from celery import Celery

from .records import Recorder

TASK = "bench.find_one"
COLLECTION = "items"
DOCUMENTS = 100
_VARIABLE = "CELERY_PYMONGO_BENCH"

Find = Callable[[int], Any]


@dataclass(frozen=True)
class Spec:
    """What a worker of the benchmark has to know, carried by one environment variable."""

    celery: dict[str, Any]
    mongo_uri: str
    mongo_options: dict[str, Any]
    database: str
    records: str
    with_fixes: bool = False

    def to_environment(self) -> dict[str, str]:
        """Return the variable for the worker's environment."""
        return {_VARIABLE: json.dumps(asdict(self))}


def __getattr__(name: str) -> Any:
    if name not in _APPS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _APPS[name]()


@cache
def spec() -> Spec:
    """Return what this worker was told."""
    return Spec(**json.loads(os.environ[_VARIABLE]))


@cache
def _recorder() -> Recorder:
    return Recorder(Path(spec().records))


def _shared() -> Celery:
    """This project: the service's app, its task class, the one client of the process."""
    from worker.celery import create_app
    from worker.settings.fields import load_settings

    app = create_app(load_settings(env_file=None))

    def find_one(self: Any, number: int, pause_seconds: float) -> None:
        _measure(number, lambda key: self.db[COLLECTION].find_one({"_id": key}))
        time.sleep(pause_seconds)

    app.task(name=TASK, bind=True, base=app.mongo.Task, ignore_result=True)(find_one)
    return app


def _bare() -> Celery:
    """What one writes by hand at best: a module-level client that each child makes at its first use."""
    import pymongo  # noqa: F401 - in MAIN, before the fork, as a module-level import is

    return _plain(_find_with_own_client)


def _late() -> Celery:
    """The same with pymongo imported in each child: only to see what importing it in MAIN saves."""
    return _plain(_find_with_own_client)


def _per_task() -> Celery:
    """A client for each task, closed at its end."""
    import pymongo  # noqa: F401 - in MAIN, as above

    return _plain(_find_with_a_new_client)


_APPS = {"shared": cache(_shared), "bare": cache(_bare), "late": cache(_late), "per_task": cache(_per_task)}


def _plain(find: Find) -> Celery:
    told = spec()
    app = Celery("bench")
    app.conf.update(told.celery)
    if told.with_fixes:
        from worker.integration import fixes

        fixes.install(app)

    def find_one(number: int, pause_seconds: float) -> None:
        _measure(number, find)
        time.sleep(pause_seconds)

    app.task(name=TASK, acks_late=True, reject_on_worker_lost=True, ignore_result=True)(find_one)
    return app


def _measure(number: int, find: Find) -> None:
    started = time.monotonic_ns()
    document = find(number % DOCUMENTS)
    ended = time.monotonic_ns()
    assert document is not None, "the benchmark's collection is empty"
    _recorder().add(number, started, ended)


def _new_client() -> Any:
    from pymongo import MongoClient

    return MongoClient(spec().mongo_uri, connect=False, **spec().mongo_options)


_own_client = cache(_new_client)


def _find_with_own_client(key: int) -> Any:
    return _own_client()[spec().database][COLLECTION].find_one({"_id": key})


def _find_with_a_new_client(key: int) -> Any:
    with _new_client() as client:
        return client[spec().database][COLLECTION].find_one({"_id": key})
