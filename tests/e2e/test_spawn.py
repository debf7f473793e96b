"""A spawned child shares no memory with MAIN, and yet is set up like a forked one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import Node, Site

DSN = "http://key@127.0.0.1:9/1"
"""Nothing listens there: only the set-up is looked at."""


@pytest.fixture(scope="module", params=["fork", "spawn"])
def node(
    request: pytest.FixtureRequest,
    mongo: LocalServer,
    redis: LocalServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Node]:
    env = {"SENTRY_DSN": DSN, "CELERY_PYMONGO_LOG_FORMAT": "json"}
    with WatchingProxy(mongo.uri) as proxy:
        site = Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))
        with site.node(request.param, env=env) as node:
            node.worker.wait_ready()
            node.wait_warm()
            yield node


def test_tasks_and_signals_of_a_child_meet_the_same_client(node: Node) -> None:
    """In a spawned child the app arrives pickled, and its module makes another."""
    report = node.run("place")
    assert report["is_one"]
    assert report["pid"] in node.pids()
    assert report["node"] == node.worker.hostname
    assert report["slot"] in (0, 1)


def test_sentry_is_set_up_before_tasks_and_knows_the_node(node: Node) -> None:
    tags = node.run("place")["tags"]
    assert tags["celery.node"] == node.worker.hostname
    assert tags["celery_pymongo.deployment"] == node.deployment


def test_children_write_json_and_are_quiet_about_the_schedule(node: Node) -> None:
    pid = node.run("place")["pid"]
    node.sender.send_task("mongo.health.check", queue="mongo.health").get(timeout=20)
    node.run("place")
    node.worker.wait_for_log("lifecycle.place.* succeeded", count=2)
    lines = [json.loads(line) for line in node.worker.text.splitlines() if line.startswith("{")]
    children = [line for line in lines if line["pid"] in node.pids()]
    assert pid in {line["pid"] for line in children}
    # billiard says one line of its own before Celery sets up a spawned child's log.
    others = [line for line in node.worker.text.splitlines() if "PoolWorker" in line]
    assert not [line for line in others if "calling self.run()" not in line]
    assert not [line for line in lines if "mongo.health.check" in line["message"]]
