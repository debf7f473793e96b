"""A write takes effect once: with many threads, lost replies, and a server that is killed in between."""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError

from ops.local.servers import LocalServer
from tests.faults.proxy import FaultProxy
from tests.faults.route import Route
from worker.errors import MarkersFullError
from worker.mongo import once as module
from worker.mongo.once import Effect, once, run_once
from worker.tracking.work import Work, current_work

logger = logging.getLogger(__name__)

Data = Database[dict[str, Any]]
INC = {"$inc": {"n": 1}}
THREADS = 8
DEADLINE_SECONDS = 20.0


def client(uri: str, *, selection_seconds: float = 5.0) -> MongoClient[dict[str, Any]]:
    """A client with the write concern that the settings have by default."""
    selection = int(selection_seconds * 1000)
    return MongoClient(
        uri, w="majority", journal=True, heartbeatFrequencyMS=500, serverSelectionTimeoutMS=selection
    )


@pytest.fixture
def data(mongo: LocalServer) -> Iterator[Data]:
    """A database of the test's own."""
    with client(mongo.uri) as mongo_client:
        yield mongo_client[f"once{uuid4().hex[:8]}"]


@pytest.fixture
def route(mongo: LocalServer) -> Iterator[Route]:
    with FaultProxy() as proxy:
        yield proxy.route(mongo.uri)


@pytest.fixture
def through(route: Route, data: Data) -> Iterator[Data]:
    """The same database by way of the proxy, with a client that has connected."""
    with client(route.uri, selection_seconds=1.0) as proxied:
        proxied.admin.command("ping")
        yield proxied[data.name]


def add(data: Data, document_id: Any = 1) -> Callable[[ClientSession], object]:
    """A transaction's body: adds one to a counter."""

    def body(session: ClientSession) -> None:
        data.counts.update_one({"_id": document_id}, INC, upsert=True, session=session)

    return body


def count(data: Data, document_id: Any = 1) -> int:
    document = data.counts.find_one({"_id": document_id}) or {"n": 0}
    return int(document["n"])


