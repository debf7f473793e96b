"""By how much a gauge made from events is wrong: a decision on what was seen, without a look at anything.

An event and the pool's own counter move at slightly different moments, so that a gauge and its counter
differ while an operation is between the two: for microseconds, or for as long as its thread does not run.
Such a difference comes and goes (of the looks at a pool that 20 greenlets fight over, a fifth saw one); what
a lost event left stays. So a difference is a drift where
- two looks in a row saw it and nothing happened in the pool between them: no operation was on its way, or
- the pool never rests, and the looks of a minute all saw it: then the part that all of them saw.
While a connection is being made the pool calls in use what by events is waiting (a caller waits, be it for
a handshake of seconds), so that look says nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

QUIET_LOOKS = 2
BUSY_LOOKS = 30
# Looks that are closer than this may meet the same operation on its way; a tick may come at any pace.
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Off:
    """By how much the pool's own counters exceed the gauges made from events, in connections."""

    size: int = 0
    in_use: int = 0
    waiting: int = 0

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return self.amount > 0

    def __sub__(self, other: "Off") -> "Off":
        """What is left of it."""
        return Off(self.size - other.size, self.in_use - other.in_use, self.waiting - other.waiting)

    @property
    def amount(self) -> int:
        """All of it together, whatever its direction."""
        return abs(self.size) + abs(self.in_use) + abs(self.waiting)


@dataclass(frozen=True, slots=True)
class Look:
    """The difference at one moment (monotonic s); the `signature` is that of the look before if nothing
    happened since.
    """

    at: float
    signature: tuple[int, ...]
    off: Off


def drift(looks: Sequence[Look]) -> Off:
    """Return by how much the gauges have to be corrected; `looks` are the latest, oldest first."""
    latest = looks[-QUIET_LOOKS:]
    is_quiet = len(latest) == QUIET_LOOKS and latest[0].signature == latest[1].signature
    counted = latest if is_quiet else looks[-BUSY_LOOKS:]
    if not is_quiet and len(counted) < BUSY_LOOKS:
        return Off()
    return Off(
        _common([look.off.size for look in counted]),
        _common([look.off.in_use for look in counted]),
        _common([look.off.waiting for look in counted]),
    )


def _common(differences: Sequence[int]) -> int:
    """The part of a difference that was there every time."""
    lowest, highest = min(differences), max(differences)
    return lowest if lowest > 0 else min(highest, 0)
