"""`mongo status`: what a person reads of a document, and how the last minute is drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ops import output
from ops.commands import status
from ops.doctor.finding import Finding, Severity
from ops.doctor.judging import diagnose
from ops.trends import SECONDS, Trends
from tests.schemas import validated
from tests.unit.doctor_facts import facts
from tests.unit.fleet_reports import fleet, node, report, seen
from tests.unit.health.test_overview import SILENT, told
from worker.broker.queues import Queue, Waiting


def shown(document: dict[str, Any], trends: Any = ()) -> str:
    return output.render(status.render(document, trends), on_terminal=False, has_color=False)


def test_a_healthy_fleet() -> None:
    text = shown(told(before={"verdict": "ok", "since": 999_997.0}))
    lines = text.splitlines()
    assert lines[0] == "ok  deployment test  3.0 s, since 1970-01-12 13:46:37Z"
    assert "MongoDB      MongoDB 8.0.4, database app, answered in 0.40 ms" in lines
    assert "connections  9 used, available unknown" in lines
    assert "processes    4 of 4 seen: 4 live" in lines
    assert "pools        0 in use, 4 idle; the fullest is 0% in use; 0 operations wait" in lines
    assert "at most      400 to each member: 4 processes x maxPoolSize 100" in lines
    assert "checkouts    6.0/s, 0.00 % failed; 0 timeouts since the start" in lines
    assert "beat         ticked 2.0 s ago, Scheduler on h" in lines


def test_reasons_stand_below_the_verdict() -> None:
    lines = shown(told(fleet=fleet(*node(circuit="open", outage=7.0)), mongodb=SILENT)).splitlines()
    assert lines[0].startswith("down  deployment test")
    assert lines[1].startswith("  - this machine cannot use MongoDB")
    assert lines[2].startswith("  - 4 of 4 processes are cut off from MongoDB, for 7 s")


OVERLOAD = Finding("overload", Severity.DEGRADED, "MongoDB is overloaded, not down.", ("7 times",), "", ())
ADVICE = replace(OVERLOAD, severity=Severity.NOTE, title="A note.")


def test_what_the_doctor_finds_is_in_the_verdict_in_the_same_words() -> None:
    found = status.agreed(told(), "degraded", [OVERLOAD, ADVICE])
    assert (found["verdict"], found["reasons"]) == ("degraded", [OVERLOAD.title])
    assert found["finding"] == {"id": "overload", "severity": "degraded", "title": OVERLOAD.title}
    assert "  - MongoDB is overloaded, not down." in shown(found).splitlines()


def test_a_note_is_shown_and_spoils_nothing() -> None:
    found = status.agreed(told(), "ok", [ADVICE])
    assert (found["verdict"], found["reasons"]) == ("ok", [])
    assert "  - note: A note." in shown(found).splitlines()


def test_what_the_health_checks_find_alone_is_a_finding_of_the_doctors() -> None:
    health = {"verdict": "degraded", "reasons": ["checkouts waited up to 300 ms (p99) in 1 process: w1@h/0"]}
    (found,) = diagnose(facts(health=health)).findings
    assert (found.id, found.severity, found.evidence) == ("health", "degraded", tuple(health["reasons"]))
    assert status.agreed(told() | health, "degraded", [found])["reasons"] == [found.title]


def test_pools_that_differ_have_no_one_maximum_to_name_and_unlimited_ones_have_none() -> None:
    unlike = fleet(seen(report(slots=2)), seen(report(slot=1, slots=2, pool={"max": 7, "in_use": 7})))
    lines = shown(told(fleet=unlike)).splitlines()
    assert "pools        7 in use, 2 idle; the fullest is 100% in use; 0 operations wait" in lines
    assert "at most      107 to each member: the sum of maxPoolSize of 2 processes" in lines
    assert "at most      -" in shown(told(fleet=fleet(*node(pool={"max": None}))))


def test_what_was_not_seen_leaves_no_hole() -> None:
    nothing = {
        "fleet": None,
        "before": None,
        "pulse": None,
        "waiting": None,
        "mongodb": None,
        "why": "does not answer (TimeoutError)",
    }
    text = shown(told(**nothing))
    assert "None" not in text
    assert "processes" not in text
    assert text.startswith("unknown  deployment test\n  - Redis does not answer (TimeoutError)")


def test_of_many_nodes_and_queues_the_first_are_shown() -> None:
    many = fleet(*(one for number in range(30) for one in node(f"w{number}@h", slots=1)))
    queues = {f"q{number:02}": Queue(number, None) for number in range(20)}
    text = shown(told(fleet=many, waiting=Waiting(queues, 0)))
    assert "and 10 nodes more" in text
    assert "and 8 queues more" in text
    assert "  - and 9 reasons more\n" in text
    assert text.index("\nq19") < text.index("\nq18")


def test_the_last_minute_is_drawn_with_gaps_where_nothing_was_seen() -> None:
    trends = Trends()
    for _ in range(SECONDS + 5):
        trends.add(told())
    trends.add(told(fleet=None, waiting=None, pulse=None, before=None))
    rows = {name: (bars, now) for name, bars, now in trends.rows()}
    assert rows["checkouts/s"] == ("█" * (SECONDS - 1) + " ", "-")
    assert rows["ping ms"] == ("█" * SECONDS, "0.4")
    assert rows["queued"][1] == "-"
    assert "LAST MINUTE" in shown(told(), trends.rows())


@pytest.mark.parametrize("seen", [{}, {"mongodb": None}, {"fleet": None, "why": "x", "waiting": None}])
def test_whatever_was_seen_the_document_is_as_its_schema_says(seen: dict[str, Any]) -> None:
    validated(json.dumps({"schema": "status/1", **told(**seen), "unseen": {}}))