def eventually(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def at_once(act: Callable[[int], Effect], times: int) -> Counter[Effect]:
    """Call act(0), act(1)… from many threads at once."""
    ready = threading.Barrier(THREADS)

    def run(thread: int) -> list[Effect]:
        ready.wait()
        return [act(number) for number in range(thread, times, THREADS)]

    with ThreadPoolExecutor(THREADS) as pool:
        return Counter(effect for effects in pool.map(run, range(THREADS)) for effect in effects)


def test_a_task_writes_once_and_another_task_writes_too(data: Data) -> None:
    data.counts.insert_one({"_id": 1, "n": 0})
    assert once(data.counts, {"_id": 1}, INC, task_id="a") is Effect.NOW
    assert once(data.counts, {"_id": 1}, INC, task_id="a") is Effect.BEFORE
    assert once(data.counts, {"_id": 1}, INC, task_id="b") is Effect.NOW
    assert count(data) == 2


def test_a_document_that_does_not_match_is_told_from_one_that_was_written_before(data: Data) -> None:
    data.counts.insert_one({"_id": 1, "state": "new"})
    paid = {"$set": {"state": "paid"}, "$inc": {"n": 1}}
    assert once(data.counts, {"_id": 1, "state": "lost"}, paid, task_id="a") is Effect.NONE
    assert once(data.counts, {"_id": 1, "state": "new"}, paid, task_id="a") is Effect.NOW
    assert once(data.counts, {"_id": 1, "state": "new"}, paid, task_id="a") is Effect.BEFORE
    assert once(data.counts, {"_id": 1, "state": "new"}, paid, task_id="b") is Effect.NONE


def test_an_upsert_makes_one_document_and_counts_once(data: Data) -> None:
    assert once(data.counts, {"_id": 1}, INC, task_id="a", upsert=True) is Effect.NOW
    assert once(data.counts, {"_id": 1}, INC, task_id="a", upsert=True) is Effect.BEFORE
    assert once(data.counts, {"_id": 1}, INC, task_id="b", upsert=True) is Effect.NOW
    assert [document["n"] for document in data.counts.find()] == [2]


def test_another_unique_key_that_is_taken_is_the_callers_error(data: Data) -> None:
    data.counts.create_index("email", unique=True)
    data.counts.insert_one({"_id": 1, "email": "x"})
    with pytest.raises(DuplicateKeyError):
        once(data.counts, {"_id": 2}, {"$set": {"email": "x"}}, task_id="a", upsert=True)


def test_markers_do_not_pile_up(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty weeks of one task a week leave those of the last two, and each was remembered for a week."""
    data.counts.insert_one({"_id": 1, "n": 0, "_once": {"a": ["t-1"]}})
    for number in range(40):
        now = number * module.REMEMBERED.total_seconds()
        monkeypatch.setattr("worker.mongo.once.time", SimpleNamespace(time=lambda now=now: now))
        assert once(data.counts, {"_id": 1}, INC, task_id=f"t{number}") is Effect.NOW
        assert once(data.counts, {"_id": 1}, INC, task_id=f"t{number - 1}") is Effect.BEFORE
    (document,) = data.counts.find()
    assert sorted(task for box in document["_once"].values() for task in box) == ["t38", "t39"]


@pytest.mark.parametrize("upsert", [False, True])
def test_fifty_deliveries_of_one_task_at_once_write_once(data: Data, upsert: bool) -> None:
    if not upsert:
        data.counts.insert_one({"_id": 1, "n": 0})
    effects = at_once(lambda _: once(data.counts, {"_id": 1}, INC, task_id="same", upsert=upsert), 50)
    assert effects == {Effect.NOW: 1, Effect.BEFORE: 49}
    assert count(data) == 1


def test_fifty_tasks_that_upsert_one_document_at_once_all_count(data: Data) -> None:
    """Two upserts of a new document meet: one inserts, the other has to update after all."""
    effects = at_once(lambda n: once(data.counts, {"_id": 1}, INC, task_id=f"t{n}", upsert=True), 50)
    assert effects == {Effect.NOW: 50}
    assert count(data) == 50


@pytest.mark.parametrize("upsert", [True, False])
def test_a_document_that_is_full_of_markers_takes_no_more_and_forgets_none(
    data: Data, monkeypatch: pytest.MonkeyPatch, upsert: bool
) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    data.counts.insert_one({"_id": 1, "n": 0})
    add = functools.partial(once, data.counts, {"_id": 1}, {"$inc": {"n": 1}}, upsert=upsert)
    assert [add(task_id=f"t{n}") for n in range(3)] == [Effect.NOW] * 3
    with pytest.raises(MarkersFullError, match="use run_once"):
        add(task_id="t3")
    assert [add(task_id=f"t{n}") for n in range(3)] == [Effect.BEFORE] * 3
    assert count(data) == 3


def test_a_transaction_runs_once_and_says_so(data: Data) -> None:
    def move(session: ClientSession) -> None:
        data.counts.update_one({"_id": "from"}, {"$inc": {"n": -1}}, upsert=True, session=session)
        data.counts.update_one({"_id": "to"}, {"$inc": {"n": 1}}, upsert=True, session=session)

    assert run_once(data, move, task_id="a") is Effect.NOW
    assert run_once(data, move, task_id="a") is Effect.BEFORE
    assert (count(data, "from"), count(data, "to")) == (-1, 1)


def test_a_body_that_raises_leaves_nothing_and_may_run_again(data: Data) -> None:
    def half(session: ClientSession) -> None:
        add(data)(session)
        raise KeyError("of the task's own")

    with pytest.raises(KeyError):
        run_once(data, half, task_id="a")
    assert data.counts.find_one() is None
    assert run_once(data, add(data), task_id="a") is Effect.NOW
    assert count(data) == 1


def test_markers_of_transactions_expire(data: Data) -> None:
    run_once(data, add(data), task_id="a")
    indexes = data["_once"].index_information().values()
    assert [index["key"] for index in indexes if index.get("expireAfterSeconds") == 0] == [[("until", 1)]]


def test_fifty_deliveries_of_one_transaction_at_once_write_once(data: Data) -> None:
    data.counts.insert_one({"_id": 1, "n": 0})
    effects = at_once(lambda _: run_once(data, add(data), task_id="same"), 50)
    assert effects == {Effect.NOW: 1, Effect.BEFORE: 49}
    assert count(data) == 1


def test_transactions_that_get_in_each_others_way_all_take_effect(data: Data) -> None:
    data.counts.insert_one({"_id": 1, "n": 0})
    effects = at_once(lambda number: run_once(data, add(data), task_id=f"t{number}"), 50)
    assert effects == {Effect.NOW: 50}
    assert count(data) == 50


def test_a_marker_that_a_failover_takes_back_is_no_marker(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_once(data, add(data), task_id="a")

    def rolled_back(markers: Any, names: list[str]) -> bool:
        data.counts.delete_many({})
        markers.delete_one({"_id": names[0]})
        return False

    monkeypatch.setattr(module, "_is_kept", rolled_back)
    assert run_once(data, add(data), task_id="a") is Effect.NOW
    assert count(data) == 1


@pytest.fixture
def work() -> Iterator[Work]:
    """A task that runs."""
    work = Work("shop.sell", "a", 0.0)
    token = current_work.set(work)
    yield work
    current_work.reset(token)


def test_a_task_and_the_one_that_replaces_it_write_once_each(data: Data, work: Work) -> None:
    """Under one id; the second has another name, or is the same task again."""
    for name, replaced in (("shop.sell", 0), ("shop.bonus", 1), ("shop.sell", 2)):
        work.name, work.replaced = name, replaced
        for expected in (Effect.NOW, Effect.BEFORE):
            assert once(data.counts, {"_id": 1}, INC, task_id="a", upsert=True) is expected
            assert run_once(data, add(data, 2), task_id="a") is expected
    assert (count(data, 1), count(data, 2)) == (3, 3)


ADD = {"$set": {"n": {"$add": [{"$ifNull": ["$n", 0]}, 1]}}}
PIPELINES: list[list[dict[str, Any]]] = [
    [ADD],
    [ADD, {"$unset": "old"}],
    [{"$replaceWith": {"_id": "$_id", "n": {"$add": [{"$ifNull": ["$n", 0]}, 1]}}}],
    [{"$replaceRoot": {"newRoot": {"$mergeObjects": [{"_id": "$_id", "n": 0}, {"n": "$n"}]}}}, ADD],
    [{"$project": {"n": 1}}, ADD],
    [{"$project": {"n": {"$add": [{"$ifNull": ["$n", 0]}, 1]}}}],
    [{"$project": {"old": 0}}, ADD],
]


@pytest.mark.parametrize("pipeline", PIPELINES, ids=str)
def test_a_pipeline_takes_effect_once_and_keeps_the_markers_of_others(
    data: Data, pipeline: list[dict[str, Any]]
) -> None:
    """Also where it makes a new document; by an upsert, too; and for a name that looks like a field."""
    names = ["$first", "second", "$$ROOT"]
    for expected in (Effect.NOW, Effect.BEFORE, Effect.BEFORE):
        for name in names:
            assert once(data.counts, {"_id": 1}, pipeline, task_id=name, upsert=True) is expected
    assert count(data) == len(names)
    assert once(data.counts, {"_id": 2}, pipeline, task_id="a") is Effect.NONE


@pytest.mark.parametrize("root", ["$missing", None])
def test_a_pipeline_that_the_server_refuses_changes_nothing(data: Data, root: Any) -> None:
    """Merged with the markers, what is no document would have been an empty one."""
    data.counts.insert_one({"_id": 1, "n": 7})
    with pytest.raises(OperationFailure):
        once(data.counts, {"_id": 1}, [{"$replaceWith": root}], task_id="a")
    assert data.counts.find_one({"_id": 1}) == {"_id": 1, "n": 7}


def test_threads_with_the_same_pipeline_write_once(data: Data) -> None:
    write = functools.partial(once, data.counts, {"_id": 1}, [ADD], task_id="a", upsert=True)
    with ThreadPoolExecutor(THREADS) as pool:
        effects = Counter(effect for effect in pool.map(lambda _: write(), range(THREADS)))
    assert (effects[Effect.NOW], effects[Effect.BEFORE], count(data)) == (1, THREADS - 1, 1)


@pytest.mark.usefixtures("work")
def test_the_marker_of_a_version_before_is_one(data: Data) -> None:
    """It wrote, and its message is delivered to this one."""
    data.counts.insert_one({"_id": 1, "n": 1, "_once": {"a": ["a"]}})
    data[module.MARK].insert_one({"_id": "a", "until": datetime.now(UTC) + timedelta(days=1)})
    assert once(data.counts, {"_id": 1}, INC, task_id="a") is Effect.BEFORE
    assert run_once(data, add(data, 2), task_id="a") is Effect.BEFORE
    assert (count(data, 1), count(data, 2)) == (1, 0)


def test_inserts_are_made_once_by_their_ids(data: Data) -> None:
    """The way for many inserts: no marker, but `_id`s that the task's id gives."""

    def insert(task_id: str) -> None:
        rows = [{"_id": f"{task_id}/{number}", "row": number} for number in range(10)]
        try:
            data.rows.insert_many(rows, ordered=False)
        except BulkWriteError as error:
            if any(part["code"] != 11000 for part in error.details["writeErrors"]):
                raise

    data.rows.insert_many([{"_id": f"a/{number}", "row": number} for number in range(4)])  # a run cut short
    insert("a")
    insert("a")
    assert data.rows.count_documents({}) == 10


def lose_the_reply(route: Route, is_written: Callable[[], object]) -> threading.Thread:
    """Hold the replies now; once the write is there, cut everything off before its reply."""
    route.half_open()

    def cut_off() -> None:
        eventually(is_written)
        route.refuse()
        route.reset()

    thread = threading.Thread(target=cut_off)
    thread.start()
    return thread


def recover(data: Data, route: Route) -> None:
    """Clear the route, and wait until the client has noticed."""

    def answers() -> bool:
        try:
            return bool(data.command("ping"))
        except PyMongoError:
            return False

    route.clear()
    assert eventually(answers)


def test_a_commit_whose_result_is_unknown_is_known_at_the_next_run(
    data: Data, through: Data, route: Route
) -> None:
    threads: list[threading.Thread] = []

    def body(session: ClientSession) -> None:
        add(through)(session)
        threads.append(lose_the_reply(route, lambda: data["_once"].find_one({"_id": "a"})))

    with pytest.raises(PyMongoError) as caught:
        run_once(through, body, task_id="a")
    threads[0].join()
    assert caught.value.has_error_label("UnknownTransactionCommitResult")
    recover(through, route)
    assert run_once(through, add(through), task_id="a") is Effect.BEFORE
    assert count(data) == 1


def test_an_update_whose_reply_is_lost_is_known_at_the_next_run(
    data: Data, through: Data, route: Route
) -> None:
    data.counts.insert_one({"_id": 1, "n": 0})
    thread = lose_the_reply(route, lambda: count(data))
    with pytest.raises(PyMongoError):
        once(through.counts, {"_id": 1}, INC, task_id="a")
    thread.join()
    recover(through, route)
    assert once(through.counts, {"_id": 1}, INC, task_id="a") is Effect.BEFORE
    assert count(data) == 1


def test_an_outage_is_raised_soon_and_nothing_is_written(data: Data, through: Data, route: Route) -> None:
    """Not after the two minutes of with_transaction()."""
    route.refuse()
    route.reset()
    began = time.monotonic()
    with pytest.raises(PyMongoError):
        run_once(through, add(through), task_id="a")
    with pytest.raises(PyMongoError):
        once(through.counts, {"_id": 1}, INC, task_id="a", upsert=True)
    assert time.monotonic() - began < 60
    assert count(data) == 0


class Deliveries:
    """A broker of sorts: a delivery that ends in an error is made again, and one in three anyway."""

    def __init__(self, data: Data, tasks: int) -> None:
        self.data = data
        self.failed = 0
        self.done: set[int] = set()
        self.waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in [*range(tasks), *range(0, tasks, 3)]:
            self.waiting.put(number)

    def has_done(self, count: int) -> bool:
        return len(self.done) >= count

    def work(self) -> None:
        while True:
            try:
                number = self.waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self.deliver(number)
            except PyMongoError:
                self.failed += 1
                self.waiting.put(number)

    def deliver(self, number: int) -> None:
        data, place, task_id = self.data, number % 5, f"task-{number}"
        if number not in self.done:  # the raw one is asked of what a kill does to it, and nothing else
            data.raw.update_one({"_id": place}, INC, upsert=True)
        once(data.marked, {"_id": place}, INC, task_id=task_id, upsert=True)
        run_once(data, add(data, place), task_id=task_id)
        self.done.add(number)


@pytest.mark.timeout(120)
def test_a_server_that_is_killed_again_and_again_doubles_and_loses_nothing(
    mongo: LocalServer, data: Data
) -> None:
    """What a bare `$inc` doubles in the same run is in the log."""
    tasks, kills = 180, 6
    deliveries = Deliveries(data, tasks)
    threads = [threading.Thread(target=deliveries.work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(kills):
        wanted = (number + 1) * tasks // (kills + 2)
        assert eventually(functools.partial(deliveries.has_done, wanted))
        mongo.kill()
        mongo.start()
    for thread in threads:
        thread.join()

    def total(name: str) -> int:
        return sum(document["n"] for document in data[name].find())

    message = "%d kills, %d deliveries failed; of %d a bare $inc counted %d"
    logger.info(message, kills, deliveries.failed, tasks, total("raw"))
    assert deliveries.failed >= 1
    assert (total("marked"), total("counts")) == (tasks, tasks)
