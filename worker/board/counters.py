"""Counters of a row that never fall, over every process that had the row: for sums that are right.

What a process counts ends with it, and a sum over those that live falls when one ends. So the process that
takes a row adds what the one before it counted to what all before had, and begins at zero.

| offset | bytes | field | |
|---|---|---|---|
| 0 | 8 | generation | how many processes had the row; `before` stands in the half `generation % 2` |
| 8 | 8 | owner | the generation that `own` is of; while another takes the row it is of none |
| 16 | 8 x WIDTH | before | half 0: what all processes before this one counted, floats |
| 16 + 8 x WIDTH | 8 x WIDTH | before | half 1: likewise |
| 16 + 16 x WIDTH | 8 x WIDTH | own | what this process has counted |

A number is one store, and each step of a takeover is complete by one store too: a process that is killed at
any moment of it leaves what was there.
"""

from collections.abc import Mapping, Sequence

from ..pool.histogram import BUCKETS, Times

COUNTS = (
    *("created", "checked_out", "cleared", "heartbeats_failed", "requeued", "long_holds", "leaks"),
    *("overloads", "outages", "outage_seconds"),
)
CLOSED = ("idle", "stale", "error", "poolClosed", "other")
FAILED = ("timeout", "connectionError", "poolClosed", "other")
"""PyMongo's reasons for a closed connection and for a checkout that failed; other: any that is new."""
TIMES = ("wait", "create", "use")

FIELDS = (
    *COUNTS,
    *(f"closed.{reason}" for reason in CLOSED),
    *(f"failed.{reason}" for reason in FAILED),
    *(f"{name}.{part}" for name in TIMES for part in (*map(str, range(BUCKETS)), "sum")),
)
"""In the order in which they stand in memory. A change is a change of the board's version."""

WIDTH = len(FIELDS)
SIZE = 16 + 3 * 8 * WIDTH
_TRIES = 5


class RunningCounters:
    """A row's counters over a writable buffer of SIZE bytes that begins at a multiple of 8."""

    def __init__(self, buffer: memoryview) -> None:
        buffer = buffer[:SIZE]
        self._numbers = buffer[:16].cast("Q")
        self._floats = buffer[16:].cast("d")

    def take(self) -> None:
        """Begin at zero for a new process of the row, and keep what those before it counted."""
        generation = self._numbers[0]
        added = self._sums(generation)
        start = self._start(generation + 1)
        for place, value in enumerate(added):
            self._floats[start + place] = value
        self._numbers[0] = generation + 1
        for place in range(2 * WIDTH, 3 * WIDTH):
            self._floats[place] = 0.0
        self._numbers[1] = generation + 1

    def write(self, values: Sequence[float]) -> None:
        """Say what this process has counted so far, in the order of FIELDS; nothing ever falls."""
        for place, value in enumerate(values, 2 * WIDTH):
            self._floats[place] = max(self._floats[place], value)

    def read(self) -> list[float]:
        """Return what all processes of the row have counted, in the order of FIELDS."""
        generation = self._numbers[0]
        for _ in range(_TRIES):
            found = self._sums(generation)
            if self._numbers[0] == generation:
                return found
            generation = self._numbers[0]
        return found

    def _sums(self, generation: int) -> list[float]:
        start = self._start(generation)
        before: Sequence[float] = self._floats[start : start + WIDTH].tolist()
        if self._numbers[1] != generation:
            return list(before)
        own: Sequence[float] = self._floats[2 * WIDTH : 3 * WIDTH].tolist()
        return [sum(pair) for pair in zip(before, own, strict=True)]

    @staticmethod
    def _start(generation: int) -> int:
        return generation % 2 * WIDTH


def values(counts: Mapping[str, float], times: Mapping[str, Times]) -> list[float]:
    """Return the counts and times of a process in the order of FIELDS; what is not among them is left out
    but for reasons, which are other.
    """
    found = {name: float(counts.get(name, 0)) for name in FIELDS}
    for kind, known in (("closed", CLOSED), ("failed", FAILED)):
        reasons = {name: n for name, n in counts.items() if name.startswith(f"{kind}.")}
        found[f"{kind}.other"] = sum(n for name, n in reasons.items() if name.partition(".")[2] not in known)
    for name in TIMES:
        told = times.get(name, Times())
        found |= {f"{name}.{place}": float(n) for place, n in enumerate(told.counts)}
        found[f"{name}.sum"] = told.total
    return [found[name] for name in FIELDS]
