"""A time limit that ends a wait for a full pool: no event tells of it, and the gauges hold all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from pymongo import MongoClient

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import Node, Site
from tests.e2e.workers import wait_until

TIMES = 3
HELD_MS = 2500
"""Longer than the soft time limit of the task that waits."""


@pytest.fixture(scope="module")
def node(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with WatchingProxy(mongo.uri) as proxy:
        site = Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))
        with site.node("fork", env={"MONGODB_MAX_POOL_SIZE": "1"}, concurrency=1) as node:
            node.worker.wait_ready()
            yield node


def answer_late(mongo: LocalServer) -> None:
    data = {"failCommands": ["distinct"], "blockConnection": True, "blockTimeMS": HELD_MS}
    with MongoClient[dict[str, Any]](mongo.uri) as client:
        client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})


def test_waits_that_a_time_limit_ended_are_no_waiters_for_ever(node: Node, mongo: LocalServer) -> None:
    for _ in range(TIMES):
        answer_late(mongo)
        with pytest.raises(SoftTimeLimitExceeded):
            node.run("wait_in_vain")
    found: list[dict[str, Any]] = []

    def corrected() -> bool:
        found.append(node.run("gauges"))
        return bool(found[-1]["drift"] >= TIMES)

    wait_until(corrected, what="a correction of each wait that was lost", seconds=30)
    assert found[-1]["told"] == found[-1]["true"]
    (gauges,) = found[-1]["true"].values()
    assert gauges["waiting"] == 0
