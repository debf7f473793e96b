"""What a task raises ends the task; its process ends where it was told to."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import Node, Site, kinds
from worker.errors import DeadLetteredError, TaskExitError

RAISED = ("exit", "exit 0", "interrupt", "generator", "memory")


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


@pytest.fixture(scope="module", params=kinds("fork", "threads"))
def node(request: pytest.FixtureRequest, site: Site) -> Iterator[Node]:
    with site.node(request.param, env={"MONGODB_URI": site.mongo.uri}) as node:
        node.worker.wait_ready()
        node.wait_warm()
        yield node


@pytest.mark.parametrize("how", RAISED)
def test_a_task_that_raises_what_would_end_its_process_fails_at_once(node: Node, how: str) -> None:
    before = node.pids()
    with pytest.raises(TaskExitError, match="ends the task, not its process"):
        node.run("leave", how)
    assert node.worker.text.count(f"leaving by {how}\n") == 1
    assert node.run("write", 1) == 1
    assert node.pids() == before


@pytest.mark.parametrize("node", ["fork", "spawn"], indirect=True)
def test_a_task_that_sends_its_process_sigterm_is_poison_after_three(node: Node) -> None:
    """In a pool without processes of its own it is the worker that is told to end."""
    result = node.send("leave", "signal")
    with pytest.raises(DeadLetteredError, match="killed 3 times"):
        result.get(timeout=60)
    assert node.worker.text.count("leaving by signal") == 3


@pytest.mark.parametrize("kind", ["fork", "gevent"])
@pytest.mark.full
def test_cold_shutdowns_cost_a_message_nothing(site: Site, kind: str) -> None:
    """However many: they are not its fault. Under gevent Celery would acknowledge it, and lose it."""
    environment = {
        "MONGODB_URI": site.mongo.uri,
        "CELERY_PYMONGO_DEPLOYMENT": f"cold-{kind}",
        "CELERY_PYMONGO_POISON_LIMIT": "2",
    }
    for number in range(4):
        with site.node(kind, env=environment) as node:
            node.worker.wait_ready()
            if number == 0:
                node.send("linger", 60.0)
            node.worker.wait_for_log("lingering")
            node.worker.terminate(signal.SIGQUIT, seconds=30)
            assert "task.dead" not in node.worker.text
