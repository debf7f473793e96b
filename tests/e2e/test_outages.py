"""What is an outage and what is not, whatever words the error has: real servers, real workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult
from pymongo import MongoClient

from ops.local.servers import LocalServer, free_port
from tests.e2e.apps import outages
from tests.e2e.name_server import CLUSTER, NameServer
from tests.e2e.operator import Operator
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import QUEUE, Node, Site, kinds
from tests.e2e.workers import wait_until

pytestmark = pytest.mark.timeout(240)

SETTINGS = {
    "CELERY_PYMONGO_GATED_QUEUES": QUEUE,
    "CELERY_PYMONGO_BACKOFF_BASE_SECONDS": "0.2",
    "CELERY_PYMONGO_BACKOFF_CAP_SECONDS": "1",
    "MONGODB_HEARTBEAT_FREQUENCY_MS": "500",
    "MONGODB_SERVER_SELECTION_TIMEOUT_MS": "1500",
}
PATIENCE = 60
"""Seconds that a busy machine is given."""


@pytest.fixture(scope="module")
def site(mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = Path(tmp_path_factory.mktemp("logs"))
    with WatchingProxy(mongo.uri) as proxy:
        yield Site(mongo, redis, proxy, folder, module=outages.__name__)


@pytest.fixture
def database(site: Site) -> Iterator[Any]:
    """The database of the tasks, by a client of the test's own; empty but for what a cursor reads."""
    with MongoClient[dict[str, Any]](site.mongo.uri) as client:
        client.drop_database("app")
        client.app.many.insert_many([{"n": n} for n in range(500)])
        # A transaction that has to make its collection conflicts with its like.
        client.app.create_collection("paid")
        yield client.app


def node(site: Site, kind: str, env: Mapping[str, str] | None = None, **conf: Any) -> Any:
    return site.node(kind, env={"MONGODB_URI": site.mongo.uri} | SETTINGS | dict(env or {}), **conf)


def values(results: list[AsyncResult]) -> list[Any]:
    """Return what the tasks returned, or raise the first error of one that failed."""
    return [result.get(timeout=PATIENCE) for result in results]


# -- a server that stops ---------------------------------------------------------------------------


@contextmanager
def under_load(running: Node, *, rounds: int) -> Iterator[list[AsyncResult]]:
    """Send every kind of task so many times, and wait until some of each second kind have ended."""
    results = [running.send("use", kind, key) for key in range(rounds) for kind in outages.KINDS]
    wait_until(
        lambda: sum(r.ready() for r in results) >= len(outages.KINDS), what="the first", seconds=PATIENCE
    )
    yield results
    assert [result.id for result in results if result.state != "SUCCESS"] == []


@pytest.mark.parametrize(
    ("kind", "retries"),
    [
        ("fork", "off"),
        *(
            pytest.param(*cell, marks=pytest.mark.full)
            for cell in (("fork", "on"), ("threads", "off"), ("gevent", "on"))
        ),
    ],
)
def test_a_server_that_is_stopped_in_the_midst_of_all_kinds_of_tasks_costs_no_retry(
    site: Site, database: Any, kind: str, retries: str
) -> None:
    """It answers that it shuts down (91), in write concern errors too, before it is gone. With the driver's
    own retries off that is what tasks meet.
    """
    env = {"MONGODB_RETRY_WRITES": retries, "MONGODB_RETRY_READS": retries}
    with node(site, kind, env) as running:
        running.wait_warm()
        with under_load(running, rounds=30) as results:
            done = sum(result.ready() for result in results)
            site.mongo.stop()
            running.worker.wait_for_log(r"gate\.closed:", seconds=PATIENCE)
            site.mongo.start()
            assert done < len(results)
            assert values(results) == [key for key in range(30) for _ in outages.KINDS]
        text = running.worker.text
        assert "task.retry" not in text
        assert "Traceback" not in text


