"""What a task has written, as it counts itself, against a real server and a network that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pymongo
import pytest
from pymongo import InsertOne, MongoClient
from pymongo.errors import PyMongoError

from ops.local.servers import LocalServer
from tests.faults.proxy import FaultProxy
from tests.faults.route import Route
from worker.tracking.listening import Errors
from worker.tracking.work import Work, current_work
from worker.tracking.writes import WriteCounter

Client = MongoClient[dict[str, Any]]


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work("shop.sell", "1", 0.0)
    token = current_work.set(work)
    yield work
    current_work.reset(token)


@pytest.fixture
def route(mongo: LocalServer) -> Iterator[Route]:
    with FaultProxy() as proxy:
        yield proxy.route(mongo.uri)


@pytest.fixture
def client(route: Route, work: Work) -> Iterator[Client]:
    """Has a connection already."""
    counter = WriteCounter(lambda: [work], errors=Errors(lambda *_record: None))
    with Client(
        route.uri, event_listeners=[counter], heartbeatFrequencyMS=500, serverSelectionTimeoutMS=1000
    ) as client:
        client.admin.command("ping")
        yield client


@pytest.fixture
def fail_with(mongo_client: Client) -> Iterator[Callable[..., None]]:
    def fail(command: str, times: int | None, **how: Any) -> None:
        mode = "alwaysOn" if times is None else {"times": times}
        data = {"failCommands": [command], **how}
        mongo_client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})

    yield fail
    mongo_client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def fails(act: Callable[[], object]) -> None:
    with pytest.raises(PyMongoError), pymongo.timeout(1.0):
        act()


@pytest.mark.parametrize("is_write", [False, True])
def test_a_write_without_a_reply_counts_and_a_read_does_not(
    client: Client, route: Route, work: Work, is_write: bool
) -> None:
    """The second attempt of the driver's gets no connection, so it sends nothing."""
    counts = client.app.counts
    route.half_open()
    fails(lambda: counts.insert_one({}) if is_write else counts.find_one({}))
    route.clear()
    assert work.writes == is_write


def test_a_reply_that_is_lost_counts(client: Client, work: Work, fail_with: Callable[..., None]) -> None:
    fail_with("insert", 2, closeConnection=True)
    with pytest.raises(PyMongoError):
        client.app.counts.insert_one({})
    assert work.writes == 2


def test_what_is_not_sent_does_not_count(client: Client, route: Route, work: Work) -> None:
    route.refuse()
    route.reset()
    fails(client.app.counts.find_one)
    fails(lambda: client.app.counts.insert_one({}))
    assert work.writes == 0


def test_a_server_that_refuses_each_attempt_has_written_nothing(
    client: Client, work: Work, fail_with: Callable[..., None]
) -> None:
    # Of so many a driver would soon be through: what mongod answers is of an old topology, and is ignored.
    fail_with("insert", None, errorCode=10107)
    fails(lambda: client.app.counts.insert_one({}))
    assert work.writes == 0


def test_bulk_writes_and_transactions_count(client: Client, work: Work) -> None:
    client.app.counts.bulk_write([InsertOne({}), InsertOne({})])
    assert work.writes == 1
    with client.start_session() as session, session.start_transaction():
        client.app.counts.insert_one({}, session=session)
    assert work.writes == 3


def test_a_thread_that_the_task_started_counts(client: Client, work: Work) -> None:
    thread = threading.Thread(target=lambda: client.app.counts.insert_one({}))
    thread.start()
    thread.join()
    assert work.writes == 1
