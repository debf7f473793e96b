"""From what is known of a deployment to the numbers of the series."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ops.doctor.finding import Finding, Severity
from ops.metrics.samples import MOST_NODES, Known, Samples, Truth, samples
from ops.metrics.series import BY_NAME, SERIES
from tests.unit.doctor_facts import facts
from worker.board.counters import FIELDS

SURVEY: dict[str, Any] = {
    "verdict": "degraded",
    "queues": {"celery": {"depth": 3, "age": None, "gate": "MongoDB is away"}},
    "unacked": 2,
    "beat": None,
    "mongodb": {"verdict": "ok", "latency_ms": 2.0},
    "servers": {"h:27017": {"current": 10, "available": None}},
}
DOCUMENT = {
    "began": 100.0,
    "at": 190.0,
    "counts": {"created": 4.0, "closed.idle": 1.0, "wait.0": 2.0, "wait.2": 3.0},
}


def known(**changes: Any) -> Known:
    base = Known(
        facts=facts(),
        survey=SURVEY,
        findings=(),
        counters={"w1@h": DOCUMENT},
        bounds=(0.1, 0.2),
        version="1",
        has_seen_redis=True,
        seen_at=200.0,
    )
    return replace(base, **changes)


def values(found: Samples, name: str) -> dict[tuple[str, ...], float]:
    return {sample.labels: sample.value for sample in found[name]}


def test_every_series_is_there_and_every_label_has_a_value() -> None:
    found = samples(known())
    assert set(found) == {series.name for series in SERIES}
    for series in SERIES:
        assert all(len(sample.labels) == len(series.labels) for sample in found[series.name]), series.name


def test_every_counter_is_of_a_field_that_nodes_count() -> None:
    counted = [series.counted for series in SERIES if series.counted]
    assert all(any(field == name or field.startswith(name) for field in FIELDS) for name in counted)
    told = {field for field in FIELDS if any(field == n or field.startswith((f"{n}.", n)) for n in counted)}
    assert told == set(FIELDS)


def test_counters_and_buckets_are_the_nodes_own_since_it_began() -> None:
    found = samples(known())
    (created,) = found["celery_pymongo_connections_created"]
    assert (created.labels, created.value, created.began) == (("w1@h",), 4.0, 100.0)
    assert values(found, "celery_pymongo_connections_closed") == {("w1@h", "idle"): 1.0}
    (wait,) = found["db_client_connection_wait_time_seconds"]
    assert wait.buckets == (2.0, 2.0, 5.0)


def test_what_is_unknown_has_no_sample() -> None:
    found = samples(known())
    assert values(found, "celery_pymongo_queue_oldest_seconds") == {}
    assert values(found, "celery_pymongo_beat_silence_seconds") == {}
    assert values(found, "celery_pymongo_server_connections_available") == {}
    unknown = SURVEY | {"mongodb": {"verdict": "unknown", "latency_ms": None}, "queues": None}
    assert values(samples(known(survey=unknown)), "celery_pymongo_mongodb_up") == {}


def test_the_verdict_is_one_of_four() -> None:
    found = values(samples(known()), "celery_pymongo_verdict")
    assert found == {("ok",): 0.0, ("degraded",): 1.0, ("down",): 0.0, ("unknown",): 0.0}


def test_findings_that_are_alike_are_one_sample() -> None:
    alike = [
        Finding("node-slow", Severity.DEGRADED, f"w{number}@h is slow", (), "", ()) for number in range(3)
    ]
    (sample,) = samples(known(findings=alike))["celery_pymongo_finding"]
    assert (sample.labels, sample.value) == (("node-slow", "degraded"), 1.0)


def test_the_source_of_what_is_no_process_is_the_exporters_look() -> None:
    assert BY_NAME["celery_pymongo_redis_up"].source == "the exporter's last look"
    assert BY_NAME["celery_pymongo_processes"].source == "live processes, now"
    assert BY_NAME["celery_pymongo_checkouts"].source == "all processes of the node since its start"


def test_names_are_bounded() -> None:
    many = {f"w{number}@h": DOCUMENT for number in range(MOST_NODES + 5)}
    assert len(samples(known(counters=many))["celery_pymongo_checkouts"]) == MOST_NODES


def test_a_look_that_was_late_makes_no_counter_vanish_before_its_node_is_gone() -> None:
    truth = Truth()
    truth.remember(known())
    assert truth.remember(known(counters={})).counters == {"w1@h": DOCUMENT}
    assert truth.remember(known(counters={}, seen_at=190.0 + 3601)).counters == {}


def test_without_redis_the_last_truth_is_served_and_says_so() -> None:
    truth = Truth()
    truth.take(samples(known()), has_seen_redis=True)
    blind = known(counters={}, has_seen_redis=False, survey=SURVEY | {"verdict": "unknown", "queues": None})
    served = truth.take(samples(blind), has_seen_redis=False)
    assert values(served, "celery_pymongo_connections_created") == {("w1@h",): 4.0}
    assert values(served, "celery_pymongo_redis_up") == {(): 0.0}
    assert values(served, "celery_pymongo_verdict")[("unknown",)] == 1.0
    again = truth.take(samples(known()), has_seen_redis=True)
    assert values(again, "celery_pymongo_redis_up") == {(): 1.0}
