"""`install(app)` with brokers other than Redis: a worker starts, runs a MongoTask, checks health and ends."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.local import rabbit as rabbitmq
from ops.local.servers import LocalServer
from tests.e2e.shops import APP, Shop
from tests.e2e.site import kinds
from tests.e2e.workers import wait_until

POOLS = ("prefork", "threads", "solo", "gevent")
COMPLAINTS = re.compile(r"Traceback|ERROR|CRITICAL")


def hold_that_it_works(shop: Shop, pool: str) -> None:
    """Run one worker from start to end: a task, a health check, and nothing to complain of."""
    worker = shop.worker(pool)
    worker.wait_ready()
    assert shop.send("save", 7).get(timeout=30) == 7
    assert shop.orders() == {7: 1}
    check = shop.sender.send_task("mongo.health.check", queue="mongo.health").get(timeout=30)
    assert (check["verdict"], check["reasons"]) == ("ok", [])
    assert worker.terminate() == 0
    assert not COMPLAINTS.search(worker.text), worker.text


@pytest.mark.parametrize("pool", kinds("prefork", "gevent", full=POOLS))
def test_a_worker_runs_on_rabbitmq(pool: str, shop: Callable[..., Shop], rabbit: str) -> None:
    hold_that_it_works(shop(rabbit), pool)


def test_a_retry_that_rabbitmq_refuses_is_not_lost(shop: Callable[..., Shop], rabbit: str) -> None:
    """Its queue is full when the task is to be retried: the message goes back."""
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    queues = {"shop": {"exchange": "shop", "routing_key": "shop", "queue_arguments": full}}
    small = shop(rabbit, task_queues=queues, worker_prefetch_multiplier=1)
    worker = small.worker("threads", concurrency=1)
    worker.wait_ready()
    first = small.send("again", "a", 2)
    wait_until(lambda: small.orders() == {"a": 1}, what="the first run")
    second = small.send("save", "b")
    assert (first.get(timeout=60), second.get(timeout=60)) == ("a", "b")
    assert small.orders() == {"a": 2, "b": 1}
    assert worker.terminate() == 0


@pytest.mark.usefixtures("rabbit_node")  # which says what to do where there is none
@pytest.mark.full
def test_rabbitmq_is_killed_with_tasks_in_flight(shop: Callable[..., Shop], tmp_path: Path) -> None:
    """What it had confirmed is done, and the worker lives. A node of its own: others use the shared one."""
    with rabbitmq.RabbitServer(tmp_path / "node") as node:
        confirmed = {"confirm_publish": True}
        own = shop(node.uri, broker_transport_options=confirmed, worker_prefetch_multiplier=1)
        worker = own.worker("threads")
        worker.wait_ready()
        for number in range(8):
            own.send("nap", number, 1)
        worker.wait_for_log(r"nap\[\S+\] received", count=4)
        node.kill()
        node.start()
        wait_until(lambda: len(own.orders()) == 8, what="all tasks", seconds=40)
        assert worker.terminate() == 0


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
    assert alone.orders() == {"own": 1}
    assert worker.terminate() == 0
    assert not COMPLAINTS.search(worker.text), worker.text


def test_doctor_finds_another_deployment_that_consumes_our_queue(
    shop: Callable[..., Shop], redis: LocalServer
) -> None:
    ours, theirs = shop(redis.uri), shop(redis.uri)
    for name, one in (("w1", ours), ("w2", theirs)):
        one.worker("solo", name=name, concurrency=1).wait_ready().wait_for_log("client.warm")

    def found() -> list[dict[str, Any]]:
        told = json.loads(ours.celery("mongo", "doctor", "--json").stdout)["findings"]
        return [finding for finding in told if finding["id"] == "queue-shared"]

    wait_until(found, what="the other deployment", seconds=60)
    (finding,) = found()
    assert str(theirs.env["CELERY_PYMONGO_DEPLOYMENT"]) in finding["title"]
    assert finding["where"] == ["mongo.data", "mongo.health", "mongo.ops", "shop"]
