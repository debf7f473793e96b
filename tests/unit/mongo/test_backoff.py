"""The delays between attempts."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.mongo.backoff import Backoff

# No deadline: a machine that is busy with other things is no fault.
QUICK = settings(max_examples=50, deadline=None)

SECONDS = st.floats(min_value=0.001, max_value=3600, allow_nan=False)
FAILURES = st.integers(min_value=0, max_value=10**9)


@QUICK
@given(base=SECONDS, cap=SECONDS, failures=FAILURES)
def test_a_ceiling_is_finite_and_never_above_the_cap(base: float, cap: float, failures: int) -> None:
    ceiling = Backoff(base, cap).ceiling(failures)
    assert 0 < ceiling <= cap
    assert math.isfinite(ceiling)


@QUICK
@given(base=SECONDS, cap=SECONDS, failures=FAILURES)
def test_a_ceiling_never_falls_from_one_failure_to_the_next(base: float, cap: float, failures: int) -> None:
    backoff = Backoff(base, cap)
    assert backoff.ceiling(failures + 1) >= backoff.ceiling(failures)


@QUICK
@given(base=SECONDS, cap=SECONDS, failures=FAILURES)
def test_a_delay_lies_between_nothing_and_the_ceiling(base: float, cap: float, failures: int) -> None:
    backoff = Backoff(base, cap)
    assert 0 <= backoff.delay(failures) <= backoff.ceiling(failures)


def test_a_ceiling_doubles_from_the_base_to_the_cap() -> None:
    backoff = Backoff(base=0.5, cap=30)
    assert [backoff.ceiling(n) for n in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_the_jitter_is_full() -> None:
    """The whole range from 0 is asked for, not a part of it around the ceiling."""
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    assert Backoff(base=1, cap=10).delay(2, uniform) == 4
    assert asked == [(0.0, 4.0)]
