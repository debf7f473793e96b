"""The diagnostics tasks against a real server: what they tell, that they never write, and when they end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from celery import Celery

from ops.local.servers import LocalServer
from worker.integration.install import install
from worker.settings.fields import load_settings
from worker.tracking.work import Works

POOL = 2


@pytest.fixture
def app(mongo: LocalServer) -> Iterator[Celery]:
    app = Celery("diagnostics", broker="memory://", backend="cache+memory://", set_as_current=False)
    environment = {
        "MONGODB_URI": mongo.uri,
        "MONGODB_DATABASE": "diagnostics",
        "MONGODB_MAX_POOL_SIZE": str(POOL),
        "MONGODB_MIN_POOL_SIZE": "1",
    }
    install(app, load_settings(environment, env_file=None))
    yield app
    app.mongo.close()
    app.close()


def run(app: Celery, name: str, *args: Any, **options: Any) -> dict[str, Any]:
    """Run the task here; its result has to be JSON."""
    result = app.tasks[f"mongo.ops.{name}"](*args, **options)
    told: dict[str, Any] = json.loads(json.dumps(result))
    return told


def test_ping_tells_the_round_trips(app: Celery) -> None:
    told = run(app, "ping", 20)
    latency = told["latency_ms"]
    assert (told["asked"], told["done"], latency["n"], told["errors"]) == (20, 20, 20, {})
    assert 0 < latency["min"] <= latency["p50"] <= latency["p99"] < 5000
    assert told["circuit"] == "closed"
    assert told["wait_ms"]["n"] >= 20


@pytest.mark.parametrize("collection", [None, "not.there"])
def test_concurrency_runs_every_query_and_writes_nothing(
    app: Celery, mongo_client: pymongo.MongoClient[dict[str, Any]], collection: str | None
) -> None:
    told = run(app, "concurrency", 8, 50, collection=collection)
    assert (told["threads"], told["asked"], told["done"], told["errors"]) == (8, 400, 400, {})
    assert told["latency_ms"]["p99"] >= told["latency_ms"]["p50"] > 0
    assert mongo_client["diagnostics"].list_collection_names() == []


def test_more_threads_than_connections_share_them(app: Celery) -> None:
    """Eight at a time through two connections: the waits are in the latencies, the pool keeps its maximum."""
    told = run(app, "concurrency", 8, 50)
    (gauges,) = told["servers"].values()
    assert gauges["size"] <= POOL
    assert gauges["in_use"] == gauges["waiting"] == 0
    assert told["in_flight"] > POOL
    assert told["wait_ms"]["p99"] >= told["wait_ms"]["avg"] > 0
    assert 1 <= told["meanwhile"]["created"] <= POOL


def test_what_a_trial_holds_has_the_name_of_its_task(app: Celery) -> None:
    works = Works()
    works.begin("mongo.ops.concurrency", "1")
    try:
        run(app, "concurrency", 4, 25)
    finally:
        works.end("1")
    assert app.mongo.monitor.tasks["mongo.ops.concurrency"].checkouts == 100


def test_flight_tells_the_last_events_of_this_process(app: Celery) -> None:
    run(app, "ping", 1)
    told = run(app, "flight")
    assert "connection.created" in {event["kind"] for event in told["flight"]}
    assert told["pid"] == os.getpid()


@pytest.mark.parametrize("fault", ["kill", "suspend"])
def test_without_mongodb_a_trial_ends_in_time_with_its_errors_counted(
    app: Celery, mongo: LocalServer, fault: str
) -> None:
    run(app, "ping", 1)
    getattr(mongo, fault)()
    try:
        started = time.monotonic()
        told = run(app, "concurrency", 4, 1000, seconds=4)
        took = time.monotonic() - started
    finally:
        mongo.resume()
        mongo.start()
    assert took < 5
    assert told["done"] == 0
    assert 4 <= sum(told["errors"].values()) <= 12
    # Where the server hangs, some may have waited for the connections of the others.
    assert {"outage"} <= set(told["errors"]) <= {"outage", "exhausted pool"}


def test_a_trial_in_a_broken_outage_ends_well(app: Celery, mongo: LocalServer) -> None:
    """The same client goes on: a diagnosis leaves nothing behind that would need mending."""
    mongo.kill()
    run(app, "ping", 2, seconds=4)
    mongo.start()
    told = run(app, "ping", 20)
    assert (told["done"], told["errors"]) == (20, {})
