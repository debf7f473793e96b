"""How large a pool should be: Little's law with a margin, the fleet's sum, the guide's formula beside."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.doctor.budget import budget
from ops.doctor.facts import Facts
from ops.sizing import Load, Plan, guide, peak_of, plan_of, poisson_p99, size
from tests.schemas import validated
from tests.unit.doctor_facts import PING, facts, node, shared
from tests.unit.fleet_reports import NOW

NOTHING = Facts(at=NOW, deployment="shop")


@pytest.mark.parametrize(("mean", "p99"), [(0.0, 0), (0.01, 0), (0.1, 1), (1.0, 4), (10.0, 18), (100.0, 124)])
def test_the_99th_percentile_is_poissons(mean: float, p99: int) -> None:
    """The figures of any table of the distribution."""
    assert poisson_p99(mean) == p99


@given(st.floats(min_value=0, max_value=5000))
def test_the_percentile_grows_with_the_mean_and_lies_above_it(mean: float) -> None:
    assert mean - 1 <= poisson_p99(mean) <= poisson_p99(mean + 1)


def test_large_numbers_are_those_of_the_exact_sum_but_for_a_few() -> None:
    exact, near = poisson_p99(500.0), poisson_p99(500.1)
    assert exact <= near <= exact + 3


def test_littles_law_in_numbers() -> None:
    """200 a second, 15 ms each: 3 in use on average, 8 at the 99th percentile; one for the health check."""
    load = Load(rate=200, hold=0.015, concurrency=None)
    assert (load.in_use, load.in_use_p99, load.recommended) == (3.0, 8, 9)


def test_no_pool_is_larger_than_what_can_run_at_a_time() -> None:
    assert Load(rate=200, hold=0.015, concurrency=4).recommended == 5
    assert Load(rate=1e6, hold=10, concurrency=1).recommended == 2
    assert Load(rate=1e6, hold=10, concurrency=1).in_use == 1.0


def test_a_process_that_does_nothing_has_a_connection_and_the_health_checks() -> None:
    assert Load(rate=0, hold=0, concurrency=8).recommended == 2


@given(st.floats(min_value=0, max_value=1e5), st.floats(min_value=0, max_value=60), st.integers(1, 500))
def test_a_recommendation_holds_the_load_and_never_more_than_can_run(
    rate: float, hold: float, tasks: int
) -> None:
    load = Load(rate, hold, tasks)
    assert math.floor(load.in_use) <= load.recommended <= tasks + 1


def test_the_guides_formula_gives_its_floor_for_its_own_example() -> None:
    assert guide(20, 0.1) == 10
    assert guide(1, 0.001) == 10
    assert guide(100, 10) == 100


# --- what is measured ---


def test_alike_processes_are_sized_by_the_busiest_of_them() -> None:
    busy = {"rate": {"checked_out": 100.0}, "use": {"n": 9, "avg": 20.0}}
    told = size(facts(shared("w1@h", 16, **busy), shared("w2@h", 16)), None)
    (pool,) = told["pools"]
    assert (pool["processes"], pool["in_use"], pool["in_use_p99"], pool["recommended"]) == (2, 2.0, 6, 7)
    assert (pool["each"], pool["total"], told["fleet"]["recommended"]) == (9, 18, 18)
    assert told["settings"][0] == "MONGODB_MAX_POOL_SIZE=7  # threads, 16 at a time"


def test_kinds_of_pools_have_a_recommendation_each() -> None:
    told = size(facts(node("w1@h"), shared("w2@h", 8)), None)
    assert {pool["kind"]: pool["processes"] for pool in told["pools"]} == {"prefork": 2, "threads": 1}
    assert told["fleet"]["now"] == 2 * (2 + 2) + (9 + 2)


def test_the_busiest_moment_of_the_history_raises_what_is_measured() -> None:
    known = facts(node("w1@h", rate={"checked_out": 5.0}, use={"avg": 100.0}))
    history = [{"totals": {"rate": {"checked_out": rate}}} for rate in (5.0, 80.0, 20.0)]
    told = size(known, None, [*history, {"totals": {"rate": {}}}, {}])
    assert told["peak"] == 8.0
    assert told["pools"][0]["rate"] == 40.0


def test_a_fleet_that_is_busier_than_ever_is_its_own_peak() -> None:
    present = facts(node(rate={"checked_out": 5.0})).present
    assert peak_of([{"totals": {"rate": {"checked_out": 1.0}}}], present) == 1.0
    assert (
        peak_of([{"totals": {"rate": {"checked_out": 1.0}}}], facts(node(rate={"checked_out": 0})).present)
        == 1.0
    )


def test_without_a_fleet_nothing_is_measured() -> None:
    told = size(NOTHING, None)
    assert (told["verdict"], told["pools"], told["settings"], told["guide"]["gives"]) == (
        "unknown",
        [],
        [],
        None,
    )


# --- what is planned ---


def test_a_plan_needs_no_fleet() -> None:
    told = size(NOTHING, Plan(rate=200, hold_ms=15, concurrency=8, processes=40))
    (pool,) = told["pools"]
    assert (pool["recommended"], pool["total"], told["source"]) == (9, 440, "plan")
    assert (told["verdict"], told["fleet"]["now"], told["fleet"]["share"]) == ("ok", None, None)


def test_a_plan_takes_from_the_fleet_what_it_does_not_say() -> None:
    told = size(facts(shared("w1@h", 8), shared("w2@h", 8)), Plan(rate=1e4, hold_ms=15))
    (pool,) = told["pools"]
    assert (pool["kind"], pool["concurrency"], pool["processes"], pool["recommended"]) == ("threads", 8, 2, 9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1.0, None, None, None), "both --rate and --hold"),
        ((None, 1.0, None, None), "both --rate and --hold"),
        ((None, None, 4, None), "both --rate and --hold"),
        ((0, 5.0, None, None), "rate: a number above 0"),
        ((1.0, float("nan"), None, None), "hold: a number above 0"),
        ((1.0, "x", None, True), "hold, processes: a number above 0"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_line(arguments: tuple[Any, ...], words: str) -> None:
    rate, hold, concurrency, processes = arguments
    with pytest.raises(ValueError, match=words):
        plan_of(rate, hold, concurrency=concurrency, processes=processes)


def test_no_arguments_are_no_plan() -> None:
    assert plan_of(None, None, concurrency=None, processes=None) is None


# --- the fleet against the server ---


def test_more_than_a_member_takes_is_degraded() -> None:
    known = facts(node("w1@h", slots=4), settings={"server_connections": 15})
    told = size(known, None)
    assert (told["verdict"], told["fleet"]["limit"], told["fleet"]["now"]) == ("degraded", 15, 16)
    assert told["fleet"]["limit_source"] == "CELERY_PYMONGO_SERVER_CONNECTIONS"
    assert size(facts(node(slots=4)), None)["verdict"] == "ok"


def test_the_budget_counts_what_each_process_can_open() -> None:
    """processes x (min(maxPoolSize, concurrent operations + 1) + 2), to each member."""
    threads = shared("w2@h", 64, record={"options": {"maxPoolSize": 20}})
    known = facts(
        node("w1@h", slots=4), threads, ping=PING | {"topology": {"members": {"a": 1, "b": 1, "c": 1}}}
    )
    planned = budget(known)
    assert planned is not None
    assert (planned.total, planned.members) == (4 * (2 + 2) + (20 + 2), 3)
    assert planned.lines == ("1 process (threads) x 22 = 22", "4 processes (prefork) x 4 = 16")


def test_slots_that_are_empty_now_are_budgeted_and_celerys_own_clients_too() -> None:
    few = node("w1@h", slots=2, record={"result_backend": "mongodb"})
    planned = budget(facts(few))
    assert planned is not None
    assert planned.total == 2 * (2 + 2 + 1 + 2)


def test_the_largest_pool_that_fits_is_named() -> None:
    many = [shared(f"w{n}@h", 50) for n in range(10)]
    planned = budget(facts(*many, settings={"server_connections": 250}))
    assert planned is not None
    assert (planned.total, planned.fitting) == (10 * 52, 18)
    assert 10 * (18 + 2) <= 0.8 * 250 < 10 * (19 + 2)
    # A slot that is empty now will be filled.
    half = [replace(node(f"w{n}@h"), slots=4) for n in range(10)]
    growing = budget(facts(*half, settings={"server_connections": 150}))
    assert growing is not None
    assert (growing.total, growing.fitting) == (160, 1)
    nothing_fits = budget(facts(*many, settings={"server_connections": 20}))
    assert nothing_fits is not None
    assert nothing_fits.fitting is None


def test_the_document_is_as_its_schema_says() -> None:
    for known, plan in ((NOTHING, None), (facts(), None), (facts(shared()), Plan(1, 1))):
        told = {"schema": "size/1", "at": NOW, "deployment": "shop", **size(known, plan), "unseen": {}}
        assert bool(validated(json.dumps(told))["guide"]["errs"]) is bool(told["pools"])
