"""`install(app)` with brokers other than Redis: a worker starts, runs a MongoTask, checks health and ends."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult
from pymongo import MongoClient

from ops.local.servers import LocalServer
from tests.e2e.workers import Worker

APP = "tests.e2e.apps.brokers"
POOLS = ("prefork", "threads", "solo", "gevent")
COMPLAINTS = re.compile(r"Traceback|ERROR|CRITICAL")


class Shop:
    """The app of one deployment on one broker: its workers, and a sender that knows nothing of MongoDB."""

    def __init__(self, env: Mapping[str, str], conf: Mapping[str, Any], folder: Path) -> None:
        self.env = {**env, "BROKERS_CONF": json.dumps(conf)}
        self._folder = folder
        self._stack = ExitStack()
        self.sender = Celery("sender", broker=env["BROKERS_URL"], backend=env["BROKERS_BACKEND"])
        self.sender.conf.update(task_default_queue="shop", **conf)

    def worker(self, pool: str, *, name: str = "w1", env: Mapping[str, str] | None = None) -> Worker:
        """Start a worker of this pool."""
        worker = Worker(APP, self._folder / f"{name}.log", pool, env={**self.env, **(env or {})}, name=name)
        return self._stack.enter_context(worker)

    def send(self, task: str, *args: Any, **options: Any) -> AsyncResult:
        """Send one of the app's tasks."""
        return self.sender.send_task(f"{APP}.{task}", args, **options)

    def close(self) -> None:
        """End whatever was started."""
        self._stack.close()
        self.sender.close()


@pytest.fixture
def shop(mongo: LocalServer, redis: LocalServer, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Make a Shop on a broker; `conf` is Celery's."""
    shops: list[Shop] = []

    def make(broker: str, **conf: Any) -> Shop:
        env = {
            "MONGODB_URI": mongo.uri,
            "MONGODB_DATABASE": f"d{uuid.uuid4().hex[:8]}",
            "REDIS_URL": redis.uri,
            "BROKERS_URL": broker,
            "BROKERS_BACKEND": redis.uri,
            "CELERY_PYMONGO_DEPLOYMENT": f"d{uuid.uuid4().hex[:8]}",
        }
        shops.append(Shop(env, conf, tmp_path))
        return shops[-1]

    yield make
    for each in shops:
        each.close()


def orders(shop: Shop) -> dict[Any, int]:
    """Return how often each order was written."""
    with MongoClient[dict[str, Any]](shop.env["MONGODB_URI"]) as client:
        return {row["_id"]: row["n"] for row in client[shop.env["MONGODB_DATABASE"]].orders.find()}


def hold_that_it_works(shop: Shop, pool: str) -> None:
    """Run one worker from start to end: a task, a health check, and nothing to complain of."""
    worker = shop.worker(pool)
    worker.wait_ready()
    assert shop.send("save", 7).get(timeout=30) == 7
    assert orders(shop) == {7: 1}
    check = shop.sender.send_task("mongo.health.check", queue="mongo.health").get(timeout=30)
    assert (check["verdict"], check["reasons"]) == ("ok", [])
    assert worker.terminate() == 0
    assert not COMPLAINTS.search(worker.text), worker.text


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_runs_on_rabbitmq(pool: str, shop: Callable[..., Shop], rabbit: str) -> None:
    hold_that_it_works(shop(rabbit), pool)


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_a_worker_runs_on_files(pool: str, shop: Callable[..., Shop], tmp_path: Path) -> None:
    """kombu's filesystem:// knows no event loop: a thread fires the worker's timers."""
    (tmp_path / "broker").mkdir()
    folders = dict.fromkeys(("data_folder_in", "data_folder_out"), str(tmp_path / "broker"))
    options = folders | {"control_folder": str(tmp_path / "control")}
    hold_that_it_works(shop("filesystem://localhost", broker_transport_options=options), pool)


@pytest.mark.filterwarnings("ignore:The ``noload``")  # kombu's
@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_worker_runs_on_a_database(pool: str, shop: Callable[..., Shop], tmp_path: Path) -> None:
    hold_that_it_works(shop(f"sqla+sqlite:///{tmp_path}/broker.db"), pool)


def test_a_worker_runs_on_its_own_memory(shop: Callable[..., Shop]) -> None:
    """It reaches the threads of its own process alone, which send to themselves."""
    alone = shop("memory://")
    ids = {f"{APP}.save": str(uuid.uuid4()), "mongo.health.check": str(uuid.uuid4())}
    worker = alone.worker("threads", env={"BROKERS_SEND": json.dumps(ids)})
    worker.wait_ready()
    saved, check = (alone.sender.AsyncResult(task_id).get(timeout=30) for task_id in ids.values())
    assert saved == "own"
    assert check["verdict"] == "ok"
    assert orders(alone) == {"own": 1}
    assert worker.terminate() == 0
    assert not COMPLAINTS.search(worker.text), worker.text
