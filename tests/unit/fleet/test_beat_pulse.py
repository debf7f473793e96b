"""Beat's own sign of life: after its ticks, seldom, and never in its way."""

from __future__ import annotations

import os
from typing import Any

import pytest
from redis import ConnectionError as RedisAway

from worker.fleet.beat_pulse import BeatPulse, Pulse


class Store:
    """As much of Redis as the pulse uses; `now` is its clock, `error` what it raises.

    The script itself runs in a real one: tests/integration/test_watch.py.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.error: Exception | None = None
        self.writes = 0
        self._beats: dict[bytes, bytes] = {}

    def register_script(self, _script: str) -> Any:
        return self._tick

    def _tick(self, *, keys: list[str], args: list[Any]) -> None:
        self.writes += 1
        if self.error is not None:
            raise self.error
        assert keys == ["cp:test:beats"]
        name, document, _ = args
        first = self._beats.get(name.encode(), f"{self.now}".encode()).split()[0].decode()
        self._beats[name.encode()] = f"{first} {self.now} {document}".encode()

    def pipeline(self, *, transaction: bool) -> Any:
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_details: object) -> None:
        pass

    def time(self) -> Any:
        return self

    def hgetall(self, _key: str) -> Any:
        return self

    def execute(self, *, raise_on_error: bool) -> Any:
        return (int(self.now), 0), self._beats


class Scheduler:
    """Counts its ticks and says when it wants the next."""

    def __init__(self) -> None:
        self.ticks = 0

    def tick(self, step: float = 0.5) -> float:
        self.ticks += 1
        return step


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def pulse(store: Store) -> BeatPulse:
    redis: Any = store
    return BeatPulse(redis, lambda name: f"cp:test:{name}", clock=lambda: store.now)


def test_a_tick_does_what_it_did_and_leaves_a_pulse(pulse: BeatPulse, store: Store) -> None:
    scheduler = Scheduler()
    pulse.attach(scheduler)
    assert pulse.read() is None
    assert scheduler.tick(step=3.0) == 3.0
    store.now = 7.0
    found = pulse.read()
    assert found is not None
    assert found == Pulse(7.0, found.host, os.getpid(), "Scheduler", age=7.0)


def test_the_pulse_is_written_every_two_seconds_at_the_most(pulse: BeatPulse, store: Store) -> None:
    scheduler = Scheduler()
    pulse.attach(scheduler)
    for step in range(50):
        store.now = step / 10
        scheduler.tick()
    assert (scheduler.ticks, store.writes) == (50, 3)


def test_a_scheduler_that_is_attached_twice_pulses_once(pulse: BeatPulse, store: Store) -> None:
    scheduler = Scheduler()
    pulse.attach(scheduler)
    tick = scheduler.tick
    pulse.attach(scheduler)
    assert scheduler.tick is tick


def test_a_tick_that_fails_has_no_pulse_and_its_error_is_beats(pulse: BeatPulse, store: Store) -> None:
    class Broken(Scheduler):
        def tick(self, step: float = 0.5) -> float:
            raise ZeroDivisionError

    scheduler = Broken()
    pulse.attach(scheduler)
    with pytest.raises(ZeroDivisionError):
        scheduler.tick()
    assert store.writes == 0


@pytest.mark.parametrize("error", [RedisAway("away"), OSError("no route")])
def test_a_redis_that_is_away_fails_no_tick_and_delays_few(
    pulse: BeatPulse, store: Store, error: Exception
) -> None:
    store.error = error
    scheduler = Scheduler()
    pulse.attach(scheduler)
    for step in range(300):
        store.now = step / 10
        assert scheduler.tick() == 0.5
    assert store.writes == 2


def test_each_beat_has_a_pulse_of_its_own_and_the_newest_is_the_last(
    pulse: BeatPulse, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis: Any = store
    other = BeatPulse(redis, lambda name: f"cp:test:{name}", clock=lambda: store.now)
    pulse.beat("Scheduler")
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    store.now = 3.0
    other.beat("Other")
    store.now = 10.0
    other.beat("Other")
    store.now = 12.0
    told = {(beat.scheduler, beat.silence, beat.age) for beat in pulse.read_all().found}
    assert told == {("Scheduler", 12.0, 12.0), ("Other", 2.0, 9.0)}
    newest = pulse.read()
    assert newest is not None
    assert newest.pid == 4711
