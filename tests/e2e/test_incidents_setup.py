"""Incidents of how a deployment is set up or looked after, each injected for real; five healthy set-ups."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from ops.local.servers import LocalServer
from tests.e2e.apps.secured import app_uri, secured_server
from tests.e2e.apps.service import Beat
from tests.e2e.clinic import Clinic, clinic, is_well
from tests.e2e.workers import Worker, wait_until
from tests.schemas import validated

pytestmark = pytest.mark.timeout(120)
logger = logging.getLogger(__name__)

PLAIN = {"CELERY_PYMONGO_SCHEDULER": "plain"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("setup")


# --- a deployment of one slot, whose beat has a story ---


@pytest.fixture(scope="module")
def alone(mongo: LocalServer, redis: LocalServer, folder: Path) -> Iterator[Clinic]:
    with clinic("alone", mongo.uri, redis.uri, folder, **PLAIN) as found:
        yield found


@pytest.fixture(scope="module")
def first_beat(alone: Clinic) -> Iterator[Beat]:
    with alone.worker() as node, alone.beat("first") as beat:
        node.wait_ready()
        wait_until(lambda: is_well(alone, processes=1), what="a healthy deployment", seconds=30)
        yield beat


def test_redis_without_persistence(alone: Clinic, first_beat: Beat, redis: LocalServer) -> None:
    with redis_py.Redis.from_url(redis.uri) as client:
        client.config_set("appendonly", "no")
        try:
            alone.expect("redis-persistence", "appendonly no", "Valkey")
        finally:
            client.config_set("appendonly", "yes")


@pytest.mark.full
def test_a_connection_budget_over_the_servers_limit(alone: Clinic, first_beat: Beat) -> None:
    """By setting: the server takes more than a test can open."""
    limit = {"CELERY_PYMONGO_SERVER_CONNECTIONS": "3"}
    alone.expect("connection-budget", "1 process (solo) x 4 = 4", "limit 3", env=limit)


@pytest.mark.full
def test_all_slots_are_busy_and_beat_is_alive(alone: Clinic, first_beat: Beat) -> None:
    alone.send("nap", 20.0, times=2)
    found = alone.expect("slots-busy", "clinic.nap", "1 message in w1", "beat is alive")
    assert "All 1 slot of w1@localhost" in found["title"]


@pytest.mark.full
def test_beat_is_dead(alone: Clinic, first_beat: Beat) -> None:
    """Killed here; half a minute later this is told by a test below."""
    first_beat.send_signal(signal.SIGKILL)
    first_beat.wait()


# --- how a client is made, and let in ---


@pytest.fixture(scope="module")
def secured(folder: Path) -> Iterator[LocalServer]:
    with secured_server(folder / "secured") as server:
        yield server
        server.kill()  # its own way takes 2 s


def test_a_wrong_password(secured: LocalServer, redis: LocalServer, folder: Path) -> None:
    with clinic("locked", app_uri(secured, "wrong"), redis.uri, folder) as locked, locked.worker() as node:
        node.wait_ready()
        locked.expect("login-refused", "1 of 1 process", "w1@localhost/0", severity="down")


@pytest.mark.full
def test_a_user_without_cluster_monitor(secured: LocalServer, redis: LocalServer, folder: Path) -> None:
    kept = {"CELERY_PYMONGO_HISTORY_DATABASE": "shop"}
    with ExitStack() as stack:
        modest = stack.enter_context(clinic("modest", app_uri(secured), redis.uri, folder, **kept))
        stack.enter_context(modest.worker()).wait_ready()
        stack.enter_context(modest.beat())
        modest.expect("role-cluster-monitor", "code 13", severity="note")


@pytest.mark.full
def test_a_client_that_is_opened_before_the_fork(
    mongo: LocalServer, redis: LocalServer, folder: Path
) -> None:
    opened = {"CLINIC_EARLY": mongo.uri}
    with (
        clinic("early", mongo.uri, redis.uri, folder) as early,
        early.worker(pool="prefork", env=opened) as node,
    ):
        node.wait_ready()
        early.expect("client-before-fork", "tests/e2e/apps/clinic.py:", "on w1@localhost")


@pytest.mark.full
def test_a_visibility_timeout_below_a_time_limit(
    mongo: LocalServer, redis: LocalServer, folder: Path
) -> None:
    # In place of all that the service has in them: no prefix either, and this one's messages are apart.
    conf = {"CLINIC_CONF": json.dumps({"broker_transport_options": {"visibility_timeout": 60}})}
    with clinic("hasty", mongo.uri, redis.uri, folder) as hasty, hasty.worker(env=conf) as node:
        node.wait_ready()
        hasty.expect("visibility-timeout", "visibility_timeout 60 s", "hard time limit 300 s")


@pytest.mark.full
def test_processes_that_end_after_each_task(mongo: LocalServer, redis: LocalServer, folder: Path) -> None:
    once: dict[str, Any] = {"pool": "prefork", "concurrency": 3, "options": ("--max-tasks-per-child", "1")}
    with clinic("churn", mongo.uri, redis.uri, folder) as churn, churn.worker(**once) as node:
        node.wait_ready()
        # Of different lengths, or all slots would be empty at the same moments.
        for seconds in (0.3, 0.7, 1.1) * 30:
            churn.send("nap", seconds)
        churn.expect("process-churn", "worker_max_tasks_per_child=1", "w1@localhost")


# --- the end of beat's story ---


@pytest.mark.full
def test_a_dead_beat_is_told_from_a_busy_worker(alone: Clinic, first_beat: Beat) -> None:
    found = alone.expect("beat-silent", f"pid {first_beat.pid}", "PersistentScheduler", seconds=40)
    assert "not a busy worker" in "\n".join(found["evidence"])


@pytest.mark.full
def test_two_plain_beats(alone: Clinic, first_beat: Beat) -> None:
    with alone.beat("second") as second, alone.beat("third") as third:
        alone.expect("beat-doubled", f"pid {second.pid}", f"pid {third.pid}")


# --- five that are well ---

SHAPES: dict[str, list[tuple[str, int]]] = {
    "prefork": [("prefork", 2)],
    "threads": [("threads", 8)],
    "gevent": [("gevent", 20)],
    "solo": [("solo", 1)],
    "two-nodes": [("prefork", 1), ("threads", 4)],
}


@pytest.fixture(scope="module")
def shapes(mongo: LocalServer, redis: LocalServer, folder: Path) -> Iterator[dict[str, Clinic]]:
    with ExitStack() as stack:
        found: dict[str, Clinic] = {}
        nodes: list[Worker] = []
        for shape, pools in SHAPES.items():
            found[shape] = stack.enter_context(clinic(shape, mongo.uri, redis.uri, folder))
            stack.enter_context(found[shape].beat())
            for number, (pool, concurrency) in enumerate(pools, 1):
                node = found[shape].worker(f"w{number}", pool=pool, concurrency=concurrency)
                nodes.append(stack.enter_context(node))
        for node in nodes:
            node.wait_ready()
        yield found


@pytest.mark.parametrize("shape", SHAPES)
def test_a_healthy_deployment_has_no_finding(shapes: dict[str, Clinic], shape: str) -> None:
    healthy, processes = shapes[shape], sum(c if p == "prefork" else 1 for p, c in SHAPES[shape])
    wait_until(lambda: is_well(healthy, processes=processes), what=f"a healthy {shape}", seconds=40)
    results = [
        sent for n in range(len(SHAPES[shape])) for sent in healthy.send("read", 5, to=f"w{n + 1}", times=5)
    ]
    assert {result.get(timeout=20) for result in results} == {5}
    code, told = healthy.command()
    assert (code, told["findings"]) == (0, []), told["findings"]
    assert told["processes"]["seen"] == processes
    assert told["unchecked"] == {}


# --- who asks, and from where ---


@pytest.mark.full
def test_a_machine_that_reaches_redis_alone_sees_a_healthy_fleet(shapes: dict[str, Clinic]) -> None:
    code, told = shapes["two-nodes"].command(MONGODB_URI="mongodb://127.0.0.1:9/")
    assert (code, told["findings"]) == (0, [])
    assert {"MongoDB", "server connections", "collections"} <= set(told["unseen"])
    assert {"role-cluster-monitor", "index-missing"} <= set(told["unchecked"])
    assert told["server"].startswith("MongoDB ")


@pytest.mark.full
def test_a_machine_that_reaches_mongodb_alone_says_that_redis_is_away(shapes: dict[str, Clinic]) -> None:
    code, told = shapes["two-nodes"].command(REDIS_URL="redis://127.0.0.1:9/0")
    assert (code, [found["id"] for found in told["findings"]]) == (2, ["redis-down"])
    assert "Redis" in told["unseen"]


@pytest.mark.full
def test_a_machine_that_reaches_neither_knows_nothing(shapes: dict[str, Clinic]) -> None:
    away = {"REDIS_URL": "redis://127.0.0.1:9/0", "MONGODB_URI": "mongodb://127.0.0.1:9/"}
    code, told = shapes["two-nodes"].command(**away)
    assert (code, told["verdict"]) == (3, "unknown")
    assert [found["id"] for found in told["findings"]] == ["nothing-reached"]


def test_a_deployment_that_is_not_there_is_told_from_one_that_is_down(shapes: dict[str, Clinic]) -> None:
    code, told = shapes["solo"].command(CELERY_PYMONGO_DEPLOYMENT="misspelt")
    assert (code, [found["id"] for found in told["findings"]]) == (3, ["nobody-reports"])


@pytest.mark.parametrize("task", ["doctor", "size"])
@pytest.mark.full
def test_the_same_answers_as_tasks(shapes: dict[str, Clinic], task: str) -> None:
    app = shapes["prefork"].app
    told = app.send_task(f"mongo.ops.{task}", queue="mongo.ops").get(timeout=20)
    assert validated(json.dumps(told))["verdict"] == "ok"
