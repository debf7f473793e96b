"""What the benchmark of outages makes of the runs of tasks."""

import pytest

from ops.benchmarks.outage import Line, Outage, assess
from ops.benchmarks.site import MeasurementError

SECOND = 10**9
AWAY = Outage(10 * SECOND, 18 * SECOND)


def line(number: int, began: float, ended: float, state: str = "SUCCESS") -> Line:
    return Line(number, int(began * SECOND), int(ended * SECOND), state)


def test_an_outage_is_told_by_what_its_runs_took_and_when_they_came_back() -> None:
    lines = [
        line(0, 8.0, 9.0),  # before
        line(1, 9.0, 12.0, "REJECTED"),  # 2 s of it since the fault
        line(1, 18.5, 19.0),  # begun when another was done
        line(2, 16.0, 18.25),  # all of it since the fault; the first to succeed
        line(3, 17.0, 18.1, "RETRY"),
        line(3, 20.0, 21.0, "FAILURE"),
    ]
    found = assess(lines, AWAY, tasks=4, processes=2)
    assert found.failed == 1
    assert found.blocked_seconds == pytest.approx((2 + 2.25 + 1.1) / 2)
    assert found.deliveries == pytest.approx(6 / 4)
    assert (found.primary_seconds, found.first_seconds, found.last_seconds) == (8.0, 0.25, 1.0)


def test_a_task_that_wrote_before_the_new_primary_is_not_the_first_after_it() -> None:
    found = assess([line(0, 9.0, 18.005), line(1, 9.0, 18.3)], AWAY, tasks=2, processes=1)
    assert found.first_seconds == pytest.approx(0.3)


def test_without_a_success_after_it_there_is_nothing_to_tell() -> None:
    with pytest.raises(MeasurementError):
        assess([line(0, 8.0, 9.0)], AWAY, tasks=1, processes=1)
