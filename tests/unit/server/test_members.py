"""The one rule for the states of members: what is wrong, how badly, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from worker.server.members import MEMBER_AWAY, NO_PRIMARY, MemberProblem, problems
from worker.server.pings import Verdict

REFUSED = "AutoReconnect: connection refused"
PRIMARY, SECONDARY, ARBITER, UNKNOWN = "RSPrimary", "RSSecondary", "RSArbiter", "Unknown"


def topology(*kinds: str, errors: bool = True, type_name: str | None = None) -> dict[str, Any]:
    """Members m1, m2, … of these kinds; those that are Unknown have an error, where they were checked."""
    members = {f"m{number}:1": kind for number, kind in enumerate(kinds, 1)}
    primary = next(
        (host for host, kind in members.items() if kind in (PRIMARY, "Mongos", "Standalone")), None
    )
    unknown = [host for host, kind in members.items() if kind == UNKNOWN]
    return {
        "type": type_name or ("ReplicaSetWithPrimary" if primary else "ReplicaSetNoPrimary"),
        "primary": primary,
        "members": members,
        "errors": dict.fromkeys(unknown, REFUSED) if errors else {},
    }


def found(
    seen: dict[str, Any], *, write_concern: int | str = "majority", used: bool = False
) -> list[MemberProblem]:
    return problems(seen, seen_from="here", write_concern=write_concern, is_used_elsewhere=used)


@pytest.mark.parametrize(
    "seen",
    [
        topology(PRIMARY, SECONDARY, SECONDARY),
        topology(PRIMARY, SECONDARY, ARBITER),
        topology(PRIMARY),
        topology("Mongos", "Mongos", type_name="Sharded"),
        topology("Standalone", type_name="Single"),
        topology(PRIMARY, type_name="Single"),
        topology("LoadBalancer", type_name="LoadBalanced"),
    ],
)
def test_a_whole_set_has_no_problem(seen: dict[str, Any]) -> None:
    assert found(seen) == []


@pytest.mark.parametrize("type_name", ["ReplicaSetNoPrimary", "Unknown", "Single"])
def test_where_no_member_answers_nothing_is_known_of_the_set(type_name: str) -> None:
    assert found(topology(UNKNOWN, UNKNOWN, type_name=type_name)) == []


def test_a_member_that_was_not_checked_yet_is_not_away() -> None:
    assert found(topology(PRIMARY, UNKNOWN, UNKNOWN, errors=False)) == []


def test_a_member_away_degrades_and_is_named_with_the_reason() -> None:
    (problem,) = found(topology(PRIMARY, SECONDARY, UNKNOWN))
    assert (problem.code, problem.verdict) == (MEMBER_AWAY, Verdict.DEGRADED)
    assert str(problem) == (
        "1 of 3 members of the replica set cannot be used from here: m3:1 (AutoReconnect: connection refused)"
    )


@pytest.mark.parametrize("kind", ["RSOther", "RSGhost"])
def test_a_member_that_recovers_serves_no_reads_and_counts_as_away(kind: str) -> None:
    (problem,) = found(topology(PRIMARY, SECONDARY, kind))
    assert (problem.code, problem.verdict) == (MEMBER_AWAY, Verdict.DEGRADED)
    assert problem.evidence.startswith("m3:1 (it ")


@pytest.mark.parametrize(
    ("kinds", "write_concern", "waits"),
    [
        ((PRIMARY, UNKNOWN, UNKNOWN), "majority", True),
        ((PRIMARY, SECONDARY, UNKNOWN), "majority", False),
        ((PRIMARY, ARBITER, UNKNOWN), "majority", True),
        ((PRIMARY, SECONDARY, UNKNOWN, UNKNOWN, UNKNOWN), "majority", True),
        ((PRIMARY, *[SECONDARY] * 3, *[UNKNOWN] * 5), "majority", False),
        ((PRIMARY, UNKNOWN, UNKNOWN), 1, False),
        ((PRIMARY, SECONDARY, UNKNOWN), 3, True),
        ((PRIMARY, UNKNOWN, UNKNOWN), "a tag", False),
    ],
)
def test_where_too_few_members_are_left_for_the_write_concern_it_says_that_writes_wait(
    kinds: tuple[str, ...], write_concern: int | str, waits: bool
) -> None:
    (problem,) = found(topology(*kinds), write_concern=write_concern)
    assert problem.verdict is Verdict.DEGRADED
    assert (f"writes with w={write_concern} wait unless" in problem.sentence) is waits


def test_a_set_without_a_primary_is_down_and_whoever_is_away_is_named_after_that() -> None:
    first, second = found(topology(SECONDARY, SECONDARY, UNKNOWN))
    assert (first.code, first.verdict) == (NO_PRIMARY, Verdict.DOWN)
    assert str(first) == (
        "the replica set has no primary, nothing can be written: "
        "2 of 3 members answer, none is primary: m1:1, m2:1"
    )
    assert second.code == MEMBER_AWAY
    assert "writes with" not in second.sentence


def test_a_primary_that_another_process_has_just_used_is_only_not_seen_from_here() -> None:
    (problem,) = found(topology(SECONDARY, SECONDARY), used=True)
    assert (problem.code, problem.verdict) == (NO_PRIMARY, Verdict.DEGRADED)
    assert problem.sentence == "no primary is seen from here, though another process has just used one"


@pytest.mark.parametrize("kind", [SECONDARY, ARBITER, "RSOther"])
def test_a_direct_connection_to_a_secondary_can_write_nothing(kind: str) -> None:
    (problem,) = found(topology(kind, type_name="Single"))
    assert (problem.code, problem.verdict, problem.evidence) == (NO_PRIMARY, Verdict.DOWN, f"m1:1 is {kind}")
    assert "directConnection" in problem.sentence


def test_a_mongos_that_is_away_is_told_as_one() -> None:
    (problem,) = found(topology("Mongos", UNKNOWN, type_name="Sharded"))
    assert problem.sentence == "1 of 2 mongos cannot be used from here"
