"""When a server hangs: it was asked, and neither answered nor refused for longer than a server ever takes.

Pure: `now` is monotonic seconds and an argument, somebody else asks and waits. A server that is well is heard
with each heartbeat, whatever its operations take. One that is not heard in time is asked directly, on a
connection of its own; what does not answer that either, while this process was awake, hangs.
"""

from dataclasses import dataclass
from enum import StrEnum

LATE_SECONDS = 0.25
"""How late an answer may be before anybody asks why."""

STALLED_SECONDS = 1.0
"""A process that waited for longer than it meant to stood still itself: the answer may be there."""

_LEAST_SECONDS = 1.0


@dataclass(frozen=True)
class Patience:
    """How long silence means nothing, in seconds: `heartbeat` is the time between two heartbeats, `ping` what
    a ping may take.
    """

    heartbeat: float
    ping: float

    @property
    def answer(self) -> float:
        """How long a server that is asked directly may take."""
        return max(_LEAST_SECONDS, self.ping - LATE_SECONDS)


class Outcome(StrEnum):
    """What came of asking a server directly."""

    ALIVE = "alive"
    HUNG = "hung"
    UNKNOWN = "unknown"


def ask_at(since: float, patience: Patience, *, awaited_since: float | None) -> float:
    """Return when to ask a server that is silent `since` then. `awaited_since`: since when something else
    than its next heartbeat waits for it, an operation for example.
    """
    due = since + patience.heartbeat
    if awaited_since is not None:
        due = min(due, max(since, awaited_since) + patience.ping)
    return due + LATE_SECONDS


def outcome(patience: Patience, *, has_answered: bool, took: float) -> Outcome:
    """Return what it means that a server did or did not answer for so many seconds."""
    if has_answered:
        return Outcome.ALIVE
    return Outcome.UNKNOWN if took > patience.answer + STALLED_SECONDS else Outcome.HUNG


def reason(seconds: float) -> str:
    """Return how people are told of a silence of so many seconds."""
    return f"hung: no answer for {seconds:.0f} s"
