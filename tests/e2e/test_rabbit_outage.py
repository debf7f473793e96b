"""An outage of MongoDB on RabbitMQ, with a gated queue, whose worker is killed in the middle of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ops.local.servers import LocalServer
from tests.e2e.shops import Shop
from tests.e2e.site import kinds
from tests.e2e.workers import wait_until

TASKS = 20
SOON = {
    "MONGODB_HEARTBEAT_FREQUENCY_MS": "500",
    "MONGODB_SERVER_SELECTION_TIMEOUT_MS": "1000",
    "CELERY_PYMONGO_GATED_QUEUES": "shop",
}
QUEUES: dict[str, dict[str, Any]] = {
    "classic": {},
    "quorum": {"x-queue-type": "quorum", "x-delivery-limit": 2},
}


@pytest.mark.parametrize("kind", kinds("quorum", full=list(QUEUES)))
def test_nothing_is_lost_with_a_worker_that_is_killed_in_an_outage(
    kind: str, shop: Callable[..., Shop], rabbit: str, mongo: LocalServer
) -> None:
    queues = {"shop": {"exchange": "shop", "routing_key": "shop", "queue_arguments": QUEUES[kind]}}
    site = shop(rabbit, task_queues=queues, worker_prefetch_multiplier=1)
    site.env |= SOON
    worker = site.worker("prefork", concurrency=4)
    worker.wait_ready()
    # These are in the middle of it when MongoDB goes.
    naps = [site.send("nap", number, 1) for number in range(4)]
    worker.wait_for_log(r"Task \S+nap\[\S+\] received", count=4)
    mongo.kill()
    try:
        worker.wait_for_log("gate.closed: shop: no process of this node reaches MongoDB")
        saves = [site.send("save", number) for number in range(4, TASKS)]

        def told() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(site.celery("mongo", "status", "--json").stdout)["queues"]
            return dict(found["shop"])

        wait_until(
            lambda: told() == {"depth": TASKS, "age": None, "gate": "outage"}, what="all to wait", seconds=30
        )
        worker.close()
        other = site.worker("prefork", name="w2", concurrency=4)
        other.wait_ready()
    finally:
        mongo.start()
    assert [result.get(timeout=60) for result in (*naps, *saves)] == list(range(TASKS))
    assert site.orders() == dict.fromkeys(range(TASKS), 1)
    assert other.terminate() == 0
