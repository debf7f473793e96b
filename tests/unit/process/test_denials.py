"""What MongoDB denies the user, as tasks meet it; texts are mongod 6.0.5's."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import Retry
from pymongo import errors

from worker.mongo.classify import denied
from worker.process.denials import QUIET_SECONDS, Denials, operation

INSERT = (
    'not authorized on shop to execute command { insert: "sales", ordered: true, lsid: { id: UUID("x") }, '
    'txnNumber: 1, $db: "shop" }'
)
FIND = 'not authorized on other to execute command { find: "x", filter: { secret: "s3cret" }, $db: "other" }'


def refusal(text: str = INSERT, code: int = 13) -> errors.OperationFailure:
    return errors.OperationFailure(text, code, {"code": code, "errmsg": text})


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (INSERT, "insert on shop.sales"),
        (FIND, "find on other.x"),
        ("not authorized on admin to execute command { serverStatus: 1, lsid: 1 }", "serverStatus on admin"),
        ("command find requires authentication", "find without a login"),
        ("Command insert requires authentication", "insert without a login"),
        ("user is not allowed to do action [update] on [app.orders]", ""),
    ],
)
def test_the_command_is_told_and_none_of_its_arguments(text: str, shown: str) -> None:
    assert operation(text) == shown


def test_what_was_denied_is_told_by_task_with_its_code_and_since_when() -> None:
    clock = Clock()
    denials = Denials(clock)
    for task, error in (("shop.write", refusal()), ("shop.read", refusal(FIND)), ("shop.write", refusal())):
        denials.note(task, error)
        clock.now += 5
    told = denials.report(clock.now)
    assert told == {
        "n": 3,
        "code": 13,
        "for": 15.0,
        "ago": 5.0,
        "tasks": {"shop.read": "find on other.x", "shop.write": "insert on shop.sales"},
    }
    assert "s3cret" not in repr(told)


def test_what_is_refused_is_told_by_its_most_frequent_code() -> None:
    clock, full = Clock(), {"code": 14_031, "codeName": "OutOfDiskSpace"}
    denials = Denials(clock)
    denials.note("shop.read", errors.OperationFailure("bad $s3cret", 2, {"code": 2, "codeName": "BadValue"}))
    for error in (
        errors.OperationFailure("no room", 14_031, full),
        errors.BulkWriteError({"writeErrors": [{"code": 14_031, "errmsg": "s3cret"}]}),
    ):
        denials.note("shop.write", error)
    clock.now += 4
    assert denials.report_refused(clock.now) == {
        "n": 2,
        "code": 14_031,
        "for": 4.0,
        "ago": 4.0,
        "tasks": {"shop.write": "OutOfDiskSpace"},
    }
    assert denials.report(clock.now) is None


@pytest.mark.parametrize(
    "error",
    [
        errors.DuplicateKeyError("E11000", 11_000, {"code": 11_000}),
        errors.NotPrimaryError("no primary", {"code": 10_107}),
        errors.OperationFailure("overloaded", 462, {"code": 462}),
        errors.ServerSelectionTimeoutError("nobody"),
        refusal(),
        ValueError("not MongoDB's"),
    ],
)
def test_what_waiting_mends_what_tasks_expect_and_what_is_denied_is_no_refusal(error: Exception) -> None:
    denials = Denials(Clock())
    denials.note("shop.write", error)
    assert denials.report_refused(100.0) is None


def test_what_is_past_is_not_told() -> None:
    clock = Clock()
    denials = Denials(clock)
    denials.note("shop.write", refusal())
    assert denials.report(clock.now + QUIET_SECONDS) is not None
    assert denials.report(clock.now + QUIET_SECONDS + 1) is None
    clock.now += QUIET_SECONDS + 1
    denials.note("shop.write", refusal())
    assert (denials.report(clock.now) or {})["for"] == 0.0


@pytest.mark.parametrize(
    "error",
    [
        refusal("Authentication failed.", 18),
        errors.DuplicateKeyError("x", 11000),
        errors.AutoReconnect("x"),
        ValueError("x"),
    ],
    ids=repr,
)
def test_other_errors_are_no_denials(error: Exception) -> None:
    assert denied(error) is None
    denials = Denials()
    denials.note("shop.write", error)
    assert denials.report(0.0) is None


def test_an_error_that_was_made_of_one_is_one() -> None:
    own = LookupError("not saved")
    own.__cause__ = refusal()
    assert denied(own) is denied(ExceptionGroup("several", [ValueError("x"), own]))
    assert denied(own) is own.__cause__


def test_both_ways_in_which_a_task_meets_it_are_heard() -> None:
    denials, task = Denials(Clock()), SimpleNamespace(name="shop.write")
    denials._failed(sender=task, exception=refusal())
    denials._retried(sender=task, reason=Retry("again", refusal()))
    denials._retried(sender=task, reason="a text")
    told: dict[str, Any] = denials.report(100.0) or {}
    assert told["n"] == 2


def test_a_process_remembers_so_many_and_names_few() -> None:
    denials = Denials(Clock())
    for number in range(500):
        denials.note(f"shop.task_{number:03}_" + "x" * 200, refusal())
    told: dict[str, Any] = denials.report(100.0) or {}
    assert told["n"] == 50
    assert len(told["tasks"]) == 3
    assert all(name.endswith("…") for name in told["tasks"])
