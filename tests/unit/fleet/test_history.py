"""What the history refuses, skips and says before it asks a server."""

import logging
from typing import Any

import pytest
import redis
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from worker.fleet.history import SNAPSHOT_BYTES, Entry, History, _entry, _insert, _order, collection_name
from worker.fleet.registry import TooLargeError


class Refusing:
    """A collection whose every operation fails, and counts."""

    full_name = "celery_pymongo.history_default"

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def create_index(self, *_keys: Any, **_options: Any) -> None:
        self.asked += 1
        raise self.error


class Empty:
    """A stream and a collection with nothing in them."""

    full_name = "celery_pymongo.history_default"

    def create_index(self, *_keys: Any, **_options: Any) -> None: ...

    def find_one(self, *_query: Any, **_options: Any) -> None: ...

    def xrange(self, *_range: Any) -> list[Any]:
        return []


class Racing:
    """A collection that another process fills at the same moment."""

    def __init__(self, *codes: int) -> None:
        self.codes = codes

    def find(self, *_query: Any) -> list[Any]:
        return []

    def insert_many(self, documents: list[Any], *, ordered: bool) -> None:
        assert ordered
        errors = [{"index": 1, "code": code} for code in self.codes]
        raise BulkWriteError({"writeErrors": errors, "nInserted": len(documents) - 2})


class Clock:
    """A clock that is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(*parts: str | int) -> str:
    return ":".join(map(str, parts))


def history(*, days: int = 30, clock: Any = None) -> History:
    """Its client would fail the test where it connected."""
    return History(redis.Redis(), key, days=days, clock=clock or Clock())


def test_an_id_is_ordered_by_its_numbers() -> None:
    ids = ["1700000000000-10", "1700000000000-9", "999-3", "1700000000001-0"]
    assert sorted(ids, key=_order) == ["999-3", "1700000000000-9", "1700000000000-10", "1700000000001-0"]


def test_an_entry_has_the_time_of_its_id() -> None:
    found = _entry("history", b"1700000000123-4", {b"snapshot": b'{"seen":3}'})
    assert found == Entry("1700000000123-4", 1700000000.123, {"seen": 3})


def test_a_collection_is_named_after_its_deployment() -> None:
    assert collection_name("shop.prod-1") == "history_shop.prod-1"


def test_a_snapshot_that_is_too_large_is_refused() -> None:
    with pytest.raises(TooLargeError, match=str(SNAPSHOT_BYTES)):
        history().append({"nodes": "x" * SNAPSHOT_BYTES})


def test_no_days_ask_mongodb_for_nothing() -> None:
    collection = Refusing(AssertionError())
    assert history(days=0).backfill(collection) == 0
    assert collection.asked == 0


def test_missing_privileges_are_told_once_and_tried_again_each_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    kept, collection = history(clock=clock), Refusing(OperationFailure("of user:secret", 13))
    for seconds in range(0, 150, 10):
        clock.now = 1000.0 + seconds
        assert kept.backfill(collection) == 0
    assert collection.asked == 3
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("history.refused: ")
    assert "OperationFailure, code 13" in record.getMessage()
    assert "secret" not in record.getMessage()


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("x"),
        NetworkTimeout("x"),
        OperationFailure("x", 50),
        OperationFailure("Authentication failed.", 18),
        ServerSelectionTimeoutError("Authentication failed., full error: {'code': 18, 'codeName': 'x'}"),
        ServerSelectionTimeoutError("h:1: [SSL] certificate verify failed: certificate has expired"),
    ],
)
def test_an_outage_is_not_told_here_and_tried_again_at_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="celery_pymongo")
    kept, collection = history(), Refusing(error)
    for _ in range(3):
        assert kept.backfill(collection) == 0
    assert collection.asked == 3
    assert caplog.records == []


def test_what_is_refused_again_after_it_was_allowed_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    clock, there = Clock(), Empty()
    client: Any = there
    kept = History(client, key, days=30, clock=clock)
    for allowed in (False, True, False):
        clock.now += 4000
        kept._indexed = None
        kept.backfill(there if allowed else Refusing(OperationFailure("x", 13)))
    assert len(caplog.records) == 2


def entries(number: int) -> list[Entry]:
    return [Entry(f"{n}-0", n / 1000, {}) for n in range(number)]


def test_where_another_process_inserts_the_rest_is_its() -> None:
    assert _insert(Racing(11_000), entries(5)) == 3


def test_what_the_server_refuses_of_a_batch_is_an_error() -> None:
    with pytest.raises(BulkWriteError):
        _insert(Racing(121), entries(5))
