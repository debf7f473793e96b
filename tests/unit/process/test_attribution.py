"""Which task runs, as Celery's own tracer tells it: every task, nested ones, and every way to end."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, Task, signals
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject

from worker.pool.monitor import PoolMonitor
from worker.pool.suspicion import Suspicion
from worker.process.attribution import Attribution
from worker.tracking.work import Work, current_work


class Row:
    """What the board's row is told."""

    def __init__(self) -> None:
        self.story: list[str] = []

    def set_work(self, name: str, task_id: str, /) -> None:
        self.story.append(f"{name} {task_id}")

    def clear_work(self) -> None:
        self.story.append("none")


class Watch(Suspicion):
    """A suspicion that keeps the works that it is given."""

    def __init__(self) -> None:
        super().__init__(PoolMonitor(), limit=5.0, record=lambda *_: None)
        self.watched: list[Work] = []

    def watch(self, work: Work) -> None:
        self.watched.append(work)


class World:
    """An app whose tasks run through Celery's tracer, as a worker runs them."""

    def __init__(self) -> None:
        self.app = Celery("x", broker="memory://", backend="cache+memory://", set_as_current=False)
        self.suspicion = Watch()
        self.attribution = Attribution(lambda: self.suspicion)

    def task(self, name: str, body: Callable[..., Any], **options: Any) -> Any:
        body.__name__ = name  # Celery compiles it, which a lambda's own name does not survive
        return self.app.task(name=name, shared=False, **options)(body)

    def run(self, task: Any, task_id: str = "1") -> None:
        tracer = build_tracer(task.name, task, app=self.app)
        tracer(task_id, (), {}, {"id": task_id, "is_eager": False, "delivery_info": {}})

    @property
    def ended(self) -> list[str]:
        return [f"{work.name} {work.id}" for work in self.suspicion.watched]


@pytest.fixture
def world() -> Iterator[World]:
    before = [list(signal.receivers) for signal in (signals.task_prerun, signals.task_postrun)]
    world = World()
    world.attribution.connect()
    yield world
    current_work.set(None)
    signals.task_prerun.receivers, signals.task_postrun.receivers = before


def current() -> str | None:
    work = current_work.get()
    return None if work is None else f"{work.name} {work.id}"


def test_a_plain_task_of_the_app_is_known_while_it_runs(world: World) -> None:
    seen: list[Any] = []
    world.run(world.task("t", lambda: seen.append((current(), len(world.attribution.running())))))
    assert seen == [("t 1", 1)]
    assert current() is None
    assert world.attribution.running() == []
    assert world.ended == ["t 1"]


@pytest.mark.parametrize("error", [ValueError(), Ignore(), Reject(), MemoryError()])
def test_a_task_that_fails_ends_too(world: World, error: Exception) -> None:
    def body() -> None:
        raise error

    task = world.task("t", body, ignore_result=True)
    with suppress(Reject, MemoryError):
        world.run(task)
    assert current() is None
    assert world.ended == ["t 1"]


def test_a_retry_ends_too(world: World) -> None:
    def body(self: Task) -> None:
        raise self.retry(countdown=0)

    world.run(world.task("t", body, bind=True, ignore_result=True))
    assert current() is None
    assert world.ended == ["t 1"]


def test_an_eager_task_within_a_task_gives_back_to_the_outer_one(world: World) -> None:
    seen: list[Any] = []
    inner = world.task("inner", lambda: seen.append(current()))

    def body() -> None:
        inner.apply(task_id="2")
        seen.append(current())

    world.run(world.task("outer", body))
    assert seen == ["inner 2", "outer 1"]
    assert world.ended == ["inner 2", "outer 1"]


def test_an_eager_task_that_fails_gives_back_to_the_outer_one(world: World) -> None:
    seen: list[Any] = []

    def fails() -> None:
        raise KeyError

    inner = world.task("inner", fails)

    def body() -> None:
        with pytest.raises(KeyError):
            inner.apply(task_id="2", throw=True)
        seen.append(current())

    world.run(world.task("outer", body))
    assert seen == ["outer 1"]


def test_an_eager_retry_gives_back_to_its_own_first_run(world: World) -> None:
    """It runs within it under the same id."""
    seen: list[Any] = []

    def body(self: Task) -> None:
        if not self.request.retries:
            try:
                self.retry(countdown=0)
            finally:
                seen.append(current())

    task = world.task("t", body, bind=True)
    task.apply(task_id="1")
    assert seen == ["t 1"]
    assert world.ended == ["t 1", "t 1"]
    assert current() is None


def test_a_task_called_like_a_function_is_part_of_the_one_that_calls_it(world: World) -> None:
    seen: list[Any] = []
    inner = world.task("inner", lambda: seen.append(current()))

    def body() -> None:
        inner()

    world.run(world.task("outer", body))
    assert seen == ["outer 1"]


def test_a_missed_end_is_forgotten_at_the_next_begin(world: World) -> None:
    signals.task_postrun.disconnect(dispatch_uid="celery_pymongo.attribution.task_postrun")
    task = world.task("t", lambda: None)
    for number in range(20):
        world.run(task, str(number))
    (work,) = world.attribution.running()
    assert work.id == "19"
    assert work.outer is None


def test_a_suspects_work_is_marked_from_its_begin(world: World) -> None:
    seen: list[bool] = []

    def body() -> None:
        work = current_work.get()
        assert work is not None
        seen.append(work.is_suspect)

    task = world.task("t", body)
    world.run(task)
    world.suspicion._monitor.suspects.add("t")
    world.run(task)
    assert seen == [False, True]


def test_the_row_is_told_of_the_outer_task_only(world: World) -> None:
    row = world.attribution.row = Row()
    inner = world.task("inner", lambda: None)
    world.run(world.task("outer", lambda: inner.apply(task_id="2")))
    assert row.story == ["outer 1", "none"]


def test_what_monitoring_raises_does_not_reach_the_task(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []

    class Broken(Row):
        def set_work(self, name: str, task_id: str, /) -> None:
            raise OSError

        def clear_work(self) -> None:
            raise OSError

    def broken() -> Suspicion:
        raise RuntimeError

    world.attribution.row = Broken()
    world.run(world.task("t", lambda: seen.append(current())))
    world.attribution._suspicion = broken
    world.run(world.task("u", lambda: seen.append(current())), "2")
    assert seen == ["t 1", "u 2"]
    assert current() is None
    assert {record.name for record in caplog.records} == {"celery.utils.dispatch.signal"}


def test_the_newest_of_a_process_is_the_one_that_hears(world: World) -> None:
    newer = Watch()
    Attribution(lambda: newer).connect()
    world.run(world.task("t", lambda: None), str(uuid4()))
    assert (len(world.ended), len(newer.watched)) == (0, 1)
