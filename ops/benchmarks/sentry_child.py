"""Tasks and reads under Sentry, as this project sets it up and as `sentry_sdk.init` alone does.

`python -m ops.benchmarks.sentry_child task|read TRACES PAIRS` prints the seconds of one, in pairs, as JSON.
SDK, integrations and client are the same in both halves: what is exchanged is what we chain to it.
"""

import json
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import sentry_sdk
from celery import signals
from celery.app import trace
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport

from worker.celery import create_app
from worker.delivery.stores import Stores
from worker.process.process import Place
from worker.sentry import Agent
from worker.settings.fields import load_settings

from .apps import COLLECTION

_TASKS, _READS = 100, 50
_HOOKS = (
    "before_send",
    "before_send_transaction",
    "before_breadcrumb",
    "before_send_log",
    "before_send_span",
)
_HANDLERS = ("_succeeded", "_failed", "_revoked")


class Dropped(Transport):
    """Takes what it is given and forgets it."""

    def capture_envelope(self, envelope: Any) -> None:
        """Forget it."""


class Exchange:
    """Puts our part in, and takes it out again."""

    def __init__(self, agent: Agent) -> None:
        self._options = sentry_sdk.get_client().options
        self._plain = {name: self._options.get(name) for name in _HOOKS}
        self._agent = agent
        agent.enter("bench")
        self._ours = {name: self._options.get(name) for name in _HOOKS}
        assert self._ours != self._plain, "nothing was chained"

    def __call__(self, *, is_ours: bool) -> None:
        """From here on it is ours, or plain."""
        self._options.update(self._ours if is_ours else self._plain)
        if is_ours:
            self._agent._check_ins.connect()
            return
        for signal, name in zip(
            (signals.task_success, signals.task_failure, signals.task_revoked), _HANDLERS, strict=True
        ):
            signal.disconnect(dispatch_uid=f"celery_pymongo.sentry.{name}")


def main(what: str, traces: str, pairs: str) -> None:
    """Print the pairs: ours first."""
    sentry_sdk.init(
        "http://key@127.0.0.1:9/1",
        transport=Dropped(),
        traces_sample_rate=float(traces),
        integrations=[CeleryIntegration()],
    )
    app = create_app(load_settings(env_file=None))
    app.mongo.enter_process(Place("bench"))
    stores = Stores.of(app.mongo.settings)
    exchange = Exchange(Agent(app.mongo, stores.registry, stores.ledger, stores.windows))
    batch = BATCHES[what](app)
    for is_ours in (True, False):
        exchange(is_ours=is_ours)
        batch()
    found = []
    for number in range(int(pairs)):
        took = {}
        for is_ours in (True, False) if number % 2 else (False, True):
            exchange(is_ours=is_ours)
            took[is_ours] = batch()
        found.append((took[True], took[False]))
    print(json.dumps(found))


def _tasks(app: Any) -> Callable[[], float]:
    """Return a batch of runs of a task that does nothing, which returns the seconds of one."""
    task = app.task(name="bench.nothing", ignore_result=True)(_nothing)
    app.finalize()
    run = trace.build_tracer(task.name, task, app=app)

    def batch() -> float:
        started = time.perf_counter()
        for _ in range(_TASKS):
            run(str(uuid.uuid4()), (), {}, {"id": "x", "delivery_info": {"routing_key": "celery"}})
        return (time.perf_counter() - started) / _TASKS

    return batch


def _reads(app: Any) -> Callable[[], float]:
    """Return a batch of reads in one task, which returns the seconds of one."""
    collection = app.mongo.get_database()[COLLECTION]

    def read() -> None:
        for number in range(_READS):
            collection.find_one({"_id": number})

    task = app.task(name="bench.read", ignore_result=True)(read)
    app.finalize()
    run = trace.build_tracer(task.name, task, app=app)

    def batch() -> float:
        started = time.perf_counter()
        run(str(uuid.uuid4()), (), {}, {"id": "x", "delivery_info": {"routing_key": "celery"}})
        return (time.perf_counter() - started) / _READS

    return batch


def _nothing() -> None:
    """Do nothing."""


BATCHES = {"task": _tasks, "read": _reads}

if __name__ == "__main__":
    main(*sys.argv[1:])
