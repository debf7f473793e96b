"""The service's beat: what becomes of a signal that arrives while Redis is being read."""

from __future__ import annotations

from typing import Any

import pytest
from celery.beat import SchedulingError
from redbeat import RedBeatScheduler
from redis.exceptions import ConnectionError as RedisConnectionError

from worker.integration.beat import Scheduler


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    monkeypatch.setattr(RedBeatScheduler, "close", lambda _self: None)
    found: Scheduler = Scheduler.__new__(Scheduler)
    monkeypatch.setattr(found, "lock_key", None, raising=False)
    return found


@pytest.mark.parametrize("error", [ValueError("I/O operation on closed file"), RedisConnectionError()])
def test_a_signal_whose_exit_an_error_replaced_ends_beat(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def tick(_self: Any) -> float:
        scheduler.close()  # Celery's handler
        raise error

    monkeypatch.setattr(RedBeatScheduler, "tick", tick)
    with pytest.raises(SystemExit):
        scheduler.tick()
    with pytest.raises(SystemExit):
        scheduler.tick()


def test_a_signal_while_a_task_is_sent_ends_beat(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Entry:
        name = task = "mongo.health.check"

        def is_due(self) -> tuple[bool, float]:
            return True, 1.0

    def send(_self: Any, _entry: Any) -> None:
        scheduler.close()
        raise SchedulingError("Couldn't apply scheduled task: I/O operation on closed file")

    monkeypatch.setattr(Scheduler, "apply_async", send)
    with pytest.raises(SystemExit):
        scheduler.maybe_due(Entry())


def test_another_error_of_a_tick_is_raised(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    def tick(_self: Any) -> float:
        raise ValueError("x")

    monkeypatch.setattr(RedBeatScheduler, "tick", tick)
    with pytest.raises(ValueError, match="x"):
        scheduler.tick()
