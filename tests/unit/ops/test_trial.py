"""Trials, and what their tasks refuse, without a server."""

import json
import threading
from contextvars import ContextVar
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import _csot
from pymongo.errors import AutoReconnect, OperationFailure

from ops.drills import tasks
from ops.drills.refused import Refused
from ops.drills.trial import Outcome, Plan, Trial, summary
from worker.mongo.classify import classify

QUICK = Plan(threads=3, times=4, seconds=8, patience=2)


def run(operation: Any, plan: Plan = QUICK) -> Outcome:
    return Trial(operation, plan, classify=classify).run()


def raising(error: BaseException) -> Any:
    def operation() -> None:
        raise error

    return operation


def test_a_trial_runs_the_operation_so_often_in_each_thread() -> None:
    by_thread: dict[int, int] = {}

    def operation() -> None:
        by_thread[threading.get_ident()] = by_thread.get(threading.get_ident(), 0) + 1

    outcome = run(operation)
    assert list(by_thread.values()) == [4, 4, 4]
    assert len(outcome.took) == 12
    assert outcome.errors == {}


def test_all_threads_of_a_trial_run_at_once() -> None:
    """Each operation waits for the others: fewer than all would break the barrier."""
    barrier = threading.Barrier(8)
    outcome = run(lambda: barrier.wait(timeout=5), Plan(threads=8, times=3, seconds=8, patience=2))
    assert len(outcome.took) == 24


def test_errors_of_a_trial_are_counted_by_class_and_transient_ones_tried_again() -> None:
    outcome = run(raising(AutoReconnect("gone")))
    assert (len(outcome.took), outcome.errors) == (0, {"outage": 12})


def test_a_thread_whose_error_no_repetition_mends_ends() -> None:
    assert run(raising(OperationFailure("not authorized", 13))).errors == {"auth": 3}


def test_an_error_that_is_not_of_mongodb_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0)


def test_no_operation_begins_where_its_patience_would_outlast_the_trial() -> None:
    outcome = run(lambda: None, Plan(threads=2, times=5, seconds=1.9, patience=2))
    assert (len(outcome.took), outcome.errors) == (0, {})


def test_each_operation_has_its_patience_as_its_deadline() -> None:
    left: list[float] = []
    run(lambda: left.append(_csot.remaining() or inf), Plan(threads=1, times=2, seconds=8, patience=2))
    assert left == [pytest.approx(2, abs=0.5)] * 2


def test_interrupted_it_abandons_what_the_threads_wait_for_and_waits_for_them() -> None:
    is_abandoned, begun, ended = threading.Event(), list[int](), list[int]()

    def operation() -> None:
        begun.append(1)
        assert is_abandoned.wait(5)
        ended.append(1)

    def interrupt(_elapsed: float) -> None:
        if len(begun) == 3:
            raise KeyboardInterrupt

    trial = Trial(operation, Plan(threads=3, times=inf, seconds=9), classify=classify)
    with pytest.raises(KeyboardInterrupt):
        trial.run(interrupt, every=0.01, abandon=is_abandoned.set)
    assert len(ended) == 3


def test_who_looks_sees_what_came_of_it_so_far() -> None:
    seen: list[int] = []
    may_end = threading.Event()
    trial = Trial(lambda: may_end.wait(5), Plan(threads=2, times=1, seconds=9), classify=classify)

    def look(_elapsed: float) -> None:
        seen.append(len(trial.so_far().took))
        may_end.set()

    assert len(trial.run(look, every=0.01).took) == 2
    assert seen[0] == 0


def test_operations_run_in_the_context_of_whoever_started_the_trial() -> None:
    """By it the monitor knows the task that holds a connection."""
    work: ContextVar[str] = ContextVar("work", default="nobody's")
    token, seen = work.set("the task's"), set[str]()
    run(lambda: seen.add(work.get()))
    work.reset(token)
    assert seen == {"the task's"}


def test_an_outcome_is_json_and_adds_up() -> None:
    outcome = run(lambda: None)
    told = json.loads(json.dumps(outcome.to_dict()))
    assert told["done"] == told["latency_ms"]["n"] == 12
    assert told["in_flight"] <= 3
    assert told["per_second"] > 0


def test_percentiles_are_nearest_ranks() -> None:
    told = summary([n / 1000 for n in range(200, 0, -1)])
    assert told == {"n": 200, "min": 1, "avg": 100.5, "p50": 100, "p95": 190, "p99": 198, "max": 200}


@given(st.lists(st.floats(0, 100), min_size=1))
def test_a_summary_is_in_order(seconds: list[float]) -> None:
    told = summary(seconds)
    assert told["min"] <= told["p50"] <= told["p95"] <= told["p99"] <= told["max"]


def test_a_summary_of_nothing_has_no_numbers() -> None:
    assert summary([]) == {"n": 0} | dict.fromkeys(("min", "avg", "p50", "p95", "p99", "max"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"threads": 0}, "threads must be 1 to 64, not 0"),
        ({"threads": 65}, "threads must be 1 to 64, not 65"),
        ({"threads": "5"}, "threads must be 1 to 64, not '5'"),
        ({"threads": True}, "threads must be 1 to 64, not True"),
        ({"threads": 2.0}, "threads must be 1 to 64, not 2.0"),
        ({"queries": 10_001}, "queries must be 1 to 10000, not 10001"),
        ({"seconds": 3.9}, "seconds must be 4 to 300, not 3.9"),
        ({"seconds": float("nan")}, "seconds must be 4 to 300, not nan"),
        ({"threads": 0, "queries": -1}, "threads must be 1 to 64, not 0; queries must be 1 to 10000, not -1"),
        ({"collection": ""}, "collection must be the name of one"),
        ({"collection": 7}, "collection must be the name of one"),
    ],
)
def test_arguments_out_of_bounds_are_refused_in_one_sentence_before_anything_runs(
    arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        tasks.concurrency(SimpleNamespace(), **arguments)
    assert str(refused.value) == sentence


def test_a_task_without_time_for_a_trial_says_so() -> None:
    task = SimpleNamespace(client=None, seconds_left=lambda: 2.5)
    with pytest.raises(Refused, match=r"time limit leaves 2\.5 s"):
        tasks.ping(task)
