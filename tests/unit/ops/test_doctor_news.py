"""What is old news, what is no news, and which reason of several is the one."""

from __future__ import annotations

from typing import Any

import pytest

from ops.doctor.finding import Severity
from ops.doctor.judging import diagnose
from tests.unit.doctor_facts import AWAY, facts, node
from tests.unit.fleet_reports import NOW

BLOCKED: dict[str, Any] = {
    "init_handlers": ["shop.connect (/app/shop.py:3)"],
    "alive_timeout": 4.0,
    "options": {"serverSelectionTimeoutMS": 3000},
}
OPEN: dict[str, Any] = {"circuit": "open", "outage": 12.0, "cause": "outage"}
FULL = {"current": 99, "available": 1, "others": 80, "at": NOW - 9, "member": "m1:27017"}


def killed(*ages: float, lived: float = 4.1) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"node": "w1@h", "slot": 0, "seen": NOW - age, "started": NOW - age - lived, "task": None}
        for age in ages
    )


@pytest.mark.parametrize(
    ("age", "severity"), [(5, Severity.DEGRADED), (119, Severity.DEGRADED), (300, Severity.NOTE)]
)
def test_a_kill_becomes_a_note_with_its_age(age: float, severity: Severity) -> None:
    (found,) = diagnose(facts(post_mortems=killed(age, lived=500.0))).findings
    assert (found.id, found.severity) == ("process-killed", severity)
    assert ("5 min ago" in found.title) == (severity is Severity.NOTE)


def test_processes_that_die_young_again_and_again_are_blocked_at_their_start() -> None:
    known = facts(node(record=BLOCKED), post_mortems=killed(3, 9, 15))
    (found,) = diagnose(known).findings
    assert (found.id, [one.id for one in found.explains]) == ("start-blocked", ["process-killed"])


@pytest.mark.parametrize(
    "known",
    [
        facts(node(record=BLOCKED), post_mortems=killed(3)),
        facts(node(record=BLOCKED), post_mortems=killed(3, 9, lived=60.0)),
        facts(node(record=BLOCKED | {"init_handlers": []}), post_mortems=killed(3, 9)),
        facts(node(record=BLOCKED), post_mortems=killed(60, 70)),
        facts(node(record=BLOCKED | {"began": NOW - 2}), post_mortems=killed(3, 9)),
    ],
    ids=["once", "old ones", "nothing runs at the start", "no longer", "of the MAIN before"],
)
def test_other_deaths_are_deaths(known: Any) -> None:
    assert [found.id for found in diagnose(known).findings] == ["process-killed"]


def test_sets_that_share_a_member_are_one_that_changes() -> None:
    changing = facts(node("w1@h", cluster="rs/m1:1,m2:1"), node("w2@h", cluster="rs/m1:1,m2:1,m3:1"))
    assert diagnose(changing).findings == ()


def test_a_server_at_its_limit_explains_who_is_cut_off() -> None:
    closed: dict[str, Any] = {"error": "m1:27017: connection closed"}
    known = facts(node("w1@h", **OPEN, **closed), node("w2@h"), last_counts=FULL)
    (found,) = diagnose(known).findings
    assert (found.id, [one.id for one in found.explains]) == ("connections-refused", ["node-cut-off"])


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        ("m1:27017: Connection refused", FULL),
        ("m1:27017: connection closed", FULL | {"current": 50, "available": 50}),
    ],
    ids=["nobody listens", "there was room"],
)
def test_another_reason_is_no_limit(error: str, counts: dict[str, Any]) -> None:
    known = facts(
        node(**OPEN, error=error), ping=AWAY | {"reasons": [f"outage: {error}"]}, last_counts=counts
    )
    assert [found.id for found in diagnose(known).findings] == ["mongodb-down"]


def test_a_deployment_between_two_fleets_is_not_absent() -> None:
    assert diagnose(facts(nodes=(), judged=NOW - 5)).findings == ()
    assert [one.id for one in diagnose(facts(nodes=(), judged=NOW - 31)).findings] == ["nobody-reports"]


@pytest.mark.parametrize(
    ("reason", "step"),
    [
        ("db.example:27017: name does not resolve", "getent hosts db.example  #"),
        ("m1:27017: Connection refused", "systemctl status mongod  # on m1: nothing listens on port 27017"),
        ("m1:27017: connection closed", "nc -vz m1 27017  #"),
        (
            "m1:27017: timed out",
            "nc -vz -w 3 m1 27017  # from a worker's host: is the host up; does a firewall",
        ),
        ("no reason at all", "nc -vz -w 3 HOST PORT  #"),
    ],
)
def test_each_reason_of_a_server_that_is_away_has_its_own_fix(reason: str, step: str) -> None:
    known = facts(node(**OPEN, error=reason), ping=AWAY | {"reasons": [f"outage: {reason}"]})
    (found,) = diagnose(known).findings
    assert found.id == "mongodb-down"
    assert found.fix[0].startswith(step)