# -- errors that are the task's own ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fork", "threads"])
@pytest.mark.full
def test_an_error_of_one_operation_or_another_client_is_no_outage_of_ours(
    site: Site, database: Any, kind: str
) -> None:
    """A read preference that no member serves, another cluster that is away: tried again, then failed."""
    away = f"mongodb://127.0.0.1:{free_port()}"
    with node(site, kind) as running:
        running.wait_warm()
        results = {name: running.send("fail", name, away) for name in outages.OWN}
        others = [running.send("use", "update", key) for key in range(20)]
        assert values(others) == list(range(20))
        for result in results.values():
            with pytest.raises(Exception):  # noqa: B017, PT011 - each its own; the runs are counted below
                result.get(timeout=PATIENCE)
        counted = {row["_id"]: row["runs"] for row in database.outages.find({"runs": {"$exists": True}})}
        assert counted == dict.fromkeys(outages.OWN, 3)
        text = running.worker.text
        assert "circuit.opened" not in text
        assert "task.requeued" not in text
        assert text.count("task.retry") == 2 * len(outages.OWN)


def test_a_task_that_has_an_error_of_its_own_waits_in_an_outage_all_the_same(
    site: Site, database: Any
) -> None:
    with node(site, "fork") as running:
        running.wait_warm()
        result = running.send("fail", "stale", "")
        running.worker.wait_for_log(r"task\.retry: ", seconds=PATIENCE)
        site.mongo.kill()
        running.worker.wait_for_log(r"gate\.closed:", seconds=PATIENCE)
        site.mongo.start()
        with pytest.raises(Exception, match="No replica set members match selector"):
            result.get(timeout=PATIENCE)
        assert running.worker.text.count("task.retry") == 2


# -- a name that is looked up ----------------------------------------------------------------------


@pytest.fixture
def names(site: Site) -> Iterator[NameServer]:
    with NameServer(site.mongo.port) as server:
        yield server


def by_name(names: NameServer) -> dict[str, str]:
    return {
        "MONGODB_URI": f"mongodb+srv://{CLUSTER}/?tls=false",
        "OUTAGES_DNS": str(names.port),
        "MONGODB_CONNECT_TIMEOUT_MS": "2000",
    }


@pytest.mark.parametrize("answer", ["SERVFAIL", pytest.param("nothing", marks=pytest.mark.full)])
@pytest.mark.parametrize("kind", kinds("fork", full=["threads"]))
def test_a_dns_that_does_not_answer_is_an_outage_like_any_other(
    site: Site, database: Any, names: NameServer, kind: str, answer: str
) -> None:
    names.answer = answer
    with node(site, kind, by_name(names)) as running:
        results = [running.send("use", "update", key) for key in range(4)]
        running.worker.wait_for_log(r"circuit\.opened: MongoDB cannot be reached", seconds=PATIENCE)
        running.worker.wait_for_log(r"gate\.closed:", seconds=PATIENCE)
        status = Operator(environment(site, running, names)).json("status", code=2)
        assert status["verdict"] == "down", status
        names.answer = "well"
        assert values(results) == list(range(4))
        running.worker.wait_for_log(r"gate\.opened:", seconds=PATIENCE)
        text = running.worker.text
        assert "task.retry" not in text
        assert "pool.drift" not in text
        assert "Traceback" not in text


def environment(site: Site, running: Node, names: NameServer) -> dict[str, str]:
    return site.environment(deployment=running.deployment) | SETTINGS | by_name(names)


@pytest.mark.full
def test_children_that_are_recycled_while_the_dns_is_silent_wait_and_come_back(
    site: Site, database: Any, names: NameServer
) -> None:
    with node(site, "fork", by_name(names), worker_max_tasks_per_child=1) as running:
        assert values([running.send("use", "update", key) for key in range(2)]) == [0, 1]
        names.answer = "nothing"
        results = [running.send("use", "update", key) for key in range(8)]
        running.worker.wait_for_log(r"circuit\.opened: MongoDB cannot be reached", seconds=PATIENCE)
        running.worker.wait_for_log(r"gate\.closed:", seconds=PATIENCE)
        names.answer = "well"
        assert values(results) == list(range(8))
        assert "task.retry" not in running.worker.text


def test_a_name_that_does_not_exist_is_configuration_and_waits_for_a_person(
    site: Site, database: Any, names: NameServer
) -> None:
    names.answer = "NXDOMAIN"
    with node(site, "fork", by_name(names)) as running:
        result = running.send("use", "update", 1)
        message = r"circuit\.opened: the connection's settings do not fit MongoDB: .*does not exist"
        running.worker.wait_for_log(message, seconds=PATIENCE)
        names.answer = "well"
        assert values([result]) == [1]
        assert "task.retry" not in running.worker.text
