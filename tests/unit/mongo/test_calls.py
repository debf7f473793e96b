"""One operation, tried again within attempts and time."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo import _csot, errors

from worker.mongo import calls
from worker.mongo.calls import Limits, bounded
from worker.mongo.classify import classify, driver_attempts

# No deadline: a machine that is busy with other things is no fault.
QUICK = settings(max_examples=50, deadline=None)

FOREVER = Limits(asked=None, left=None, driver=30)
SECONDS = st.floats(min_value=-5, max_value=1000, allow_nan=False)


def overloaded() -> errors.PyMongoError:
    error = errors.AutoReconnect("handshake timed out")
    error._add_error_label("SystemOverloadedError")
    error._add_error_label("RetryableError")
    return error


ERRORS: dict[str, Callable[[], Exception]] = {
    "refused": lambda: errors.AutoReconnect("refused"),
    "selection": lambda: errors.ServerSelectionTimeoutError("nobody"),
    "election": lambda: errors.NotPrimaryError("not primary"),
    "overload": overloaded,
    "closed": lambda: errors.InvalidOperation("Cannot use MongoClient after close"),
    "duplicate": lambda: errors.DuplicateKeyError("dup key", 11000),
    "auth": lambda: errors.OperationFailure("bad auth", 18),
    "foreign": lambda: ValueError("not MongoDB's"),
}
OUTCOMES = st.lists(st.sampled_from(["ok", *ERRORS]), min_size=1, max_size=8)


class World:
    """A clock that sleeping and working move, and an operation that ends as it is told."""

    def __init__(self, *outcomes: str, works_seconds: float = 0.0) -> None:
        self.now = 1000.0
        self.works_seconds = works_seconds
        self.outcomes = list(outcomes)
        self.raised: list[BaseException] = []
        self.seen: list[BaseException] = []
        self.began: list[float] = []
        self.slept: list[float] = []
        self.deadlines: list[float | None] = []

    def operation(self) -> str:
        self.began.append(self.now)
        self.deadlines.append(_csot.remaining())
        self.now += self.works_seconds
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome != "ok":
            self.raised.append(ERRORS[outcome]())
            raise self.raised[-1]
        return "result"

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def call(self, *, attempts: int = 3, limits: Limits = FOREVER) -> str:
        return calls.call(
            self.operation,
            attempts=attempts,
            limits=limits,
            observe=self.seen.append,
            sleep=self.sleep,
            clock=lambda: self.now,
        )


def end(world: World, **options: Any) -> BaseException | None:
    try:
        assert world.call(**options) == "result"
    except (errors.PyMongoError, ValueError) as error:
        return error
    return None


@QUICK
@given(OUTCOMES, st.integers(min_value=1, max_value=10))
def test_no_attempt_begins_once_the_attempts_are_spent(outcomes: list[str], attempts: int) -> None:
    """The driver's own attempts count: they add up and do not multiply."""
    world = World(*outcomes)
    end(world, attempts=attempts)
    spent = [driver_attempts(error) for error in world.raised]
    for number in range(1, len(world.began)):
        assert sum(spent[:number]) < attempts


@QUICK
@given(OUTCOMES, st.integers(min_value=1, max_value=10), SECONDS, st.floats(min_value=0, max_value=3))
def test_no_attempt_begins_and_nothing_is_slept_past_the_deadline(
    outcomes: list[str], attempts: int, deadline: float, works: float
) -> None:
    world = World(*outcomes, works_seconds=works)
    end(world, attempts=attempts, limits=Limits(asked=deadline, left=None, driver=30))
    assert all(began < 1000 + deadline for began in world.began[1:])
    assert sum(world.slept) <= max(0, deadline)


@QUICK
@given(OUTCOMES, st.integers(min_value=1, max_value=10))
def test_the_error_raised_is_the_operations_own_last_one(outcomes: list[str], attempts: int) -> None:
    world = World(*outcomes)
    error = end(world, attempts=attempts)
    assert error is (world.raised[-1] if error else None)
    assert world.seen == world.raised


