"""Which work is current, and which run."""

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from worker.tracking.work import Works, current_work


@pytest.fixture(autouse=True)
def no_work() -> Iterator[None]:
    token = current_work.set(None)
    yield
    current_work.reset(token)


@pytest.fixture
def works() -> Works:
    ticks = iter(range(100))
    return Works(lambda: float(next(ticks)))


def in_thread(body: Any) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(body()))
    thread.start()
    thread.join()
    return found[0]


def test_a_work_is_current_from_its_begin_to_its_end(works: Works) -> None:
    work = works.begin("t", "1")
    assert current_work.get() is work
    assert (work.name, work.id, work.started_at, work.ended_at) == ("t", "1", 0.0, None)
    assert works.end("1") is work
    assert work.ended_at == 1.0
    assert current_work.get() is None


def test_the_works_that_run_are_listed_oldest_first(works: Works) -> None:
    first = works.begin("t", "1")
    current_work.set(None)  # as in another thread
    second = works.begin("t", "2")
    assert works.running() == [first, second]
    works.end("2")
    assert works.running() == [first]


def test_an_outer_work_is_current_again_after_the_inner_one(works: Works) -> None:
    outer = works.begin("t", "1")
    works.begin("u", "2", outer=outer)
    assert works.running() == [outer]
    works.end("2")
    assert current_work.get() is outer
    assert works.running() == [outer]


def test_an_inner_work_may_have_its_outer_ones_id(works: Works) -> None:
    """A retry of an eager task runs within it under the same id."""
    outer = works.begin("t", "1")
    inner = works.begin("t", "1", outer=outer)
    assert works.end("1") is inner
    assert works.end("1") is outer
    assert current_work.get() is None


def test_the_end_of_an_outer_work_ends_an_inner_one_whose_end_was_missed(works: Works) -> None:
    outer = works.begin("t", "1")
    works.begin("u", "2", outer=outer)
    assert works.end("1") is outer
    assert current_work.get() is None


def test_an_end_without_a_begin_ends_nothing(works: Works) -> None:
    work = works.begin("t", "1")
    assert works.end("other") is None
    assert current_work.get() is work


def test_works_whose_ends_are_missed_are_not_kept(works: Works) -> None:
    for number in range(50):
        last = works.begin("t", str(number))
    gc.collect()
    assert works.running() == [last]


def test_a_missed_work_is_not_listed_even_where_a_connection_still_knows_it(works: Works) -> None:
    missed = works.begin("t", "1")
    works.begin("t", "2")
    assert missed not in works.running()


def test_a_work_of_a_thread_that_is_gone_is_not_listed(works: Works) -> None:
    in_thread(lambda: works.begin("t", "1") is None)
    gc.collect()
    assert works.running() == []


def test_threads_have_works_of_their_own(works: Works) -> None:
    work = works.begin("t", "1")
    assert in_thread(current_work.get) is None
    assert current_work.get() is work
