"""A spawned child shares no memory with MAIN, and yet is set up like a forked one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import Node, Site
from tests.e2e.workers import Worker

DSN = "http://key@127.0.0.1:9/1"
"""Nothing listens there: only the set-up is looked at."""


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


@pytest.fixture(scope="module", params=["fork", "spawn"])
def node(request: pytest.FixtureRequest, site: Site) -> Iterator[Node]:
    with site.node(request.param, env={"SENTRY_DSN": DSN}) as node:
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


@pytest.mark.parametrize("kind", ["fork", "spawn"])
def test_the_service_s_children_write_json_and_are_quiet_about_the_schedule(
    site: Site, tmp_path: Path, kind: str
) -> None:
    """They import none of the modules that set up MAIN's log."""
    alone = {"CELERY_PYMONGO_INCLUDE": None, "CELERY_PYMONGO_LOG_FORMAT": "json"}
    env = site.environment(kind, deployment=f"json-{kind}") | alone
    with Worker("worker", tmp_path / "json.log", env=env, options=["--without-mingle"]) as worker:
        worker.wait_ready()
        # The member, since a line's message names the event too.
        worker.wait_for_log('"event": "client.warm"', count=2)
        sender = site.sender(env)
        for task in ("mongo.health.check", "mongo.reconnect.run"):
            sender.send_task(task, queue="mongo.health").get(timeout=20)
        worker.wait_for_log("mongo.reconnect.run.* succeeded")
        lines = [json.loads(line) for line in worker.text.splitlines() if line.startswith("{")]
        # By text: billiard prints a plain line per child, onto which a process may write its JSON.
        assert {int(pid) for pid in re.findall(r'"pid": (\d+)', worker.text)} >= set(worker.children())
        assert not [line for line in lines if "mongo.health.check" in line["message"]]
        # billiard says one line of its own before Celery sets up a spawned child's log.
        others = [line for line in worker.text.splitlines() if "PoolWorker" in line]
        assert not [line for line in others if "calling self.run()" not in line]
