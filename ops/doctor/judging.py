"""From findings to a diagnosis: the most severe first, symptoms folded under their cause."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .checks import CHECKS
from .facts import Facts
from .finding import ALIKE, Check, Finding, Severity

_VERDICTS = {Severity.DOWN: "down", Severity.DEGRADED: "degraded", Severity.UNKNOWN: "unknown"}


@dataclass(frozen=True)
class Diagnosis:
    """What was found, the first thing first, and the checks that lacked a fact, with the reason.

    A check that finds the same of hundreds of nodes has ten findings, and `left_out` counts the others.
    """

    verdict: str
    findings: tuple[Finding, ...]
    left_out: dict[str, int]
    checked: tuple[str, ...]
    unchecked: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "verdict": self.verdict,
            "findings": [finding.to_dict() for finding in self.findings],
            "left_out": self.left_out,
            "checked": list(self.checked),
            "unchecked": self.unchecked,
        }


def diagnose(facts: Facts, checks: Sequence[Check] = CHECKS) -> Diagnosis:
    """Run every check on these facts."""
    unchecked = {check.id: why for check in checks if (why := _why_not(check, facts))}
    able = [check for check in checks if check.id not in unchecked]
    found = [finding for check in able for finding in check.find(facts)]
    ranked = _rank(_fold(found, checks), checks)
    ranked = [*_of_health(facts, ranked), *ranked]
    told, left_out = _cut(ranked)
    return Diagnosis(_verdict(ranked), told, left_out, tuple(check.id for check in able), unchecked)


def _of_health(facts: Facts, ranked: Sequence[Finding]) -> list[Finding]:
    """Return what the health checks find and no check here does, or not so bad: so both say the same."""
    verdict, reasons = facts.health.get("verdict"), list(facts.health.get("reasons") or ())
    severity = {word: severity for severity, word in _VERDICTS.items()}.get(str(verdict))
    is_told = severity is None or any(finding.severity.rank <= severity.rank for finding in ranked)
    if severity is None or severity is Severity.UNKNOWN or is_told or not reasons:
        return []
    return [
        Finding(
            HEALTH,
            severity,
            f"{reasons[0][0].upper()}{reasons[0][1:]}.",
            tuple(reasons),
            "The health checks of the fleet find this, and no single cause of it is seen from here.",
            (
                "celery -A APP mongo status --watch  # does it last?",
                "celery -A APP mongo flight  # what the processes met",
            ),
        )
    ]


HEALTH = "health"
"""The id of a finding of the health checks alone."""


def _cut(ranked: Iterable[Finding]) -> tuple[tuple[Finding, ...], dict[str, int]]:
    found: Counter[str] = Counter()
    told = []
    for finding in ranked:
        found[finding.id] += 1
        if found[finding.id] <= ALIKE:
            told.append(finding)
    return tuple(told), {check: number - ALIKE for check, number in found.items() if number > ALIKE}


def _why_not(check: Check, facts: Facts) -> str | None:
    missing = [need for need in check.needs if not facts.is_known(need)]
    return f"{missing[0]}: {facts.unseen.get(missing[0], 'unknown')}" if missing else None


def _verdict(ranked: Iterable[Finding]) -> str:
    return next((_VERDICTS[f.severity] for f in ranked if f.severity in _VERDICTS), "ok")


def _fold(found: Sequence[Finding], checks: Sequence[Check]) -> list[Finding]:
    """Put each finding that follows from another under it; of several causes the first in `checks` counts."""
    order = {check.id: place for place, check in enumerate(checks)}
    explains = {check.id: set(check.explains) for check in checks}
    causes = sorted(found, key=lambda finding: order[finding.id])
    parent: dict[int, Finding] = {}
    for symptom in found:
        for cause in causes:
            if symptom.id in explains[cause.id] and _covers(cause, symptom):
                parent[id(symptom)] = cause
                break

    def root(finding: Finding) -> Finding:
        # A symptom of a symptom is the cause's. Causes come before what they explain: this ends.
        while id(finding) in parent:
            finding = parent[id(finding)]
        return finding

    folded: dict[int, list[Finding]] = {}
    for symptom in found:
        if id(symptom) in parent:
            folded.setdefault(id(root(symptom)), []).append(symptom)
    heads = [finding for finding in found if id(finding) not in parent]
    return [
        replace(head, explains=tuple(_rank(folded.get(id(head), ()), checks)), severity=_worst(head, folded))
        for head in heads
    ]


def _covers(cause: Finding, symptom: Finding) -> bool:
    return not cause.where or (bool(symptom.where) and symptom.where <= cause.where)


def _worst(head: Finding, folded: dict[int, list[Finding]]) -> Severity:
    """A cause is as bad as the worst that follows from it; what was not seen is as bad as it is."""
    if head.severity is Severity.UNKNOWN:
        return head.severity
    severities = [head.severity, *(symptom.severity for symptom in folded.get(id(head), ()))]
    return sorted(severities, key=lambda severity: severity.rank)[0]


def _rank(findings: Iterable[Finding], checks: Sequence[Check]) -> list[Finding]:
    order = {check.id: place for place, check in enumerate(checks)}
    return sorted(findings, key=lambda f: (f.severity.rank, order[f.id], -len(f.where), sorted(f.where)))
