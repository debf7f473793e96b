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
        line(1, 9.0, 12.0, "REJECTED"),  # 2 s of it in the outage
        line(1, 18.5, 19.0),
        line(2, 16.0, 18.25),  # 2 s likewise; the first to succeed
        line(3, 17.0, 18.1, "RETRY"),
        line(3, 20.0, 21.0, "FAILURE"),
    ]
    found = assess(lines, AWAY, tasks=4, processes=2)
    assert found.failed == 1
    assert found.blocked == pytest.approx((2 + 2 + 1) / (2 * 8))
    assert found.deliveries == pytest.approx(6 / 4)
    assert (found.first_seconds, found.last_seconds) == (0.25, 1.0)


def test_without_a_success_after_it_there_is_nothing_to_tell() -> None:
    with pytest.raises(MeasurementError):
        assess([line(0, 8.0, 9.0)], AWAY, tasks=1, processes=1)