@QUICK
@given(OUTCOMES)
def test_only_transient_errors_are_tried_again(outcomes: list[str]) -> None:
    world = World(*outcomes)
    end(world, attempts=10)
    assert all(classify(error).is_transient for error in world.raised[:-1])


@QUICK
@given(OUTCOMES)
def test_a_delay_is_full_jitter_from_a_tenth_of_a_second_to_two(outcomes: list[str]) -> None:
    world = World(*outcomes)
    end(world, attempts=20)
    assert all(0 <= delay <= min(2, 0.1 * 2**n) for n, delay in enumerate(world.slept))


def test_a_success_is_returned_without_a_delay() -> None:
    world = World("ok")
    assert world.call() == "result"
    assert (world.slept, world.seen) == ([], [])


@pytest.mark.parametrize(
    ("outcome", "began"),
    [("refused", 3), ("election", 2), ("overload", 1), ("duplicate", 1), ("auth", 1), ("foreign", 1)],
)
def test_three_attempts_are_made_of_what_the_driver_left_over(outcome: str, began: int) -> None:
    world = World(outcome)
    assert end(world) is world.raised[-1]
    assert len(world.began) == began


def test_an_operation_that_works_the_second_time_succeeds() -> None:
    world = World("refused", "ok")
    assert world.call() == "result"
    assert len(world.slept) == 1


def test_each_attempt_has_what_is_left_of_the_deadline() -> None:
    world = World("refused", "refused", "ok", works_seconds=2.0)
    world.call(limits=Limits(asked=20, left=None, driver=30))
    first, second, third = (remaining or 0 for remaining in world.deadlines)
    assert first > second > third > 10


def test_without_a_deadline_the_drivers_limits_serve() -> None:
    world = World("refused", "ok")
    world.call()
    assert world.deadlines == [None, None]


def test_a_time_that_is_over_still_gives_one_attempt_with_hardly_any_time() -> None:
    """timeout(0) would be no limit at all."""
    world = World("refused")
    end(world, limits=Limits(asked=None, left=-1.0, driver=30))
    assert len(world.began) == 1
    assert world.deadlines[0] is not None
    assert world.deadlines[0] <= 0.001


@pytest.mark.parametrize("attempts", [0, -1])
def test_fewer_attempts_than_one_are_refused(attempts: int) -> None:
    with pytest.raises(ValueError, match=f"attempts must be at least 1, not {attempts}"):
        World("ok").call(attempts=attempts)


def test_what_ends_a_process_is_not_caught() -> None:
    def leave() -> None:
        raise SystemExit(3)

    seen: list[BaseException] = []
    with pytest.raises(SystemExit):
        calls.call(leave, limits=FOREVER, observe=seen.append)
    assert seen == []


def test_what_nobody_observes_is_still_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        calls.call(lambda: 1 / 0, limits=FOREVER)


@pytest.mark.parametrize(
    ("asked", "left", "deadline"),
    [
        (None, None, None),
        (None, 200.0, None),  # a long time limit would become the selection timeout
        (None, 30.0, None),
        (None, 29.0, 29.0),
        (5.0, None, 5.0),
        (5.0, 200.0, 5.0),
        (60.0, 10.0, 10.0),
        (None, -1.0, -1.0),
    ],
)
def test_a_deadline_is_set_only_where_asked_for_or_shorter_than_the_drivers_limits(
    asked: float | None, left: float | None, deadline: float | None
) -> None:
    assert Limits(asked=asked, left=left, driver=30).deadline == deadline


@QUICK
@given(st.none() | SECONDS, st.none() | SECONDS, st.floats(min_value=0.1, max_value=100))
def test_a_deadline_is_never_later_than_what_was_asked_or_is_left(
    asked: float | None, left: float | None, driver: float
) -> None:
    deadline = Limits(asked=asked, left=left, driver=driver).deadline
    effective = driver if deadline is None else deadline
    assert asked is None or effective <= asked
    assert left is None or effective <= left


def test_bounded_nests_and_restores() -> None:
    with bounded(5), bounded(None):
        assert _csot.remaining() == pytest.approx(5, abs=1)
    assert _csot.remaining() is None
