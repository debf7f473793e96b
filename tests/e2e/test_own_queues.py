"""Our queues on an app that has its own way to declare queues: beat sends, a worker consumes, people call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kombu.connection import Connection

from ops.local.servers import LocalServer
from tests.e2e.shops import Shop

HEALTH = r"Task mongo\.health\.check\[\S+\] succeeded"
JOBS: dict[str, Any] = {"jobs": {"exchange": "jobs", "routing_key": "jobs"}}
SOON = {"CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS": "2"}


@pytest.mark.parametrize("setting", ["task_create_missing_queue_type", "task_default_queue_type"])
def test_quorum_queues_are_declared_as_such_by_whoever_comes_first(
    setting: str, shop: Callable[..., Shop], rabbit: str
) -> None:
    quorum = shop(rabbit, **{setting: "quorum"})
    quorum.env |= SOON
    quorum.beat().wait_for_log(r"mongo\.health\.check sent")
    worker = quorum.worker("solo", loglevel="DEBUG")
    worker.wait_for_log(HEALTH, count=2)
    with Connection(rabbit) as connection:
        # A broker refuses another type: this is the type that it has.
        channel = connection.channel()
        for name in ("mongo.health", "mongo.data", "mongo.ops"):
            channel.queue_declare(name, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
    assert worker.terminate() == 0
    assert "PRECONDITION_FAILED" not in worker.text


def test_queues_that_may_not_be_created_are_known_to_beat_workers_and_people(
    shop: Callable[..., Shop], redis: LocalServer
) -> None:
    strict = shop(redis.uri, task_create_missing_queues=False, task_default_queue="jobs", task_queues=JOBS)
    strict.env |= SOON
    beat = strict.beat()
    worker = strict.worker("solo", loglevel="DEBUG")
    worker.wait_for_log(HEALTH, count=2)
    called = strict.celery("call", "mongo.health.check")
    assert called.returncode == 0, called.stderr
    assert "missing from task_queues" not in beat.text
    assert worker.terminate() == 0
