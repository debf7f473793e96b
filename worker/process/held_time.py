"""Which task has the connections of a process: its share of the time that they were held lately."""

from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

from ..text import shorten
from ..tracking.checkouts import Holder
from ..tracking.task_times import TaskTimes

WINDOW_SECONDS, STEP_SECONDS = 60.0, 5.0

LEAST_SECONDS = 0.25
"""Holds that are shorter on average are those of a task that runs often, and no news."""

_NAME = 60


class HeldTime:
    """Compares the times by task with those of a minute ago. One thread uses it; `now` is monotonic."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, dict[str, tuple[float, int]]]] = deque()

    def report(
        self, now: float, tasks: Mapping[str, TaskTimes], holders: Collection[Holder]
    ) -> dict[str, Any] | None:
        """Return the task that held most, with its seconds, its number of holds, and the seconds of all
        tasks, for a process's report; None where no task held for long. What is held now counts until now.
        """
        times = {name: (each.held, each.checkouts) for name, each in list(tasks.items())}
        while len(self._past) > 1 and now - self._past[0][0] > WINDOW_SECONDS:
            self._past.popleft()
        if not self._past or now - self._past[-1][0] >= STEP_SECONDS:
            self._past.append((now, times))
        since, before = self._past[0]
        held = {
            name: (seconds - before.get(name, (0.0, 0))[0], number - before.get(name, (0.0, 0))[1])
            for name, (seconds, number) in times.items()
        }
        for one in list(holders):
            if one.work is not None:
                seconds, number = held.get(one.work.name, (0.0, 0))
                held[one.work.name] = (seconds + now - max(one.since, since), number + 1)
        if not held:
            return None
        task, (most, number) = max(held.items(), key=lambda pair: pair[1][0])
        if number <= 0 or most / number < LEAST_SECONDS:
            return None
        return {
            "task": shorten(task, _NAME),
            "seconds": round(most, 1),
            "n": number,
            "of": round(sum(max(0.0, seconds) for seconds, _ in held.values()), 1),
        }
