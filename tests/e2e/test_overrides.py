"""What a task's classes override, and its hooks, beside an outage and the end of a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import MODULE, Node, Site, kinds

TASKS = ("begun", "returning", "within")


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


@pytest.fixture(scope="module", params=kinds("fork", full=["threads", "gevent"]))
def node(request: pytest.FixtureRequest, site: Site) -> Iterator[Node]:
    environment = {"MONGODB_URI": site.mongo.uri, "MONGODB_HEARTBEAT_FREQUENCY_MS": "500"}
    with site.node(request.param, env=environment) as node:
        node.worker.wait_ready()
        node.wait_warm()
        yield node


def test_whatever_a_class_overrides_its_tasks_wait_an_outage_out(node: Node, site: Site) -> None:
    site.mongo.kill()
    results = [node.send(task) for task in TASKS]
    for result in results:
        node.worker.wait_for_log(rf"task\.requeued: .*{result.id}")
    site.mongo.start()
    assert [result.get(timeout=60) for result in results] == [result.id for result in results]


def test_a_hook_that_meets_an_outage_is_logged_and_the_task_is_done(node: Node, site: Site) -> None:
    """It is not called again: what must happen belongs into the body."""
    node.send("ending", "well", 2.0)
    node.worker.wait_for_log("ending.* received")
    site.mongo.kill()
    node.worker.wait_for_log(
        r"task\.hook_failed: on_success of \S+ raised ServerSelectionTimeoutError", seconds=60
    )
    site.mongo.start()
    assert node.run("write", 1) == 1
    assert node.worker.text.count("ending by well") == 1


@pytest.mark.parametrize("node", ["fork"], indirect=True)
def test_a_hook_that_ends_its_process_is_poison_after_three(node: Node) -> None:
    """The body came to its end each time; Celery would run it for ever."""
    result = node.send("ending", "by force")
    node.worker.wait_for_log(rf"task\.dead: {MODULE}\.ending\[{result.id}\]", seconds=60)
    assert node.worker.text.count("ending by by force") == 3
