"""What a load is asked for, and how it ended."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .journal import Counts

IN_FLIGHT = 16
"""Batches on their way at once."""


@dataclass(frozen=True)
class LoadOptions:
    """What the command line says; None is this project's default."""

    file: str
    collection: str
    database: str | None = None
    key: tuple[str, ...] = ()
    format: str | None = None
    types: tuple[str, ...] = ()
    in_flight: int = IN_FLIGHT
    rejects: Path | None = None
    state: Path | None = None


@dataclass
class Outcome:
    """How a load ended; `exit_code` is 0 only where every row is accounted for."""

    file: str
    collection: str
    counts: Counts = field(default_factory=Counts)
    exit_code: int = 0
    problem: str | None = None
    rejects: str | None = None
    resumed_after: int = 0
    seconds: float = 0.0
    types: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        told: dict[str, Any] = asdict(self)
        told |= told.pop("counts") | {"written": self.counts.written}
        return told | {"complete": self.exit_code == 0, "seconds": round(self.seconds, 3)}
