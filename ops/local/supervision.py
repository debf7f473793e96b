"""What to start again and when: decisions only, with the clock as an argument."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
STABLE_SECONDS = 30.0
"""A run this long forgives the failures before it."""


class Act(Enum):
    """What a service needs now."""

    REST = "rest"
    START = "start"
    ENDED = "ended"


@dataclass(frozen=True)
class Watch:
    """One service as it was last seen; times are of a monotonic clock."""

    up_since: float | None = None
    due_at: float = 0.0
    failures: int = 0


def step(watch: Watch, *, running: bool, now: float) -> tuple[Watch, Act]:
    """Say what is due; ENDED is said once for each end."""
    if watch.up_since is None:
        return watch, Act.START if now >= watch.due_at else Act.REST
    if running:
        return watch, Act.REST
    return failed(watch, now), Act.ENDED


def started(watch: Watch, now: float) -> Watch:
    """The service was started."""
    return Watch(up_since=now, failures=watch.failures)


def failed(watch: Watch, now: float) -> Watch:
    """The service ended, or could not be started: it is due again after a delay that doubles."""
    lived = 0.0 if watch.up_since is None else now - watch.up_since
    failures = 1 if lived >= STABLE_SECONDS else watch.failures + 1
    return Watch(due_at=now + delay_seconds(failures), failures=failures)


def delay_seconds(failures: int) -> float:
    """How long to wait after so many failures in a row: 0.5, 1, 2, … 30 s."""
    return min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 10))
