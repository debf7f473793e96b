"""Counters of a row: over every process that had it, whatever moment a takeover is cut off at."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.board.counters import FIELDS, SIZE, WIDTH, RunningCounters, values
from worker.pool.histogram import BUCKETS, Times


class Cut(Exception):
    """The process is killed here."""


class Numbers:
    """Memory that lets so many stores through, and then the process is dead."""

    def __init__(self, memory: Any, stores: list[int]) -> None:
        self._memory, self._stores = memory, stores

    def __getitem__(self, place: Any) -> Any:
        return self._memory[place]

    def __setitem__(self, place: Any, value: Any) -> None:
        if self._stores[0] == 0:
            raise Cut
        self._stores[0] -= 1
        self._memory[place] = value


@pytest.fixture
def buffer() -> memoryview:
    return memoryview(bytearray(SIZE))


def counted(number: float) -> list[float]:
    return [number] * WIDTH


def test_what_processes_counted_adds_up(buffer: memoryview) -> None:
    row = RunningCounters(buffer)
    for number in (3.0, 4.0, 5.0):
        row.take()
        row.write(counted(number - 1))
        row.write(counted(number))
    assert row.read() == counted(12.0)
    assert RunningCounters(buffer).read() == counted(12.0)


def test_nothing_falls_where_a_process_counts_anew(buffer: memoryview) -> None:
    row = RunningCounters(buffer)
    row.take()
    row.write(counted(3.0))
    row.write(counted(1.0))
    assert row.read() == counted(3.0)


@given(stores=st.integers(0, 2 * WIDTH + 3))
def test_a_takeover_that_is_cut_off_loses_and_doubles_nothing(stores: int) -> None:
    buffer = memoryview(bytearray(SIZE))
    row = RunningCounters(buffer)
    row.take()
    row.write(counted(3.0))
    row.take()
    row.write(counted(4.0))
    killed = RunningCounters(buffer)
    left = [stores]
    killed._numbers, killed._floats = Numbers(row._numbers, left), Numbers(row._floats, left)  # type: ignore[assignment] # memory that ends
    try:
        killed.take()
    except Cut:
        assert stores < 2 * WIDTH + 2
    assert row.read() == counted(7.0)
    row.take()
    row.write(counted(1.0))
    assert row.read() == counted(8.0)


def test_the_values_stand_in_the_order_of_the_fields() -> None:
    times = {"wait": Times((2, *[0] * (BUCKETS - 2), 1), 0.5)}
    found = dict(zip(FIELDS, values({"created": 2, "closed.idle": 1, "closed.new": 3}, times), strict=True))
    assert len(FIELDS) == len(set(FIELDS)) == WIDTH
    assert found["created"] == 2
    assert (found["closed.idle"], found["closed.other"]) == (1, 3)
    assert (found["wait.0"], found[f"wait.{BUCKETS - 1}"], found["wait.sum"]) == (2, 1, 0.5)
    assert sum(found.values()) == 2 + 1 + 3 + 2 + 1 + 0.5
