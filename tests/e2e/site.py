"""A MongoDB that is watched, a Redis, and workers of the lifecycle app between them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult
from pymongo import MongoClient

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.workers import Worker
from worker.integration.config import celery_config
from worker.settings.fields import load_settings

MODULE = "tests.e2e.apps.lifecycle"
QUEUE = "lifecycle"
KINDS = ("fork", "spawn", "solo", "threads", "gevent")
"""Of pools."""
_ALONE = ("--without-mingle", "--without-gossip")
"""Nobody to wait for: a second less per start."""
PROCESSES = {"fork": 2, "spawn": 2, "solo": 1, "threads": 1, "gevent": 1}
"""Processes that run tasks, of a worker with a concurrency of 2."""


def kinds(*each: str, full: Sequence[str] = KINDS) -> list[Any]:
    """Return the pools that a test runs on: `each` for every change, all others with `ops/test --full`."""
    rest = [kind for kind in full if kind not in each]
    return [*each, *(pytest.param(kind, marks=pytest.mark.full) for kind in rest)]


class Result(AsyncResult):
    """A result that is let go of in silence: Celery's own tells Redis, which may have ended with its test."""

    def __del__(self) -> None:
        """Do nothing."""


@dataclass
class Node:
    """A worker of one kind in a deployment of its own, so that no other's messages reach it."""

    kind: str
    deployment: str
    worker: Worker
    sender: Celery
    module: str = MODULE

    @property
    def is_prefork(self) -> bool:
        return self.kind in ("fork", "spawn")

    def send(self, task: str, *args: Any, **options: Any) -> AsyncResult:
        """Send one of the app's tasks."""
        return self.sender.send_task(f"{self.module}.{task}", args, queue=QUEUE, **options)

    def run(self, task: str, *args: Any, **options: Any) -> Any:
        """Run one of the app's tasks and return its result."""
        return self.send(task, *args, **options).get(timeout=20)

    def pids(self) -> set[int]:
        """The processes that run tasks now."""
        return set(self.worker.children()) if self.is_prefork else {self.worker.pid}

    def wait_warm(self, count: int | None = None) -> None:
        """Wait until `count` processes (default: each of the first ones) have reached the server."""
        self.worker.wait_for_log("client.warm", count=count or PROCESSES[self.kind])


@dataclass
class Site:
    """Where the nodes run; `proxy` sees all that they say to MongoDB. `module` is the app of their tasks."""

    mongo: LocalServer
    redis: LocalServer
    proxy: WatchingProxy
    folder: Path
    module: str = MODULE

    @contextmanager
    def node(
        self,
        kind: str,
        *,
        env: Mapping[str, str] | None = None,
        concurrency: int = 2,
        name: str = "w1",
        **conf: Any,
    ) -> Iterator[Node]:
        """Run a worker of this name; `conf` is Celery's, `env` wins over what the site sets."""
        # Unique on this host: what a killed worker leaves is found by the deployment's name.
        deployment = f"d{os.getpid()}-{len(list(self.folder.iterdir()))}"
        environment = (
            self.environment(kind, deployment) | {"LIFECYCLE_CONF": json.dumps(conf)} | dict(env or {})
        )
        pool = "prefork" if kind in ("fork", "spawn") else kind
        log = self.folder / f"{deployment}-{kind}.log"
        queues = (QUEUE, "mongo.health")
        worker = Worker(self.module, log, pool, concurrency, queues, environment, options=_ALONE, name=name)
        with worker:
            yield Node(kind, deployment, worker, self.sender(environment), self.module)

    def environment(self, kind: str = "fork", deployment: str = "d") -> dict[str, str]:
        """The settings of a process at this site."""
        return {
            "MONGODB_URI": self.proxy.uri,
            "REDIS_URL": self.redis.uri,
            "CELERY_PYMONGO_DEPLOYMENT": deployment,
            "CELERY_PYMONGO_INCLUDE": self.module,
            "CELERY_PYMONGO_POOL_START_METHOD": "spawn" if kind == "spawn" else "fork",
        }

    def sockets(self, deployment: str) -> Counter[str]:
        """Open sockets by appname, as the server counts them."""
        with MongoClient[dict[str, Any]](self.mongo.uri) as client:
            rows = client.admin.command({"currentOp": 1, "$all": True})["inprog"]
        names = [row.get("appName") or _metadata_name(row) for row in rows]
        return Counter(name for name in names if name and f"/{deployment}/" in name)

    def sender(self, environment: Mapping[str, str | None]) -> Celery:
        """An app that only sends, to workers with this environment."""
        present = {name: value for name, value in environment.items() if value is not None}
        app = Celery("tests", set_as_current=False)
        app.conf.update(celery_config(load_settings(present, env_file=None)))
        app.AsyncResult = app.subclass_with_self(Result)
        return app


def _metadata_name(row: Mapping[str, Any]) -> str | None:
    name: str | None = (row.get("clientMetadata") or {}).get("application", {}).get("name")
    return name
