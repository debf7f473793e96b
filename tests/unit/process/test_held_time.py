"""Which task holds the connections: of the last minute, with what is held now."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from worker.process.held_time import WINDOW_SECONDS, HeldTime
from worker.tracking.task_times import TasksTimes


def held(tasks: TasksTimes, task: str, seconds: float, times: int = 1) -> None:
    tasks[task].held += seconds
    tasks[task].checkouts += times


def holder(task: str, since: float) -> Any:
    return SimpleNamespace(work=SimpleNamespace(name=task), since=since)


def test_the_task_that_held_most_is_told_with_its_share() -> None:
    times, tasks = HeldTime(), TasksTimes()
    assert times.report(100.0, tasks, []) is None
    held(tasks, "shop.report", 40.0, 20)
    held(tasks, "shop.sell", 10.0, 1000)
    assert times.report(110.0, tasks, []) == {"task": "shop.report", "seconds": 40.0, "n": 20, "of": 50.0}


def test_what_is_held_now_counts_until_now() -> None:
    times, tasks = HeldTime(), TasksTimes()
    times.report(100.0, tasks, [])
    told = times.report(104.0, tasks, [holder("shop.report", 101.0), holder("shop.report", 90.0)])
    assert told == {"task": "shop.report", "seconds": 7.0, "n": 2, "of": 7.0}


def test_short_holds_and_those_of_more_than_a_minute_ago_are_no_news() -> None:
    times, tasks = HeldTime(), TasksTimes()
    times.report(100.0, tasks, [])
    held(tasks, "shop.sell", 30.0, 1000)
    assert times.report(106.0, tasks, []) is None
    held(tasks, "shop.report", 50.0, 10)
    assert (times.report(112.0, tasks, []) or {})["task"] == "shop.report"
    for moment in (118.0, 118.0 + WINDOW_SECONDS, 124.0 + WINDOW_SECONDS):
        last = times.report(moment, tasks, [])
    assert last is None
