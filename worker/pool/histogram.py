"""Times counted in fixed buckets: added up over servers and processes, and read as averages and quantiles."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add, sub

# Upper bounds in seconds; a last bucket takes what is longer. OpenTelemetry's for connection times are all
# among them (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10), so an exporter can add ours up to those.
_FINE = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005)
BOUNDS = (*_FINE, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BUCKETS = len(BOUNDS) + 1


@dataclass(frozen=True, slots=True)
class Times:
    """What a histogram held at one moment, or what came between two; seconds."""

    counts: Sequence[int] = (0,) * BUCKETS
    total: float = 0.0
    longest: float = 0.0

    @property
    def number(self) -> int:
        """How many times there are."""
        return sum(self.counts)

    @property
    def average(self) -> float | None:
        """Seconds; None where there are none."""
        return self.total / self.number if self.number else None

    def __add__(self, other: "Times") -> "Times":
        """Both together."""
        counts = tuple(map(add, self.counts, other.counts))
        return Times(counts, self.total + other.total, max(self.longest, other.longest))

    def since(self, before: "Times", longest: float) -> "Times":
        """What came after `before`; the longest is not known from counts, so it is told."""
        return Times(tuple(map(sub, self.counts, before.counts)), self.total - before.total, longest)

    def quantile(self, share: float) -> float | None:
        """Seconds that `share` of the times did not exceed, as if they lay evenly within their bucket."""
        rank = share * self.number
        below = 0
        for index, count in enumerate(self.counts):
            if count and below + count >= rank:
                return min(self._within(index, (rank - below) / count), self.longest)
            below += count
        return None

    def _within(self, index: int, part: float) -> float:
        low = BOUNDS[index - 1] if index else 0.0
        high = BOUNDS[index] if index < len(BOUNDS) else max(self.longest, low)
        return low + (high - low) * part

    def to_dict(self) -> dict[str, float | int | None]:
        """Return plain JSON types, in milliseconds."""
        return {
            "n": self.number,
            "avg": _ms(self.average),
            "p50": _ms(self.quantile(0.5)),
            "p99": _ms(self.quantile(0.99)),
            "max": _ms(self.longest if self.number else None),
        }


class Histogram:
    """Counts times. Written from any thread without a lock, as `pool_events` explains."""

    __slots__ = ("counts", "longest", "total")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.total = 0.0
        # The longest since it was taken last.
        self.longest = 0.0

    def observe(self, seconds: float) -> None:
        """Count one time."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)

    def read(self) -> Times:
        """Return what it holds."""
        return Times(tuple(self.counts), self.total, self.longest)

    def take_longest(self) -> float:
        """Return the longest time since this was last asked."""
        longest, self.longest = self.longest, 0.0
        return longest


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
