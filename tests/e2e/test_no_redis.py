"""RabbitMQ alone: no REDIS_URL, no result backend, and so no view of the fleet."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from ops.local.servers import LocalServer
from tests.e2e.shops import Shop
from tests.e2e.workers import wait_until

SOON = {
    "CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS": "2",
    "CELERY_PYMONGO_GATED_QUEUES": "shop",
    "MONGODB_HEARTBEAT_FREQUENCY_MS": "500",
}
NO_REDIS = "no Redis is named"


def test_tasks_run_and_a_worker_says_once_what_it_is_without(
    shop: Callable[..., Shop], rabbit: str, mongo: LocalServer
) -> None:
    alone = shop(rabbit, has_redis=False)
    alone.env |= SOON
    beat = alone.beat()
    worker = alone.worker("prefork", loglevel="DEBUG")
    worker.wait_ready()
    alone.send("charge", "once")
    alone.send("save", 1)
    worker.wait_for_log(r"Task mongo\.health\.check\[\S+\] succeeded", count=2)
    wait_until(lambda: alone.orders() == {1: 1}, what="the order")
    worker.wait_for_log("NeedsRedisError")

    (said,) = re.findall(r"registry\.\w+: .*", worker.text)
    assert said.startswith(f"registry.none: {NO_REDIS}")
    assert said.endswith("what must not run twice fails: tests.e2e.apps.brokers.charge")
    told = alone.celery("mongo", "processes")
    assert (told.returncode, told.stdout) == (3, "")
    assert told.stderr.startswith(f"mongo: {NO_REDIS}: ")
    assert told.stderr.count("\n") == 1
    status = json.loads(alone.celery("mongo", "status", "--json").stdout)
    assert (status["verdict"], status["mongodb"]["verdict"]) == ("unknown", "ok")
    assert status["unseen"]["Redis"] == NO_REDIS

    mongo.kill()
    try:
        worker.wait_for_log("gate.closed: shop")
        alone.send("save", 2)
        assert alone.celery("inspect", "mongo_health").returncode == 0
    finally:
        mongo.start()
    wait_until(lambda: alone.orders() == {1: 1, 2: 1}, what="the order of the outage", seconds=20)

    assert worker.terminate() == 0
    assert beat.terminate() == 0
    assert not re.search(r"CRITICAL|reporter\.error", worker.text + beat.text), worker.text
