"""An outage of MongoDB on quorum queues of RabbitMQ, which drop a message that goes back too often."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from kombu.connection import Connection

from ops.local.servers import LocalServer
from tests.e2e.shops import Shop
from tests.e2e.site import kinds
from tests.e2e.workers import Worker, wait_until

LIMIT = 1
TASKS = 8
POOLS = ("prefork", "threads", "solo", "gevent")
SOON = {"MONGODB_HEARTBEAT_FREQUENCY_MS": "500", "MONGODB_SERVER_SELECTION_TIMEOUT_MS": "1000"}


def queues(**arguments: Any) -> dict[str, Any]:
    """Celery's task_queues: one quorum queue."""
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": LIMIT, **arguments}
    return {"shop": {"exchange": "shop", "routing_key": "shop", "queue_arguments": arguments}}


def returns(worker: Worker) -> Counter[str]:
    """Return how often each task went back."""
    return Counter(re.findall(r"task\.requeued: \S+\[(\S+)\] goes back", worker.text))


def waiting(broker: str) -> int:
    with Connection(broker) as connection:
        count: int = connection.channel().queue_declare("shop", passive=True).message_count
    return count


@pytest.mark.parametrize("pool", kinds("prefork", full=POOLS))
def test_no_task_is_lost_however_often_it_goes_back(
    pool: str, shop: Callable[..., Shop], rabbit: str, mongo: LocalServer
) -> None:
    quorum = shop(rabbit, task_queues=queues(), worker_prefetch_multiplier=1)
    quorum.env |= SOON
    worker = quorum.worker(pool, concurrency=4)
    worker.wait_ready()
    assert quorum.send("save", "before").get(timeout=30) == "before"
    mongo.kill()
    try:
        sent = [quorum.send("save", number) for number in range(TASKS)]
        often = LIMIT + 2

        def all_went_back() -> bool:
            counts = returns(worker)
            return len(counts) == TASKS and min(counts.values()) >= often

        wait_until(all_went_back, what=f"each of {TASKS} tasks to go back {often} times", seconds=90)
    finally:
        mongo.start()
    assert sorted(result.get(timeout=60) for result in sent) == list(range(TASKS))
    assert quorum.orders() == dict.fromkeys(["before", *range(TASKS)], 1)
    assert worker.terminate() == 0
    assert waiting(rabbit) == 0
