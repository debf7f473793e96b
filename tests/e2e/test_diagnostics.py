"""Diagnostics asked of real workers, by the names and routes that anybody who sends tasks can use."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.local.servers import LocalServer
from tests.e2e.apps.service import call, environment, producer, service

THREADS = 8


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads", "gevent"])
def test_a_worker_of_any_kind_answers(
    mongo: LocalServer, redis: LocalServer, tmp_path: Path, pool: str
) -> None:
    """A trial's threads are greenlets under gevent, and as concurrent as anywhere."""
    env = environment(mongo.uri, redis.uri, CELERY_PYMONGO_DEPLOYMENT=pool)
    with service(env, tmp_path, pool=pool, concurrency=2) as worker, producer(env) as app:
        worker.wait_ready()
        found = call(app, "mongo.ops.concurrency", THREADS, 25)
        pinged = call(app, "mongo.ops.ping", 5)
        flown = call(app, "mongo.ops.flight")
        fleet = call(app, "mongo.ops.snapshot")
    assert (found["done"], found["errors"]) == (THREADS * 25, {})
    assert found["in_flight"] > THREADS / 4
    assert found["node"] == pinged["node"] == flown["node"] == worker.hostname
    assert pinged["done"] == 5
    assert flown["flight"]
    assert worker.hostname in fleet["nodes"]["rows"]
