"""Each process that runs tasks has one client of its own; a prefork MAIN has none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import KINDS, PROCESSES, Node, Site
from tests.e2e.workers import wait_until

MONITORING = 2
"""Sockets per client and member beside its pool: one streams the state, one measures the round trip."""


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


@pytest.fixture(scope="module", params=KINDS)
def node(request: pytest.FixtureRequest, site: Site) -> Iterator[Node]:
    """One worker of each kind; the tests below share it, and the last one ends it."""
    with site.node(request.param) as node:
        node.worker.wait_ready()
        node.wait_warm()
        yield node


def names(node: Node) -> set[str]:
    """The appnames that its processes should have, without the pid: one slot each, from 0."""
    owner = f"celery-pymongo/{node.deployment}/{node.worker.hostname}"
    return {f"{owner}/{slot}" for slot in range(PROCESSES[node.kind])}


def assert_one_client_each(node: Node, site: Site) -> None:
    """Clients of one process share its appname; each has one stream of the server's state."""
    assert {pid: site.proxy.clients(pid) for pid in node.pids()} == dict.fromkeys(node.pids(), 1)


def test_the_server_counts_one_client_per_process_and_none_of_main(node: Node, site: Site) -> None:
    sockets = site.sockets(node.deployment)
    assert {int(name.rsplit("/", 1)[1]) for name in sockets} == node.pids()
    assert {name.rsplit("/", 1)[0] for name in sockets} == names(node)
    assert len(sockets) == PROCESSES[node.kind]
    assert_one_client_each(node, site)
    assert (node.worker.pid in node.pids()) is not node.is_prefork


def test_a_client_holds_its_minimum_pool_and_two_monitoring_sockets(node: Node, site: Site) -> None:
    minimum = 1 if node.is_prefork or node.kind == "solo" else 2
    # One more where the first operation and the driver's own filling of the pool met.
    allowed = {minimum + MONITORING, minimum + MONITORING + 1}

    def settled() -> bool:
        sockets = site.sockets(node.deployment)
        return len(sockets) == PROCESSES[node.kind] and allowed.issuperset(sockets.values())

    wait_until(settled, what=f"{allowed} sockets for each client at the server")


def test_the_pool_is_warm_before_the_first_task(node: Node) -> None:
    before = node.run("place")
    (pool,) = before["servers"].values()
    assert pool["idle"] >= 1
    assert before["circuit"] == "closed"
    assert before["pid"] in node.pids()
    assert before["node"] == node.worker.hostname


def test_many_tasks_share_the_client(node: Node, site: Site) -> None:
    results = [node.send("write", key) for key in range(40)]
    assert sorted(result.get(timeout=20) for result in results) == list(range(40))
    assert_one_client_each(node, site)


def test_a_replaced_client_says_goodbye_and_leaves_no_socket_behind(node: Node, site: Site) -> None:
    before = [wire for wire in site.proxy.wires() if wire.is_open]
    pid = node.run("replace")
    old = [wire for wire in before if wire.pid == pid]
    wait_until(lambda: not any(wire.is_open for wire in old), what="the old client's sockets closed")
    assert len(old) >= 1 + MONITORING
    assert sum(wire.commands.count("endSessions") for wire in old) == 1
    assert_one_client_each(node, site)
    assert node.pids() >= {pid}


def test_sigterm_closes_every_client_before_its_process_ends(node: Node, site: Site) -> None:
    pids = node.pids()
    before = {pid: site.proxy.sessions_ended(pid) for pid in pids}
    assert node.worker.terminate() == 0
    assert {pid: site.proxy.sessions_ended(pid) - before[pid] for pid in pids} == dict.fromkeys(pids, 1)
    assert node.worker.text.count("client.closed") == len(pids)
    assert not site.sockets(node.deployment)
    assert "UserWarning" not in node.worker.text
    assert "Traceback" not in node.worker.text
