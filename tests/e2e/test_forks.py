"""A process that a task forks has a client of its own, no row of its node's, and answers for no message."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import MODULE, Node, Site
from tests.e2e.workers import ROOT
from worker.errors import DeadLetteredError


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


@pytest.fixture(scope="module")
def node(site: Site) -> Iterator[Node]:
    with site.node("fork", env={"MONGODB_URI": site.mongo.uri}) as node:
        node.worker.wait_ready()
        node.wait_warm()
        yield node


def rows(node: Node) -> list[dict[str, Any]]:
    """The node's board, as its main process reads it."""
    command = [sys.executable, "-m", "celery", "-A", MODULE, "inspect", "-j", "mongo_pools"]
    done = subprocess.run(
        command, cwd=ROOT, env=node.worker.environment(), capture_output=True, check=True, timeout=60
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)[node.worker.hostname]["slots"]
    return found


def test_a_pool_of_a_tasks_own_takes_no_row_of_its_node(node: Node) -> None:
    """Nor does a fork, whether it leaves by sys.exit() or comes back from the body."""
    before = node.pids()
    parent, pids = node.run("fan")
    assert parent in before
    assert not before & set(pids)
    for how, code in (("exits", 3), ("returns", 0)):
        parent, ended = node.run("fork", how)
        assert (parent in before, ended) == (True, code)
    assert node.run("write", 1) == 1
    assert node.pids() == before
    assert {(row["pid"], row["alive"]) for row in rows(node)} == {(pid, True) for pid in before}
    assert "process.lost" not in node.worker.text


def test_what_a_fork_does_may_be_a_write(node: Node) -> None:
    with pytest.raises(DeadLetteredError, match="may have written"):
        node.run("fork_then_retry")
