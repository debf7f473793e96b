"""A client is replaced while operations run on it: what they see."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pymongo
import pytest

from ops.local.servers import LocalServer
from tests.e2e.workers import wait_until
from worker.mongo.classify import ErrorClass, classify
from worker.mongo.holder import ClientHolder

THREADS = 4


@pytest.fixture
def holder(mongo: LocalServer) -> Iterator[ClientHolder]:
    def build() -> pymongo.MongoClient[dict[str, Any]]:
        return pymongo.MongoClient(mongo.uri, serverSelectionTimeoutMS=10_000)

    made = ClientHolder(build)
    made.get().app.replaced.drop()
    made.get().app.replaced.insert_many([{"_id": number} for number in range(300)])
    yield made
    made.close()


def read(client: pymongo.MongoClient[dict[str, Any]]) -> Any:
    return client.app.replaced.find_one({"_id": 7})


def has_done(done: list[int], enough: int) -> bool:
    return sum(done) > enough


def in_use(client: Any) -> int:
    return sum(server.pool.active_sockets for server in client._topology._servers.values())


def test_an_operation_that_runs_ends_on_the_old_client_as_it_would_have(
    holder: ClientHolder, mongo: LocalServer
) -> None:
    old = holder.get()
    with ThreadPoolExecutor(1) as pool:
        mongo.suspend()
        try:
            running = pool.submit(read, old)
            wait_until(lambda: in_use(old) == 1, what="an operation that waits for its answer")
            started = time.monotonic()
            assert holder.replace()
            assert time.monotonic() - started < 15
            assert not running.done()
        finally:
            mongo.resume()
        assert running.result(timeout=20) == {"_id": 7}
    assert holder.get() is not old
    assert read(holder.get()) == {"_id": 7}


def test_the_next_operation_on_the_old_client_fails_as_one_that_is_run_again(holder: ClientHolder) -> None:
    old = holder.get()
    cursor = old.app.replaced.find(batch_size=10)
    next(cursor)
    holder.replace()
    for operation in (lambda: list(cursor), lambda: read(old)):
        with pytest.raises(pymongo.errors.InvalidOperation) as caught:
            operation()
        assert classify(caught.value) is ErrorClass.CLOSED
        assert classify(caught.value).is_transient


def test_whoever_asks_meanwhile_gets_a_client_that_works_or_an_error_that_says_to_ask_again(
    holder: ClientHolder,
) -> None:
    done, errors, stopping = [0] * THREADS, [], threading.Event()

    def work(number: int) -> None:
        while not stopping.is_set():
            try:
                assert read(holder.get()) == {"_id": 7}
                done[number] += 1
            except Exception as error:  # noqa: BLE001 - every kind is looked at below
                errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        enough = sum(done) + THREADS
        wait_until(partial(has_done, done, enough), what="some operations")
        assert holder.replace()
    stopping.set()
    for thread in threads:
        thread.join(20)
    assert min(done) > 0
    assert {classify(error) for error in errors} <= {ErrorClass.CLOSED}
