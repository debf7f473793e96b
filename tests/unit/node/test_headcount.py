"""What MAIN writes on its board."""

import json
import logging
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.bootsteps import CLOSE, RUN
from celery.concurrency.prefork import TaskPool

from worker.board.board import Board
from worker.node.headcount import Headcount


class Timer:
    """Celery's timer, run by hand."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, tuple[Any, ...]]] = []

    def call_repeatedly(self, _seconds: float, function: Any, args: tuple[Any, ...]) -> Any:
        self.entries.append((function, args))
        return self.entries[-1]

    def cancel(self, entry: Any) -> None:
        self.entries.remove(entry)

    def tick(self) -> None:
        for function, args in self.entries:
            function(*args)


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(node="n", deployment=f"headcount-{os.getpid()}", slots=4)
    yield made
    made.unlink()


def consumer(board: Board | None, *, pool: Any = None) -> Any:
    queues = [SimpleNamespace(name=name) for name in ("mongo.ops", "mongo.data")]
    return SimpleNamespace(
        app=SimpleNamespace(mongo=SimpleNamespace(board=board)),
        pool=pool,
        task_consumer=SimpleNamespace(queues=queues),
        blueprint=SimpleNamespace(state=RUN),
        timer=Timer(),
    )


class Prefork(TaskPool):
    """A prefork pool without processes, of a number that the test sets."""

    def __init__(self, processes: int) -> None:
        self.processes = processes

    @property
    def num_processes(self) -> int:
        return self.processes


def test_it_counts_the_processes_of_a_pool_that_grows(board: Board) -> None:
    c = consumer(board, pool=Prefork(2))
    Headcount(c).start(c)
    assert (board.expected, json.loads(board.queues)) == (2, ["mongo.data", "mongo.ops"])
    c.pool.processes = 3
    c.timer.tick()
    assert board.expected == 3


def test_a_pool_of_threads_is_one_process(board: Board) -> None:
    c = consumer(board, pool=SimpleNamespace(num_processes=20))
    Headcount(c).start(c)
    assert board.expected == 1


def test_a_lost_connection_leaves_one_timer(board: Board) -> None:
    c = consumer(board, pool=Prefork(2))
    step = Headcount(c)
    step.start(c)
    step.start(c)
    assert len(c.timer.entries) == 1
    step.stop(c)
    step.stop(c)
    assert c.timer.entries == []


def test_a_node_that_ends_expects_nobody(board: Board) -> None:
    """Its idle processes go at once, and are not missing while others finish their tasks."""
    c = consumer(board, pool=Prefork(2))
    step = Headcount(c)
    step.start(c)
    step.stop(c)
    assert board.expected == 2
    c.blueprint.state = CLOSE
    step.stop(c)
    assert board.expected == 0


def test_without_a_board_or_a_consumer_there_is_nothing_to_write(board: Board) -> None:
    nobody = consumer(None)
    Headcount(nobody).start(nobody)
    c = consumer(board, pool=Prefork(1))
    c.task_consumer = None
    Headcount(c).start(c)
    assert board.queues == "[]"


def test_what_fails_never_ends_mains_loop(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="celery_pymongo.board")
    c = consumer(board, pool=Prefork(1))
    del c.task_consumer
    Headcount(c).start(c)
    assert "headcount" in caplog.text
