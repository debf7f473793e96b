"""`celery inspect mongo_…` and `celery control mongo_…`: a row per process, whatever the processes do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ops.local.servers import LocalServer
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import MODULE, PROCESSES, Node, Site, kinds
from tests.e2e.workers import ROOT, wait_until

CONCURRENCY = 2
ASK_SECONDS, ASK_TIMES = 5.0, 4
ROUNDS = 7


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, Path(tmp_path_factory.mktemp("logs")))


@pytest.fixture(scope="module", params=kinds("fork", "threads"))
def node(request: pytest.FixtureRequest, site: Site) -> Iterator[Node]:
    """One worker of each kind whose processes have all reported; the tests below share it, in their order."""
    with site.node(request.param) as node:
        node.worker.wait_ready()
        node.wait_warm()
        # A gevent worker is ready before it listens, and what Redis publishes before that is lost.
        wait_until(lambda: listens(node), what="an answer to a ping")
        wait_until(lambda: all(map(has_reached, slots(node))), what="a report of each process's first ping")
        yield node


def listens(node: Node) -> bool:
    destination = [node.worker.hostname]
    return bool(
        node.sender.control.broadcast("ping", destination=destination, reply=True, limit=1, timeout=0.5)
    )


def ask(node: Node, command: str, **arguments: Any) -> Any:
    """Return the node's reply, as soon as it is there. A node that listens a moment later hears nothing."""
    options = {"destination": [node.worker.hostname], "reply": True, "limit": 1, "timeout": ASK_SECONDS}
    for _ in range(ASK_TIMES):
        replies = node.sender.control.broadcast(command, arguments=arguments, **options)
        if replies:
            return replies[0][node.worker.hostname]
    raise AssertionError(f"{node.worker.hostname} did not answer {command}")


