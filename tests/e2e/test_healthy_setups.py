"""Five healthy set-ups, by the command and from machines that see less."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ops.local.servers import LocalServer
from tests.e2e.clinic import Clinic, clinic, is_well
from tests.e2e.workers import Worker, wait_until
from tests.schemas import validated

pytestmark = pytest.mark.timeout(120)
logger = logging.getLogger(__name__)

PLAIN = {"CELERY_PYMONGO_SCHEDULER": "plain"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("setup")


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
