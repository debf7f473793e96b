"""The service as tests of its surroundings run it: its environment, its beat, and a sender of tasks."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

from tests.e2e.workers import Worker, wait_until
from worker.integration.config import celery_config
from worker.settings import schedule
from worker.settings.fields import load_settings

APP = "worker"
TASKS = "tests.e2e.apps.service_tasks"
# Neighbours are nobody's concern here, and looking for them takes a second.
ALONE = ("--without-mingle", "--without-gossip")


def environment(mongo: str, redis: str, **settings: str | None) -> dict[str, str | None]:
    """The environment of a service on these two servers, with test tasks beside its own."""
    return {"MONGODB_URI": mongo, "REDIS_URL": redis, "CELERY_PYMONGO_INCLUDE": TASKS, **settings}


def service(env: Mapping[str, str | None], folder: Path, *, name: str = "w1", **options: Any) -> Worker:
    """A worker of the service, not started; under solo where `options` name no other pool."""
    chosen: dict[str, Any] = {"pool": "solo", "concurrency": 1, "options": ALONE} | options
    return Worker(APP, log=folder / f"{name}.log", env=env, name=name, **chosen)


class Beat(Worker):
    """One `celery beat` of the service."""

    @property
    def command(self) -> list[str]:
        """The command line."""
        schedule_file = self.log.with_suffix(".schedule")
        arguments = ["beat", "-l", self.loglevel, "-s", str(schedule_file), "--pidfile="]
        return [sys.executable, "-m", "celery", "-A", self.app, *arguments, *self.options]

    def wait_for_sent(self, task: str, *, count: int = 1, seconds: float = 20) -> None:
        """Wait until it has sent a task this often; at INFO the log keeps quiet about that."""
        self.wait_for_log(rf"Scheduler: {task} sent", count=count, seconds=seconds)

    def sent(self, task: str = r"\S+") -> int:
        """How many messages it has sent so far."""
        return len(re.findall(rf"Scheduler: {task} sent", self.text))


def beat(env: Mapping[str, str | None], folder: Path, *, name: str = "beat", **options: Any) -> Beat:
    """A beat of the service, not started."""
    chosen: dict[str, Any] = {"loglevel": "DEBUG"} | options
    return Beat(APP, log=folder / f"{name}.log", env=env, name=name, **chosen)


@contextmanager
def producer(env: Mapping[str, str | None]) -> Iterator[Celery]:
    """An app with the service's configuration and no client: it sends tasks and reads results."""
    settings = load_settings({name: value for name, value in env.items() if value}, env_file=None)
    app = Celery("producer", set_as_current=False)
    app.conf.update(celery_config(settings), task_routes=schedule.routes())
    try:
        yield app
    finally:
        consumer = app.backend.result_consumer
        consumer.stop()
        # A result that outlives its server would want to unsubscribe there.
        consumer.cancel_for = lambda _task_id: None
        app.backend.client.connection_pool.disconnect()
        app.close()


def call(app: Celery, task: str, *args: Any, seconds: float = 15, **options: Any) -> Any:
    """Send a task and wait for its result."""
    result = app.send_task(task, args, **options)
    return result.get(timeout=seconds, interval=0.02)


def wait_for_ping(app: Celery, *names: str, seconds: float = 15) -> None:
    """Wait until exactly these nodes answer a broadcast."""

    def answers() -> set[str]:
        replies = app.control.ping(timeout=0.5)
        return {node for reply in replies for node in reply}

    expected = {f"{name}@localhost" for name in names}
    wait_until(lambda: answers() == expected, what=f"a ping of {expected}", seconds=seconds)
