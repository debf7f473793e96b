"""The client is closed, and says so to the server, on every exit on which Celery gives a signal."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery.exceptions import TimeLimitExceeded, WorkerLostError

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import PROCESSES, Node, Site, kinds
from tests.e2e.workers import wait_until

RECYCLES = {"fork": 20, "spawn": 4}
"""A spawned child imports everything anew: a second and more of a core each."""


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


@pytest.fixture(scope="module", params=kinds("fork", full=["spawn"]))
def recycling(request: pytest.FixtureRequest, site: Site) -> Iterator[Node]:
    """A prefork worker whose children end after each task."""
    # Celery counts a hard limit from the soft one, where there is one.
    with site.node(request.param, worker_max_tasks_per_child=1, task_soft_time_limit=None) as node:
        node.worker.wait_ready()
        node.wait_warm()
        yield node


def wait_replaced(node: Node, gone: int) -> None:
    """Wait until the pool is complete without the child `gone`, and all of it has reached the server."""
    wait_until(lambda: len(node.pids() - {gone}) == 2 and gone not in node.pids(), what="a replacement")


def wait_gone(site: Site, pid: int) -> None:
    wait_until(lambda: not any(wire.is_open for wire in site.proxy.wires([pid])), what=f"no socket of {pid}")


def named(node: Node, words: str) -> int:
    """The process that said `words` and its number last."""
    return int(re.findall(rf"{words} (\d+)", node.worker.text)[-1])


def closed_lines(node: Node) -> int:
    return node.worker.text.count("client.closed")


def test_each_recycled_child_closes_its_own_client(recycling: Node, site: Site) -> None:
    count = RECYCLES[recycling.kind]
    results = [recycling.send("place") for _ in range(count)]
    pids = {result.get(timeout=60)["pid"] for result in results}
    assert len(pids) == count
    recycling.worker.wait_for_log("client.closed", count=count)
    for pid in pids:
        wait_gone(site, pid)
    assert {pid: site.proxy.sessions_ended(pid) for pid in pids} == dict.fromkeys(pids, 1)


def test_a_killed_child_is_replaced_by_one_with_its_own_client(recycling: Node, site: Site) -> None:
    """SIGKILL gives no signal: the kernel closes the sockets, and nobody said goodbye."""
    with pytest.raises(WorkerLostError):
        recycling.run("die")
    pid = named(recycling, "dying in")
    wait_replaced(recycling, pid)
    wait_gone(site, pid)
    assert site.proxy.sessions_ended(pid) == 0
    replacements = recycling.pids()
    wait_until(lambda: replacements <= site.proxy.pids(), what="the replacement at the server")
    assert len(site.sockets(recycling.deployment)) == 2


def test_a_hard_time_limit_leaves_time_to_close(recycling: Node, site: Site) -> None:
    before = closed_lines(recycling)
    task = recycling.send("sleep", 30, time_limit=1)
    with pytest.raises(TimeLimitExceeded):
        task.get(timeout=20)
    recycling.worker.wait_for_log("client.closed", count=before + 1)
    pid = named(recycling, "asleep in")
    wait_gone(site, pid)
    assert site.proxy.sessions_ended(pid) == 1
    wait_replaced(recycling, pid)


def test_sigterm_to_a_child_closes_its_client(recycling: Node, site: Site) -> None:
    """What autoscale, pool_shrink and revoke(terminate=True) do."""
    before = closed_lines(recycling)
    pid = min(recycling.pids())
    wait_until(lambda: pid in site.proxy.pids(), what=f"{pid} at the server")
    os.kill(pid, signal.SIGTERM)
    recycling.worker.wait_for_log("client.closed", count=before + 1)
    wait_gone(site, pid)
    assert site.proxy.sessions_ended(pid) == 1
    wait_replaced(recycling, pid)


def test_sigquit_closes_idle_and_busy_children(recycling: Node, site: Site) -> None:
    end(recycling, site, lambda node: node.worker.send_signal(signal.SIGQUIT))


@pytest.mark.parametrize("kind", kinds("fork", full=["solo", "threads", "gevent"]))
def test_a_second_sigint_closes_every_client(site: Site, kind: str) -> None:
    with site.node(kind) as node:
        node.worker.wait_ready()
        node.wait_warm()
        end(node, site, interrupt_twice)


def interrupt_twice(node: Node) -> None:
    node.worker.send_signal(signal.SIGINT)
    node.worker.wait_for_log("Warm shutdown")
    node.worker.send_signal(signal.SIGINT)


def end(node: Node, site: Site, stop: Callable[[Node], None]) -> None:
    """Stop a worker cold, under prefork with one child asleep in a task; every process must have closed.

    The other pools cannot end a task (Celery: "does not implement kill_job"), so there all are idle.
    """
    wait_until(lambda: len(node.pids()) == PROCESSES[node.kind], what="a complete pool")
    pids = node.pids()
    wait_until(lambda: pids <= site.proxy.pids(), what="every process at the server")
    before, asleep = closed_lines(node), node.worker.text.count("asleep in")
    if node.is_prefork:
        node.send("sleep", 30)
        node.worker.wait_for_log("asleep in", count=asleep + 1)
    stop(node)
    # The code is Celery's: at some moments it takes a second signal for a failure.
    assert node.worker.wait() in (0, 1)
    assert {pid: site.proxy.sessions_ended(pid) for pid in pids} == dict.fromkeys(pids, 1)
    assert closed_lines(node) - before == len(pids)
    assert not site.sockets(node.deployment)


def test_remote_shutdown_closes_the_client(site: Site) -> None:
    with site.node("threads") as node:
        node.worker.wait_ready()
        node.wait_warm()
        node.sender.control.shutdown(destination=[node.worker.hostname])
        assert node.worker.wait() == 0
        assert site.proxy.sessions_ended(node.worker.pid) == 1
        assert closed_lines(node) == 1


@pytest.mark.parametrize(("kind", "fault"), [("fork", "kill"), ("threads", "suspend")])
def test_a_server_that_is_away_does_not_hold_up_the_shutdown(site: Site, kind: str, fault: str) -> None:
    """The driver's own limits are 5 s to select a server and 20 s for its answer."""
    with site.node(kind, env={"MONGODB_URI": site.mongo.uri}) as node:
        node.worker.wait_ready()
        node.wait_warm()
        getattr(site.mongo, fault)()
        try:
            assert node.worker.terminate() == 0
        finally:
            site.mongo.resume()
            site.mongo.start()
        closed_ms = [float(text) for text in re.findall(r"closed in ([\d.]+) ms", node.worker.text)]
    assert len(closed_ms) == PROCESSES[kind]
    assert max(closed_ms) < 2500
