"""An app of one's own on any broker, as a shop has it: its workers, its beat, and what it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from celery import Celery
from celery.result import AsyncResult
from pymongo import MongoClient

from ops.local.servers import LocalServer
from tests.e2e.apps.service import Beat
from tests.e2e.workers import ROOT, Worker

APP = "tests.e2e.apps.brokers"


class Shop:
    """One deployment of the app; a context manager that ends what it started.

    `sender` is an app with the same Celery settings that knows nothing of MongoDB. Without a `redis` there
    are no results either.
    """

    def __init__(
        self, mongo: LocalServer, redis: LocalServer | None, broker: str, folder: Path, **conf: Any
    ) -> None:
        backend = None if redis is None else redis.uri
        name = f"d{uuid.uuid4().hex[:8]}"
        self.env: dict[str, str | None] = {
            "MONGODB_URI": mongo.uri,
            "MONGODB_DATABASE": name,
            "REDIS_URL": backend,
            "BROKERS_URL": broker,
            "BROKERS_BACKEND": backend,
            "BROKERS_CONF": json.dumps(conf),
            "CELERY_PYMONGO_DEPLOYMENT": name,
        }
        self.sender = Celery("sender", broker=broker, backend=backend, set_as_current=False)
        self.sender.conf.update({"task_default_queue": "shop", **conf})
        self._folder = folder
        self._stack = ExitStack()
        self._database = MongoClient[dict[str, Any]](mongo.uri)[name]

    def __enter__(self) -> Shop:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()
        self._database.client.close()
        self.sender.close()

    def worker(
        self, pool: str, *, name: str = "w1", env: Mapping[str, str | None] | None = None, **options: Any
    ) -> Worker:
        """Start a worker; `options` are those of `Worker`."""
        log = self._folder / f"{name}.log"
        worker = Worker(APP, log, pool, env={**self.env, **(env or {})}, name=name, **options)
        return self._stack.enter_context(worker)

    def beat(self) -> Beat:
        """Start a beat."""
        beat = Beat(APP, self._folder / "beat.log", env=self.env, name="beat", loglevel="DEBUG")
        self._stack.enter_context(beat)
        return beat

    def send(self, task: str, *args: Any, **options: Any) -> AsyncResult:
        """Send one of the app's tasks."""
        return self.sender.send_task(f"{APP}.{task}", args, **options)

    def celery(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run `celery -A` the app with these arguments to its end."""
        worker = Worker(APP, self._folder / "unused.log", env=self.env)
        return subprocess.run(
            [sys.executable, "-m", "celery", "-A", APP, *arguments],
            cwd=ROOT,
            env=worker.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def orders(self) -> dict[Any, int]:
        """Return how often each order was written."""
        return {row["_id"]: row["n"] for row in self._database.orders.find()}
