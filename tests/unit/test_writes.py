"""Whether a task that failed has certainly written nothing."""

from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import errors

from worker.mongo.listening import Errors
from worker.mongo.work import Work, current_work
from worker.mongo.writes import WriteCounter, has_written_nothing, is_write

NOBODY = errors.ServerSelectionTimeoutError("nobody")
RESET = errors.AutoReconnect("reset")
NOT_PRIMARY = errors.NotPrimaryError("not primary", {"code": 10107})


@pytest.mark.parametrize(
    ("name", "command", "writes"),
    [
        ("find", {}, False),
        ("getMore", {}, False),
        ("aggregate", {"pipeline": [{"$match": {}}]}, False),
        ("aggregate", {"pipeline": [{"$match": {}}, {"$merge": "there"}]}, True),
        ("aggregate", {"pipeline": [{"$out": "there"}]}, True),
        ("insert", {}, True),
        ("findAndModify", {}, True),
        ("commitTransaction", {}, True),
        ("somethingNew", {}, True),
    ],
)
def test_what_is_not_known_to_be_a_read_is_a_write(name: str, command: dict[str, Any], writes: bool) -> None:
    assert is_write(name, command) is writes


@pytest.mark.parametrize(
    ("sent", "failed", "error", "is_safe"),
    [
        (0, 0, NOBODY, True),
        (0, 0, RESET, False),
        (1, 0, NOBODY, False),
        (1, 1, NOBODY, False),
        (1, 1, NOT_PRIMARY, True),
        (1, 1, RESET, False),
        (2, 1, NOT_PRIMARY, False),
        (2, 2, NOT_PRIMARY, False),
    ],
)
def test_only_a_refused_write_or_none_at_all_may_be_done_again(
    sent: int, failed: int, error: Exception, is_safe: bool
) -> None:
    work = Work("shop.sell", "1", 0.0)
    work.writes_sent, work.writes_failed = sent, failed
    assert has_written_nothing(work, error) is is_safe


def test_where_nobody_counted_nothing_is_certain() -> None:
    assert not has_written_nothing(None, NOBODY)


def test_writes_count_for_the_task_whose_thread_sends_them() -> None:
    counter = WriteCounter(errors=Errors(lambda *_record: None))
    insert: Any = SimpleNamespace(command_name="insert", command={})
    find: Any = SimpleNamespace(command_name="find", command={})
    counter.started(insert)
    work = Work("shop.sell", "1", 0.0)
    token = current_work.set(work)
    try:
        for event in (insert, find, insert):
            counter.started(event)
        counter.failed(insert)
        counter.failed(find)
    finally:
        current_work.reset(token)
    assert (work.writes_sent, work.writes_failed) == (2, 1)
