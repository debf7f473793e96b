"""Every statistic is in the table, and the table has no other."""

import json
from typing import Any

import pytest
from pymongo import monitoring as driver

from ops.local.reference import REFERENCE
from worker.pool.histogram import BOUNDS, BUCKETS
from worker.pool.monitor import PoolMonitor
from worker.pool.stats import STATS

A = ("a", 27017)
KEYS = {stat.key: stat for stat in STATS}


@pytest.fixture
def stats() -> dict[str, Any]:
    monitor = PoolMonitor(clock=lambda: 0.0, commands=True)
    events, *_ = monitor.listeners()
    events.pool_created(driver.PoolCreatedEvent(A, {}))
    events.connection_created(driver.ConnectionCreatedEvent(A, 1))
    events.connection_closed(driver.ConnectionClosedEvent(A, 1, "idle"))
    events.connection_check_out_failed(driver.ConnectionCheckOutFailedEvent(A, "timeout", 0.1))
    (made,) = monitor.get_stats(0.0).values()
    return made


def test_every_key_that_is_told_is_in_the_table_and_the_other_way_round(stats: dict[str, Any]) -> None:
    assert set(stats) == set(KEYS)
    assert len(KEYS) == len(STATS)


def test_statistics_are_plain_json(stats: dict[str, Any]) -> None:
    assert json.loads(json.dumps(stats, allow_nan=False)) == stats


@pytest.mark.parametrize("stat", STATS, ids=lambda stat: stat.key)
def test_a_value_is_of_the_kind_and_the_labels_that_the_table_says(stat: Any, stats: dict[str, Any]) -> None:
    value = stats[stat.key]
    if stat.kind == "histogram":
        made = value.values() if stat.label else [value]
        assert all(set(each) == {"count", "sum", "buckets"} for each in made)
        assert all(len(each["buckets"]) == BUCKETS for each in made)
    else:
        assert isinstance(value, dict) is bool(stat.label)
    _, _, labels = stat.label.partition(": ")
    if labels and stat.kind == "gauge":
        assert set(value) == set(labels.split(", "))


@pytest.mark.parametrize("stat", STATS, ids=lambda stat: stat.key)
def test_a_statistic_has_a_unit_a_source_and_a_meaning(stat: Any) -> None:
    assert stat.unit
    assert stat.source
    assert stat.meaning.endswith(".")
    assert stat.kind in ("gauge", "counter", "histogram")
    assert "|" not in f"{stat.label}{stat.source}{stat.meaning}", "it would be a column"


def test_the_documentation_names_the_bounds() -> None:
    below = [f"{bound * 1000:g}" for bound in BOUNDS if bound < 1]
    beyond = [f"{bound:g}" for bound in BOUNDS if bound >= 1]
    told = f"({', '.join(below)} ms, {', '.join(beyond)} s)"
    assert told in " ".join((REFERENCE / "statistics.md").read_text().split())
