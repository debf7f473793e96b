"""Which commands of a task may have written."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from worker.tracking.listening import Errors
from worker.tracking.work import Work, current_work
from worker.tracking.writes import WriteCounter, is_refusal, is_write

NOT_PRIMARY = {"ok": 0, "errmsg": "not primary", "code": 10107}
LOST = {"errmsg": "connection closed", "errtype": "AutoReconnect"}


def counter(*running: Work) -> WriteCounter:
    return WriteCounter(lambda: running, errors=Errors(lambda *_record: None))


def event(name: str, failure: Any = None) -> Any:
    return SimpleNamespace(command_name=name, command={}, failure=failure)


@contextmanager
def at_work(work: Work) -> Iterator[Work]:
    token = current_work.set(work)
    try:
        yield work
    finally:
        current_work.reset(token)


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
        ("saslStart", {}, False),
        ("saslContinue", {}, False),
    ],
)
def test_what_is_not_known_to_be_a_read_is_a_write(name: str, command: dict[str, Any], writes: bool) -> None:
    assert is_write(name, command) is writes


@pytest.mark.parametrize(
    ("failure", "refused"),
    [
        (NOT_PRIMARY, True),
        ({"code": 13}, True),
        ({"code": 391}, True),
        (LOST, False),
        ({"code": 11602}, False),
        ({"code": 91}, False),
        ({"code": 50}, False),
        ({"code": 11602, "errorLabels": ["NoWritesPerformed"]}, True),
        ({"code": 462, "errorLabels": ["SystemOverloadedError", "RetryableError"]}, True),
        ({"code": 462, "errorLabels": ["RetryableError"]}, False),
    ],
    ids=repr,
)
def test_only_what_was_refused_before_it_began_has_certainly_written_nothing(
    failure: dict[str, Any], refused: bool
) -> None:
    assert is_refusal(failure) is refused


@pytest.mark.parametrize(
    ("failures", "writes"),
    [([NOT_PRIMARY, NOT_PRIMARY], 0), ([NOT_PRIMARY, LOST], 1), ([LOST, NOT_PRIMARY], 1), ([LOST, LOST], 2)],
)
def test_each_attempt_of_the_drivers_counts(failures: Sequence[Any], writes: int) -> None:
    """What is raised is the error of the last one: those before say as much."""
    seen = counter()
    with at_work(Work("shop.sell", "1", 0.0)) as work:
        for failure in failures:
            seen.started(event("update"))
            seen.failed(event("update", failure))
    assert work.writes == writes


def test_an_error_that_the_task_caught_is_not_made_up_for_by_a_read_that_was_refused() -> None:
    seen = counter()
    with at_work(Work("shop.sell", "1", 0.0)) as work:
        for name, failure in (("update", LOST), ("find", NOT_PRIMARY)):
            seen.started(event(name))
            seen.failed(event(name, failure))
    assert work.writes == 1


def test_a_write_counts_for_the_task_whose_thread_sends_it_alone() -> None:
    other = Work("shop.buy", "2", 0.0)
    with at_work(Work("shop.sell", "1", 0.0)) as work:
        for name in ("insert", "find", "insert"):
            counter(work, other).started(event(name))
    assert (work.writes, other.writes) == (2, 0)


def test_a_write_of_a_thread_that_no_task_owns_counts_for_all_that_run() -> None:
    """Whose it is nobody knows; that it was refused is not known of theirs either."""
    works = [Work("shop.sell", "1", 0.0), Work("shop.buy", "2", 0.0)]
    counter(*works).started(event("insert"))
    counter(*works).failed(event("insert", NOT_PRIMARY))
    assert [work.writes for work in works] == [1, 1]


def test_what_a_task_runs_within_itself_is_its_own() -> None:
    outer = Work("shop.sell", "1", 0.0)
    with at_work(Work("shop.buy", "2", 0.0, outer=outer)):
        counter().started(event("insert"))
    assert outer.writes == 1
