"""The one rule for the states of members: is there a primary, a majority, is everybody there? Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..mongo.reasons import LOGIN_REFUSED
from ..text import agree, count, count_of
from .pings import Verdict

NO_PRIMARY, MEMBER_AWAY = "no-primary", "member-away"

_SETS = ("ReplicaSetWithPrimary", "ReplicaSetNoPrimary")
_DATA = ("RSPrimary", "RSSecondary")
_NOT_READY = {
    "RSOther": "it starts up, recovers or rolls back",
    "RSGhost": "it is in no set, or was just started",
}
_NOT_WRITABLE = ("RSSecondary", "RSArbiter", *_NOT_READY)
# A set has at most so many members that vote.
_MOST_VOTES = 7


@dataclass(frozen=True)
class MemberProblem:
    """What is wrong: one of the codes above, how badly, a sentence, and the members that are meant."""

    code: str
    verdict: Verdict
    sentence: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.sentence}: {self.evidence}"


def problems(
    topology: Mapping[str, Any], *, seen_from: str, write_concern: int | str, is_used_elsewhere: bool
) -> list[MemberProblem]:
    """Return what is wrong with the replica set of this topology (`health.topology`), the worst first; of a
    sharded cluster, with its mongos.

    `seen_from` names who looks. `is_used_elsewhere`: another process has just used a primary, so that there
    is one, or was a moment ago. Nothing where no member answers: then it is not known what the set is like.
    """
    kinds: Mapping[str, str] = topology["members"]
    answering = sorted(host for host, kind in kinds.items() if kind != "Unknown")
    if not answering or any(LOGIN_REFUSED in why for why in topology.get("errors", {}).values()):
        # The driver forgets a member that refuses the login, until its next heartbeat.
        return []
    if topology["type"] == "Single":
        return [_direct(host, kinds[host]) for host in answering if kinds[host] in _NOT_WRITABLE]
    found = []
    if topology["type"] in _SETS and not topology["primary"]:
        found.append(_no_primary(kinds, answering, seen_from, is_used_elsewhere))
    if away := _away(kinds, topology.get("errors", {})):
        found.append(_members_away(kinds, away, seen_from, write_concern))
    return found


def _direct(host: str, kind: str) -> MemberProblem:
    sentence = "the connection is to one member alone (directConnection), where nothing can be written"
    return MemberProblem(NO_PRIMARY, Verdict.DOWN, sentence, f"{host} is {kind}")


def _no_primary(
    kinds: Mapping[str, str], answering: list[str], seen_from: str, is_used_elsewhere: bool
) -> MemberProblem:
    number = len(answering)
    evidence = (
        f"{count_of(number, len(kinds), 'member')} {agree(number, 'answers', 'answer')}, none is primary: "
    )
    evidence += ", ".join(answering)
    if is_used_elsewhere:
        sentence = f"no primary is seen from {seen_from}, though another process has just used one"
        return MemberProblem(NO_PRIMARY, Verdict.DEGRADED, sentence, evidence)
    sentence = "the replica set has no primary, nothing can be written"
    return MemberProblem(NO_PRIMARY, Verdict.DOWN, sentence, evidence)


def _away(kinds: Mapping[str, str], errors: Mapping[str, str]) -> dict[str, str]:
    """Return who is away, and why; one that was not checked yet is not."""
    unreachable = {host: errors[host] for host, kind in kinds.items() if kind == "Unknown" and host in errors}
    not_ready = {host: _NOT_READY[kind] for host, kind in kinds.items() if kind in _NOT_READY}
    return dict(sorted((unreachable | not_ready).items()))


def _members_away(
    kinds: Mapping[str, str], away: Mapping[str, str], seen_from: str, write_concern: int | str
) -> MemberProblem:
    is_sharded = "Mongos" in kinds.values()
    of = (
        count(len(kinds), "mongos", "mongos")
        if is_sharded
        else f"{count(len(kinds), 'member')} of the replica set"
    )
    sentence = f"{len(away)} of {of} cannot be used from {seen_from}"
    holding = sum(kind in _DATA for kind in kinds.values())
    needed = min(len(kinds), _MOST_VOTES) // 2 + 1 if write_concern == "majority" else write_concern
    if "RSPrimary" in kinds.values() and isinstance(needed, int) and holding < needed:
        sentence += f"; writes with w={write_concern} wait unless the primary reaches more of them"
    evidence = ", ".join(f"{host} ({why})" for host, why in away.items())
    return MemberProblem(MEMBER_AWAY, Verdict.DEGRADED, sentence, evidence)
