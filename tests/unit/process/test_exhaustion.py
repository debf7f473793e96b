"""Operations that got no connection in time are said as they happen, and not again for a minute."""

import logging
from typing import Any

import pytest

from worker.events import Event
from worker.process.exhaustion import PAUSE_SECONDS, Exhaustion
from worker.tracking.task_times import TasksTimes


def totals(timeouts: int) -> dict[str, Any]:
    """Of a process whose pool of the primary is full, and which reads from the others."""
    servers = {"a:1": [3, 3, 0], "b:1": [3, 3, 5], "c:1": [2, 1, 0]}
    return {"count": {"timeouts": timeouts}, "pool": {"in_use": 7, "max": 3}, "servers": servers}


def said(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if getattr(record, "event", "") == Event.POOL_EXHAUSTED]


def test_what_is_new_is_said_once_a_minute_with_the_tasks_that_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    exhaustion, tasks = Exhaustion(), TasksTimes()
    exhaustion.look(0, totals(0), tasks)
    assert said(caplog) == []
    tasks["shop.sell"].failed = 2
    exhaustion.look(2, totals(2), tasks)
    exhaustion.look(4, totals(5), tasks)
    exhaustion.look(4 + PAUSE_SECONDS, totals(5), tasks)
    exhaustion.look(6 + 2 * PAUSE_SECONDS, totals(5), tasks)
    first, second = said(caplog)
    assert first.fields == {"count": 2, "server": "b:1", "in_use": 3, "max": 3, "tasks": ["shop.sell"]}
    assert second.fields["count"] == 3
    assert (
        "2 operations got no connection in time; 3 of 3 to b:1 are in use; of tasks: shop.sell"
        in first.message
    )


def test_counters_that_begin_anew_are_no_timeouts(caplog: pytest.LogCaptureFixture) -> None:
    exhaustion = Exhaustion()
    exhaustion.look(0, totals(5), {})
    exhaustion.look(2 * PAUSE_SECONDS, totals(0), {})
    assert len(said(caplog)) == 1
    exhaustion.look(4 * PAUSE_SECONDS, totals(1), {})
    assert [record.fields["count"] for record in said(caplog)] == [5, 1]
