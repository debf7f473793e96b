"""Gated queues wait in the broker while MongoDB is away or an operator says so, and no task fails of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult
from pymongo import MongoClient

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import MODULE, QUEUE, Node, Site, kinds
from tests.e2e.workers import wait_until

KINDS = ("fork", "threads", "gevent", "solo")
FREE = "mongo.health"
"""The queue beside the gated one that the workers of these tests consume."""

TASKS = 30
SETTINGS = {
    "CELERY_PYMONGO_GATED_QUEUES": QUEUE,
    "MONGODB_HEARTBEAT_FREQUENCY_MS": "500",
    "MONGODB_SERVER_SELECTION_TIMEOUT_MS": "1500",
}
CLOSED, OPENED = r"gate\.closed: ", r"gate\.opened: "


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


@pytest.fixture(scope="module", params=kinds("fork", "gevent", full=KINDS))
def node(request: pytest.FixtureRequest, site: Site) -> Iterator[Node]:
    """A worker of each kind that has reached MongoDB; the tests below share it, in their order."""
    with site.node(request.param, env=SETTINGS | {"MONGODB_URI": site.mongo.uri}) as node:
        node.worker.wait_ready()
        node.wait_warm()
        wait_until(lambda: answers(node, "ping"), what="an answer to a ping")
        yield node


def answers(node: Node, command: str, *, to_all: bool = False, **arguments: Any) -> Any:
    """Return the node's reply to a remote control command, which names it or nobody; None where it did not
    hear it.
    """
    options: dict[str, Any] = {
        "destination": None if to_all else [node.worker.hostname],
        "reply": True,
        "limit": 1,
        "timeout": 3.0,
    }
    # A connection of its own: one of the sender's pool may be from before Redis was killed.
    with node.sender.connection_for_write() as connection:
        options["connection"] = connection
        replies = node.sender.control.broadcast(command, arguments=arguments, **options)
    return replies[0][node.worker.hostname] if replies else None


def count(node: Node, pattern: str) -> int:
    return len(re.findall(pattern, node.worker.text))


def write(node: Node, keys: range) -> list[AsyncResult]:
    return [node.send("write", key) for key in keys]


def answer_beside(node: Node) -> None:
    """Hold that a task of another queue is run now."""
    result = node.sender.send_task(f"{MODULE}.sleep", (0,), queue=FREE)
    assert result.get(timeout=15) > 0


def documents(site: Site) -> list[int]:
    with MongoClient[dict[str, Any]](site.mongo.uri) as client:
        return [row["_id"] for row in client.app.lifecycle.find().sort("_id")]


def forget(site: Site) -> None:
    with MongoClient[dict[str, Any]](site.mongo.uri) as client:
        client.app.lifecycle.drop()


def assert_all_is_there(node: Node, site: Site, results: list[AsyncResult]) -> None:
    assert [result.get(timeout=60) for result in results] == list(range(len(results)))
    assert documents(site) == list(range(len(results)))
    assert count(node, r"raised unexpected") == 0


def test_no_task_fails_of_an_outage_and_another_queue_is_answered_meanwhile(node: Node, site: Site) -> None:
    forget(site)
    site.mongo.suspend()
    results = write(node, range(TASKS))
    node.worker.wait_for_log(r"Task \S+\.write\[\S+\] received")
    site.mongo.kill()
    node.worker.wait_for_log(CLOSED)
    results += write(node, range(TASKS, 2 * TASKS))
    answer_beside(node)
    went = time.monotonic()
    wait_until(lambda: time.monotonic() - went > 3, what="3 s without MongoDB")
    answer_beside(node)
    assert not all(result.ready() for result in results)
    site.mongo.start()
    back = time.monotonic()
    node.worker.wait_for_log(OPENED)
    assert time.monotonic() - back < 15
    assert_all_is_there(node, site, results)
    assert (count(node, CLOSED), count(node, OPENED)) == (1, 1)


def test_the_gate_stays_closed_while_the_broker_restarts(node: Node, site: Site) -> None:
    forget(site)
    closed, opened = count(node, CLOSED), count(node, OPENED)
    site.mongo.kill()
    node.worker.wait_for_log(CLOSED, count=closed + 1)
    site.redis.kill()
    connected = count(node, r"Connected to redis")
    site.redis.start()
    node.worker.wait_for_log(r"Connected to redis", count=connected + 1)
    results = write(node, range(TASKS))
    answer_beside(node)
    assert not any(result.ready() for result in results)
    site.mongo.start()
    assert_all_is_there(node, site, results)
    assert (count(node, CLOSED), count(node, OPENED)) == (closed + 1, opened + 1)


def test_an_operator_pauses_and_resumes(node: Node, site: Site) -> None:
    forget(site)
    closed = count(node, CLOSED)
    assert "paused" in answers(node, "mongo_pause")["ok"]
    node.worker.wait_for_log(CLOSED, count=closed + 1)
    results = write(node, range(3))
    answer_beside(node)
    assert answers(node, "mongo_health")["gate"][QUEUE]["why"] == "operator"
    wait_until(
        lambda: any(
            (row["report"] or {}).get("gate") == {QUEUE: "operator"}
            for row in answers(node, "mongo_pools")["slots"]
        ),
        what="a report that names the paused queue",
    )
    # A gevent worker asked Redis for one message more before the queue was paused, and takes it.
    assert sum(result.ready() for result in results) <= (node.kind == "gevent")
    assert "resumed" in answers(node, "mongo_resume", queue=QUEUE)["ok"]
    assert_all_is_there(node, site, results)


def test_each_process_opens_a_new_client_when_it_is_asked_to(node: Node, site: Site) -> None:
    """Under load: what runs meanwhile ends as it would have, or runs again."""
    forget(site)
    replaced = count(node, r"client\.replaced: .*asked for")
    results = write(node, range(TASKS))
    answer = answers(node, "mongo_reconnect", replace=True)
    processes = 2 if node.is_prefork else 1
    assert answer["ok"].startswith(f"asked {processes} process")
    node.worker.wait_for_log(r"client\.replaced: .*asked for", count=replaced + processes, seconds=10)
    assert_all_is_there(node, site, results)
    assert count(node, r"circuit\.opened") == 2 * processes  # those of the two outages above


@pytest.mark.parametrize("kind", kinds("fork", full=KINDS))
def test_a_pause_outlives_the_worker_and_holds_for_one_of_another_name(site: Site, kind: str) -> None:
    forget(site)
    env = SETTINGS | {"CELERY_PYMONGO_DEPLOYMENT": f"restart-{kind}"}
    with site.node(kind, env=env) as first:
        first.worker.wait_ready()
        wait_until(lambda: answers(first, "ping"), what="an answer to a ping")
        answers(first, "mongo_pause", to_all=True)
        first.worker.wait_for_log(CLOSED)
        wait_until(lambda: stored(first), what="the pause in Redis")
        first.worker.terminate()
    results = write(first, range(3))
    with site.node(kind, env=env, name="w2") as second:
        second.worker.wait_ready()
        second.worker.wait_for_log(CLOSED)
        answer_beside(second)
        wait_until(lambda: answers(second, "mongo_health"), what="an answer")
        assert not any(result.ready() for result in results)
        assert documents(site) == []
        answers(second, "mongo_resume", to_all=True)
        assert_all_is_there(second, site, results)


def stored(node: Node) -> bool:
    backend: Any = node.sender.backend
    keys = [key.decode() for key in backend.client.keys("*document:paused*")]
    mine = [key for key in keys if f":{node.sender.conf.redbeat_key_prefix.split(':')[1]}:" in key]
    return any(b"true" in backend.client.get(key) for key in mine)
