"""What a check finds, and what a check is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .facts import Facts


class Severity(StrEnum):
    """How bad it is, the worst first. A note asks for attention and spoils nothing."""

    DOWN = "down"
    DEGRADED = "degraded"
    UNKNOWN = "unknown"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """A number by which the worst comes first."""
        return list(Severity).index(self)


PLACES, ALIKE = 50, 10
"""What a document names: places of a finding, and findings of one check. Counts beside them are of all."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, for the person who is on call.

    `evidence` are sentences with numbers, `fix` steps with the setting's name and value or the command.
    `where` names the processes, nodes or queues that it is about; empty: the whole deployment.
    """

    id: str
    severity: Severity
    title: str
    evidence: tuple[str, ...]
    why: str
    fix: tuple[str, ...]
    where: frozenset[str] = frozenset()
    explains: tuple["Finding", ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; of many places the first, and how many there are."""
        return {
            "id": self.id,
            "severity": str(self.severity),
            "title": self.title,
            "evidence": list(self.evidence),
            "why": self.why,
            "fix": list(self.fix),
            "where": sorted(self.where)[:PLACES],
            "places": len(self.where),
            "explains": [symptom.to_dict() for symptom in self.explains[:ALIKE]],
            "explained": len(self.explains),
        }


Find = Callable[[Facts], Iterable[Finding]]


@dataclass(frozen=True)
class Check:
    """A check: what it asks, the facts without which it finds nothing, and the symptoms of what it finds.

    `explains` are ids of findings that follow from this one where they are about the same processes.
    `practice` is what it holds of the usual best practices of connection pooling.
    """

    id: str
    asks: str
    find: Find
    needs: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()
    practice: str = ""
