"""A MongoDB that hangs under a fleet: what it is called everywhere, and what becomes of the tasks."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from ops.local.servers import LocalServer
from tests.e2e.apps.service import beat, environment, producer, service
from tests.e2e.operator import Operator
from tests.e2e.workers import Worker, wait_until

pytestmark = pytest.mark.timeout(300)

QUEUE = "mongo.data"
PROCESSES = {"prefork": 3, "gevent": 1}
TASKS = 30
SECONDS = 60.0
SETTINGS = {
    "CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS": "2",
    "CELERY_PYMONGO_SNAPSHOT_INTERVAL_SECONDS": "2",
    # Far away: what ends before was interrupted. Below the task's time limit, which would be a deadline else.
    "MONGODB_SOCKET_TIMEOUT_MS": "120000",
    "MONGODB_CONNECT_TIMEOUT_MS": "120000",
}
SENTENCE = "MongoDB hangs: no answer for "


class Fleet:
    """One node of a kind of pool, its beat, and an operator."""

    def __init__(self, worker: Worker, app: Celery, operator: Operator, processes: int) -> None:
        self.worker, self.app, self.operator, self.processes = worker, app, operator, processes

    def send(self, numbers: range) -> list[Any]:
        return [self.app.send_task("probe.upsert", (number,), queue=QUEUE) for number in numbers]

    def count(self, pattern: str) -> int:
        return len(re.findall(pattern, self.worker.text))


@pytest.fixture(params=PROCESSES)
def fleet(
    request: pytest.FixtureRequest, mongo: LocalServer, redis: LocalServer, tmp_path: Path
) -> Iterator[Fleet]:
    pool: str = request.param
    env = environment(
        mongo.uri, redis.uri, CELERY_PYMONGO_DEPLOYMENT=f"hang-{pool}-{os.getpid()}", **SETTINGS
    )
    queues = (QUEUE, "mongo.health", "mongo.ops")
    with ExitStack() as stack:
        worker = service(env, tmp_path, pool=pool, concurrency=3, queues=queues)
        stack.enter_context(worker).wait_ready()
        worker.wait_for_log("client.warm", count=PROCESSES[pool])
        stack.enter_context(beat(env, tmp_path))
        app = stack.enter_context(producer(env))
        operator = Operator({name: value for name, value in env.items() if value is not None})
        yield Fleet(worker, app, operator, PROCESSES[pool])


def test_a_server_that_hangs_is_called_so_by_all_and_costs_no_task_and_no_retry(
    fleet: Fleet, mongo: LocalServer
) -> None:
    worker, operator = fleet.worker, fleet.operator
    done = fleet.send(range(TASKS))
    assert [result.get(timeout=SECONDS) for result in done] == list(range(TASKS))
    hung_at = time.time()
    mongo.suspend()
    try:
        done = fleet.send(range(TASKS, 2 * TASKS))
        # Idle processes, too; and those whose operation waits for the server.
        worker.wait_for_log(r"circuit\.opened: .*hung: no answer for", count=fleet.processes, seconds=SECONDS)
        opened_at = time.time()
        worker.wait_for_log(r"gate\.closed: ", seconds=SECONDS)
        worker.wait_for_log(r"task\.requeued: ", seconds=SECONDS)
        assert_all_call_it_so(fleet)
    finally:
        mongo.resume()
    resumed_at = time.time()
    assert [result.get(timeout=SECONDS) for result in done] == list(range(TASKS, 2 * TASKS))
    assert fleet.count(r"task\.retry|raised unexpected|_OperationCancelled") == 0
    assert fleet.count(r"circuit\.opened: ") == fleet.processes
    wait_until(lambda: outage(operator)["until"], what="the outage's end in the history", seconds=SECONDS)
    told = outage(operator)
    assert told["kind"] == "outage"
    # Since the last answer: on an idle process that was up to a heartbeat before.
    assert hung_at - 10 < told["since"] < opened_at
    assert told["until"] > resumed_at - 0.1
    wait_until(
        lambda: operator.run("doctor").returncode == 0, what="a doctor who is content", seconds=SECONDS
    )
    assert {one["id"] for one in operator.json("doctor")["findings"]} <= {"outage-over"}


def assert_all_call_it_so(fleet: Fleet) -> None:
    status = fleet.operator.json("status", code=2)
    assert status["verdict"] == "down"
    assert status["reasons"][0].startswith(SENTENCE)
    assert {row["verdict"] for row in status["nodes"]["rows"].values()} == {"down"}
    doctor = fleet.operator.json("doctor", code=2)
    assert (doctor["findings"][0]["id"], doctor["verdict"]) == ("mongodb-hangs", "down")
    assert doctor["findings"][0]["title"].startswith(SENTENCE)
    (reply,) = fleet.app.control.broadcast("mongo_health", reply=True, limit=1, timeout=5.0)
    (node,) = reply.values()
    assert (node["verdict"], node["reasons"][0].startswith(SENTENCE)) == ("down", True)
    fleet.worker.wait_for_log(rf"health\.changed: \w+ -> down \({SENTENCE}", seconds=SECONDS)


def outage(operator: Operator) -> dict[str, Any]:
    """Return the newest outage of the history."""
    spans: list[dict[str, Any]] = operator.json("history", "--since", "5m")["spans"]
    return [span for span in spans if span["kind"] in ("outage", "partial")][-1]
