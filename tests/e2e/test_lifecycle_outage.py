"""MongoDB is away at the start, in the middle, or answers with errors: workers stay and tasks end well."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from pymongo import MongoClient

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import Node, Site
from tests.e2e.workers import wait_until

ALIVE_SECONDS = 2
"""Celery kills a replacement child that has not reported by then (its default is 4)."""

SETTINGS = {
    "MONGODB_HEARTBEAT_FREQUENCY_MS": "500",
    "CELERY_PYMONGO_BACKOFF_BASE_SECONDS": "0.2",
    "CELERY_PYMONGO_BACKOFF_CAP_SECONDS": "1",
}


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


@pytest.fixture(scope="module")
def node(site: Site) -> Iterator[Node]:
    """A prefork worker that starts while MongoDB is away; the tests share it, in their order."""
    site.mongo.kill()
    env = SETTINGS | {"MONGODB_URI": site.mongo.uri}
    with site.node("fork", env=env, worker_proc_alive_timeout=ALIVE_SECONDS) as node:
        yield node


@pytest.fixture
def server(site: Site) -> Iterator[MongoClient[dict[str, Any]]]:
    """A client of the test's own; fail points end with it."""
    with MongoClient[dict[str, Any]](site.mongo.uri) as client:
        yield client
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def test_a_worker_starts_while_mongodb_is_away(node: Node) -> None:
    node.worker.wait_ready()
    node.worker.wait_for_log(r"circuit\.opened:", count=2)
    assert "Traceback" not in node.worker.text


def test_a_replacement_child_is_not_killed_for_being_slow_while_mongodb_is_away(node: Node) -> None:
    """Its start waits for nobody: I/O there would pass at boot and end every replacement after it."""
    before = node.pids()
    os.kill(min(before), signal.SIGKILL)
    wait_until(lambda: len(node.pids()) == 2 and node.pids() - before, what="a replacement")
    (replacement,) = node.pids() - before
    born = psutil.Process(replacement).create_time()
    wait_until(lambda: time.time() - born > ALIVE_SECONDS + 1, what="the end of its grace")
    assert replacement in node.pids()
    node.worker.wait_for_log(r"circuit\.opened:", count=3)


def test_each_process_says_once_that_mongodb_is_away_and_once_that_it_is_back(node: Node, site: Site) -> None:
    site.mongo.start()
    node.worker.wait_for_log(r"circuit\.closed:", count=2)
    assert node.worker.text.count("circuit.opened") == 3  # one of them died
    seconds = [float(text) for text in re.findall(r"answers again after ([\d.]+) s", node.worker.text)]
    assert len(seconds) == 2
    assert max(seconds) > ALIVE_SECONDS  # it is logged to a tenth of a second
    assert node.run("write", 0) == 0


@pytest.mark.parametrize("task", ["write", "write_early"])
def test_every_task_of_an_outage_ends_well_and_spends_no_retry(
    node: Node, site: Site, server: MongoClient[dict[str, Any]], task: str
) -> None:
    """On a queue that is not gated: the gate has tests of its own."""
    server.app.lifecycle.drop()
    opened, retried = (node.worker.text.count(event) for event in ("circuit.opened", "task.retry"))
    results = [node.send(task, key) for key in range(80)]
    wait_until(lambda: any(result.ready() for result in results), what="the first task's end")
    site.mongo.kill()
    # The others may have been done before that.
    results += [node.send(task, key) for key in range(80, 100)]
    node.worker.wait_for_log(rf"task\.requeued: .*\.{task}\[")
    site.mongo.start()
    assert [result.get(timeout=30) for result in results] == list(range(100))
    assert [row["_id"] for row in server.app.lifecycle.find().sort("_id")] == list(range(100))
    text = node.worker.text
    assert text.count("circuit.opened") == opened + 2
    assert text.count("task.retry") == retried
    assert "Traceback" not in text


def test_nothing_spins_while_mongodb_is_away(node: Node, site: Site) -> None:
    """A task that goes back keeps its slot for about a second: two processes, so two a second."""
    site.mongo.kill()
    before = node.worker.text.count("task.requeued")
    result = node.send("write", 1)
    node.worker.wait_for_log(r"task\.requeued: ", count=before + 1)
    before, began = before + 1, time.monotonic()
    wait_until(lambda: time.monotonic() - began > 4, what="4 s without MongoDB")
    requeued = node.worker.text.count("task.requeued") - before
    assert 1 <= requeued <= 2 * (time.monotonic() - began + 1)
    site.mongo.start()
    assert result.get(timeout=30) == 1


def test_a_message_that_expires_in_an_outage_is_counted(node: Node, site: Site) -> None:
    site.mongo.kill()
    result = node.send("write", 1, expires=2)
    node.worker.wait_for_log(r"task\.expired: .*write: its expires passed before it could run; 1 of")
    site.mongo.start()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=10)


@pytest.mark.parametrize(
    ("failure", "pattern"),
    [
        ({"errorCode": 10107}, r"task\.retry: .*write.* met failover"),
        ({"closeConnection": True}, r"task\.retry: .*write.* met outage"),
    ],
    ids=["not primary", "connection closed"],
)
def test_a_task_that_meets_more_errors_than_the_driver_retries_runs_again(
    node: Node, server: MongoClient[dict[str, Any]], failure: dict[str, Any], pattern: str
) -> None:
    before = len(re.findall(pattern, node.worker.text))
    point = {"configureFailPoint": "failCommand", "data": {"failCommands": ["update"], **failure}}
    # Of a few failures the driver would be through at once: mongod says that they are of an old topology.
    server.admin.command({**point, "mode": "alwaysOn"})
    try:
        result: AsyncResult = node.send("write", 7)
        node.worker.wait_for_log(pattern, count=before + 1)
    finally:
        server.admin.command({**point, "mode": "off"})
    assert result.get(timeout=30) == 7
