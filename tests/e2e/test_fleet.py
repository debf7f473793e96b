"""Every process of every node is in every snapshot, and whoever leaves without a goodbye is named."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TimeoutError as NoResultError

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import MODULE, Site
from tests.e2e.workers import Worker, wait_until

pytestmark = pytest.mark.timeout(180)

DEPLOYMENT = f"fleet-{os.getpid()}"
HOGGED_SECONDS = 26
"""Longer than a silent process is only stale, with a tick to spare."""


@dataclass
class Fleet:
    """Two nodes of one deployment; each has a queue of its own name beside the health queue."""

    site: Site
    sender: Celery
    prefork: Worker
    threads: Worker

    def run(self, task: str, *args: Any, node: Worker, wait: bool = True) -> Any:
        """Send a task of the lifecycle app to a node."""
        result = self.sender.send_task(f"{MODULE}.{task}", args, queue=node.name)
        return result.get(timeout=60) if wait else result

    def snapshot(self) -> dict[str, Any]:
        """Ask for a snapshot, as beat does, whichever node takes it; a node that is killed takes it along."""
        for _ in range(3):
            sent = self.sender.send_task("mongo.pool.snapshot", queue="mongo.health")
            with suppress(NoResultError):
                document: dict[str, Any] = sent.get(timeout=10)
                return document
            sent.forget()
        raise AssertionError("no snapshot")

    def wait_for(self, what: str, **coverage: Any) -> dict[str, Any]:
        """Wait for a snapshot with this coverage, and return it."""
        seen: list[dict[str, Any]] = []

        def is_so() -> bool:
            seen.append(self.snapshot())
            told = seen[-1]["coverage"]
            return all(told[name] == value for name, value in coverage.items())

        try:
            wait_until(is_so, what=what, seconds=60)
        except TimeoutError as error:
            raise AssertionError(f"{error}; the last coverage: {seen[-1]['coverage']}") from None
        return seen[-1]


@pytest.fixture(scope="module")
def fleet(
    mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    with WatchingProxy(mongo.uri) as proxy, ExitStack() as stack:
        site = Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))
        environment = site.environment("fork", DEPLOYMENT)
        nodes = []
        for name, pool, concurrency in (("w1", "prefork", 4), ("w2", "threads", 8)):
            options = ("--without-mingle", "--without-gossip")
            worker = Worker(
                MODULE,
                site.folder / f"{name}.log",
                pool,
                concurrency,
                queues=(name, "mongo.health"),
                env=environment,
                options=options,
                name=name,
            )
            nodes.append(stack.enter_context(worker))
        for node in nodes:
            node.wait_ready()
        yield Fleet(site, site.sender(environment), *nodes)


def members(node: Worker, slots: range) -> list[str]:
    return [f"{node.hostname}/{slot}" for slot in slots]


def test_every_process_is_seen_and_the_servers_count_is_theirs(fleet: Fleet) -> None:
    found = fleet.wait_for("all five processes", seen=5, expected=5, missing=[], stale=[], lost=[])
    assert found["totals"]["processes"] == 5
    assert found["nodes"]["rows"][fleet.prefork.hostname]["slots"] == 4
    assert found["nodes"]["rows"][fleet.threads.hostname]["slots"] == 1
    assert_counted(fleet)


def assert_counted(fleet: Fleet) -> None:
    """The server's own count by application name, asked apart, is what the processes report."""

    def is_equal() -> bool:
        ours = fleet.snapshot()["server"]["ours"]
        sockets = fleet.site.sockets(DEPLOYMENT)
        per_node = {
            node.hostname: sum(count for name, count in sockets.items() if f"/{node.hostname}/" in name)
            for node in (fleet.prefork, fleet.threads)
        }
        told = {name: row["counted"] for name, row in ours.items()}
        reported = {name: row["reported"] for name, row in ours.items()}
        return told == per_node == reported

    wait_until(is_equal, what="counts of connections that agree", seconds=20)


def test_a_process_that_works_for_long_is_live_and_its_task_is_named(fleet: Fleet) -> None:
    result = fleet.run("sleep", 8, node=fleet.prefork, wait=False)
    fleet.prefork.wait_for_log("asleep in")
    found = fleet.wait_for("all of them live", seen=5, stale=[], busy=[], lost=[])
    assert found["coverage"]["counts"]["live"] == 5
    assert result.get(timeout=30) in fleet.prefork.children()


@pytest.mark.full
def test_a_process_that_cannot_report_for_a_long_call_is_busy_and_not_lost(fleet: Fleet) -> None:
    result = fleet.run("hog", HOGGED_SECONDS, node=fleet.prefork, wait=False)
    found = fleet.wait_for("one busy process", lost=[], stale=[], seen=5, counts=BUSY)
    (busy,) = found["coverage"]["busy"]
    assert busy in members(fleet.prefork, range(4))
    assert result.get(timeout=60) in fleet.prefork.children()
    fleet.wait_for("its return", busy=[], lost=[], stale=[], seen=5)
    assert "process.lost" not in fleet.prefork.text + fleet.threads.text


BUSY = {"live": 4, "stale": 0, "busy": 1, "lost": 0, "missing": 0}


def test_a_killed_process_gets_one_post_mortem_and_its_slot_a_successor(fleet: Fleet) -> None:
    result = fleet.run("sleep", 60, node=fleet.prefork, wait=False)
    fleet.prefork.wait_for_log("asleep in", count=2)
    pid = int(re.findall(r"asleep in (\d+)", fleet.prefork.text)[-1])
    os.kill(pid, signal.SIGKILL)
    fleet.prefork.wait_for_log("process.lost")
    found = fleet.wait_for("a successor", seen=5, expected=5, stale=[], busy=[], lost=[], missing=[])
    assert found["totals"]["processes"] == 5
    logs = fleet.prefork.text + fleet.threads.text
    (line,) = re.findall("process.lost: (.*)", logs)
    assert f"(pid {pid})" in line
    assert f"running {MODULE}.sleep[{result.id}]" in line
    assert "client.opened" in logs.partition("process.lost")[2]  # of its flight recorder
    assert_counted(fleet)


def test_a_process_that_ends_well_is_not_mourned(fleet: Fleet) -> None:
    before = fleet.prefork.children()
    os.kill(before[0], signal.SIGTERM)
    wait_until(lambda: set(fleet.prefork.children()) - set(before), what="a successor")
    fleet.wait_for("all five again", seen=5, expected=5, stale=[], busy=[], lost=[], missing=[])
    assert len(re.findall("process.lost", fleet.prefork.text + fleet.threads.text)) == 1


def test_a_node_whose_main_is_killed_is_told_of_once(fleet: Fleet) -> None:
    """The last test of this fleet."""
    pids = fleet.prefork.children()
    os.kill(fleet.prefork.pid, signal.SIGKILL)
    found = fleet.wait_for("the lost node", lost=members(fleet.prefork, range(4)), stale=[], busy=[])
    assert found["coverage"]["counts"]["live"] == 1
    assert found["coverage"]["seen"] == 1
    fleet.threads.wait_for_log("node.lost", seconds=5)
    fleet.snapshot()
    told = re.findall(r"process.lost: .*\(pid (\d+)\)", fleet.threads.text)
    assert sorted(map(int, told)) == sorted(pids)
    assert len(re.findall("node.lost", fleet.threads.text)) == 1
    assert fleet.site.sockets(DEPLOYMENT).keys() == {
        name for name in fleet.site.sockets(DEPLOYMENT) if "/w2@localhost/" in name
    }