def celery(node: Node, site: Site, *arguments: str) -> Any:
    """Return what a remote control command prints in a terminal for this node."""
    verb, *rest = arguments
    command = [sys.executable, "-m", "celery", "-A", MODULE, verb, "-j", "-d", node.worker.hostname]
    environment = os.environ | site.environment(node.kind, node.deployment)
    done = subprocess.run(
        [*command, *rest], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = next(line for line in done.stdout.splitlines() if line.startswith(("{", "[")))
    return json.loads(told)


def reply(told: Any, node: Node) -> Any:
    return told[node.worker.hostname]


def slots(node: Node) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(node, "mongo_pools")["slots"]
    return found


def has_reached(row: dict[str, Any]) -> bool:
    return (row["report"] or {}).get("ok") is not None


def running(node: Node, task: str) -> int:
    """Return how many of these tasks the rows tell of: each its own under prefork, the oldest and how many
    there are elsewhere.
    """
    told = [row["task"] for row in slots(node)]
    return sum(one.get("running", 1) for one in told if one and one["name"] == f"{MODULE}.{task}")


def seconds(node: Node, command: str) -> float:
    started = time.monotonic()
    ask(node, command)
    return time.monotonic() - started


def assert_answers_at_once(node: Node) -> None:
    """Each command answers about as soon as Celery's own `ping`: the best of several, taken in turn."""
    commands = ("ping", "mongo_pools", "mongo_health", "mongo_flight")
    rounds = [{command: seconds(node, command) for command in commands} for _ in range(ROUNDS)]
    best = {command: min(told[command] for told in rounds) for command in commands}
    assert max(best.values()) < 3 * best["ping"], best


@contextmanager
def suspended(server: LocalServer) -> Iterator[None]:
    server.suspend()
    try:
        yield
    finally:
        server.resume()


def test_there_is_a_row_for_each_process_and_no_other(node: Node, site: Site) -> None:
    told = reply(celery(node, site, "inspect", "mongo_pools"), node)
    assert told["node"] == node.worker.hostname
    assert told["kind"] == ("prefork" if node.is_prefork else node.kind)
    assert {row["pid"] for row in told["slots"]} == node.pids()
    assert [row["slot"] for row in told["slots"]] == list(range(PROCESSES[node.kind]))
    for row in told["slots"]:
        assert (row["state"], row["alive"], row["circuit"], row["task"]) == ("open", True, "closed", None)
        assert row["report"]["pid"] == row["pid"]
        assert row["age"] < 6


def test_a_node_that_reaches_mongodb_is_ok(node: Node, site: Site) -> None:
    told = reply(celery(node, site, "inspect", "mongo_health"), node)
    assert (told["verdict"], told["reasons"], told["since"]) == ("ok", [], None)
    assert told["slots"]["expected"] == told["slots"]["live"] == PROCESSES[node.kind]


def test_the_flight_recorder_tells_how_each_pool_came_to_be(node: Node, site: Site) -> None:
    told = reply(celery(node, site, "inspect", "mongo_flight"), node)
    assert {flight["pid"] for flight in told["slots"]} == node.pids()
    for flight in told["slots"]:
        kinds = [record["kind"] for record in flight["records"]]
        assert kinds.index("client.opened") < kinds.index("connection.ready")
    last = PROCESSES[node.kind] - 1
    (one,) = reply(celery(node, site, "inspect", "mongo_flight", str(last)), node)["slots"]
    assert one["slot"] == last
    assert one["records"][: len(told["slots"][last]["records"])] == told["slots"][last]["records"]


def test_a_slot_that_is_not_there_is_an_error_in_words(node: Node) -> None:
    assert "there is no slot 4000" in ask(node, "mongo_flight", slot=4000)["error"]


def test_counters_are_set_back_in_every_process(node: Node, site: Site) -> None:
    wait_until(
        lambda: all(row["report"]["count"]["created"] for row in slots(node)), what="a counted connection"
    )
    assert "ok" in str(celery(node, site, "control", "mongo_reset_stats"))
    wait_until(
        lambda: not any(row["report"]["count"]["created"] for row in slots(node)), what="counters at zero"
    )
    assert all(row["report"]["pool"]["size"] for row in slots(node))


def test_it_answers_while_mongodb_hangs_and_tasks_wait_for_it(node: Node, site: Site) -> None:
    # Under solo MAIN itself would wait, and answer nobody.
    count = 0 if node.kind == "solo" else CONCURRENCY
    with suspended(site.mongo):
        results = [node.send("write", key) for key in range(count)]
        wait_until(lambda: running(node, "write") == count, what="tasks that wait for MongoDB")
        assert_answers_at_once(node)
        assert {row["pid"] for row in slots(node)} == node.pids()
    assert sorted(result.get(timeout=30) for result in results) == list(range(count))


def test_it_answers_while_every_slot_is_busy_and_names_the_tasks(node: Node) -> None:
    if node.kind == "solo":
        pytest.skip("under solo MAIN runs the task itself: Celery answers nobody meanwhile")
    results = [node.send("sleep", 8.0) for _ in range(CONCURRENCY)]
    wait_until(lambda: running(node, "sleep") == CONCURRENCY, what="a task in every slot")
    assert_answers_at_once(node)
    assert {row["task"]["id"] for row in slots(node)} <= {result.id for result in results}
    assert {result.get(timeout=20) for result in results} == node.pids()


def test_a_child_that_is_killed_gives_its_row_to_its_successor(node: Node) -> None:
    if not node.is_prefork:
        pytest.skip("there is no child to kill")
    victim = slots(node)[1]["pid"]
    os.kill(victim, signal.SIGKILL)
    wait_until(
        lambda: (
            {row["pid"] for row in slots(node) if row["alive"]} == node.pids() - {victim}
            and len(node.pids()) == CONCURRENCY
        ),
        what="a row for the successor",
        seconds=20,
    )
    assert [row["slot"] for row in slots(node)] == [0, 1]
