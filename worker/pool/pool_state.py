"""One client's pool of one server as its events tell it: gauges that events move and the pool corrects."""

from collections import deque
from typing import Any

from ..tracking.checkouts import POOL_SPACE, Checkouts
from .adapter import PoolGauges
from .reconcile import BUSY_LOOKS, Look, Off
from .server_counts import ServerCounts

# What the driver takes where nobody says otherwise.
_DEFAULT_MAX = 100


class PoolState:
    """The gauges of a pool, in connections; `waiting` is operations that wait for one.

    In use is what somebody holds: `holders`, those of all pools of the process, has the holder of each
    connection by its number: the pool's `base` and the connection's id. Ids begin anew in each pool, and
    events of a client that is being replaced go on beside those of the new one.

    After every event 0 <= in use <= size and waiting >= 0, whatever was lost, said twice or out of order.
    """

    __slots__ = (
        "_bases",
        "base",
        "counts",
        "holders",
        "is_closed",
        "looks",
        "max",
        "min",
        "name",
        "open",
        "size",
        "unseen",
        "uses",
        "waiting",
        "waits",
    )

    def __init__(self, name: str, counts: ServerCounts, checkouts: Checkouts) -> None:
        self.name = name
        self.counts = counts
        # Found once, not in every checkout.
        self.waits, self.uses = counts.wait, counts.use
        self.holders = checkouts.holders
        self._bases = checkouts.bases
        self.min = 0
        self.max: int | None = _DEFAULT_MAX
        self._clear()

    def _clear(self) -> None:
        self.base = next(self._bases)
        self.is_closed = False
        self.looks: deque[Look] = deque(maxlen=BUSY_LOOKS)
        self.open: set[int] = set()
        self.size = 0
        self.waiting = 0
        # In use by what the pool says, though no checkout was seen.
        self.unseen = 0

    def held(self) -> list[int]:
        """Return the numbers of the connections that somebody holds, the oldest first."""
        end = self.base + POOL_SPACE
        # A copy of a dict's keys is atomic, iterating over them is not.
        return [number for number in list(self.holders) if self.base <= number < end]

    def gauges(self) -> PoolGauges:
        """Return the gauges."""
        in_use = len(self.held()) + self.unseen
        size = max(self.size, in_use)
        return PoolGauges(size, in_use, size - in_use, self.waiting, self.min, self.max)

    def begin(self, options: dict[str, Any]) -> None:
        """Take the part of a new pool of the same server: an older one's connections are not its own."""
        self._forget(self.held())
        self._clear()
        self.min = options.get("minPoolSize", 0)
        self.max = options.get("maxPoolSize", _DEFAULT_MAX) or None

    def end(self) -> None:
        """The pool is closed: nobody waits, and what is not in use is gone."""
        self.is_closed = True
        self.waiting = 0
        self.unseen = 0
        self.size = 0

    @property
    def is_drained(self) -> bool:
        """Whether the pool is closed and all its connections came back."""
        return self.is_closed and not self.held()

    def opened(self, connection_id: int) -> None:
        """A connection is being made."""
        if connection_id not in self.open:
            self.open.add(connection_id)
            self.size += 1

    def closed(self, connection_id: int) -> None:
        """A connection is gone; one that was never known changes nothing."""
        # The driver tells of the check-in first: who still holds it gave it back unheard.
        self.holders.pop(self.base + connection_id, None)
        if connection_id in self.open:
            self.open.discard(connection_id)
            self.size = max(0, self.size - 1)

    def returned_unseen(self) -> None:
        """A connection came back that nobody was seen to hold."""
        self.unseen = max(0, self.unseen - 1)

    def correct(self, wrong: Off, idle: frozenset[int]) -> None:
        """Add what the gauges are off by; `idle` are the ids of the connections that nobody holds.

        Added, not set: an event that comes meanwhile is kept.
        """
        held = self.held()
        self.size = max(self.size, len(held) + self.unseen) + wrong.size
        self.waiting = max(0, self.waiting + wrong.waiting)
        in_use = len(held) + self.unseen + wrong.in_use
        # Whose check-in was not told: those that are idle in the pool, then the oldest.
        likely = sorted(held, key=lambda number: number - self.base not in idle)
        self._forget(likely[: max(0, len(held) - in_use)])
        self.unseen = max(0, in_use - len(held))

    def _forget(self, numbers: list[int]) -> None:
        for number in numbers:
            self.holders.pop(number, None)

    @property
    def signature(self) -> tuple[int, ...]:
        """Changes with every event but for those that undo each other: equal twice, nothing happened."""
        counts = self.counts
        ended = counts.failed.total() + counts.closed.total()
        checked_out = sum(self.waits.counts)
        return (self.size, len(self.held()), self.waiting, checked_out, counts.created, ended)
