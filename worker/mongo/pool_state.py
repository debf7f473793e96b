"""One client's pool of one server as its events tell it: gauges that events move and the pool corrects."""

from collections import deque
from itertools import count
from typing import Any

from .pool import PoolGauges
from .reconcile import BUSY_LOOKS, Look
from .server_counts import ServerCounts

# What the driver takes where nobody says otherwise.
_DEFAULT_MAX = 100
# Connection ids of one pool; beyond it they would meet those of the next.
_SPACE = 1 << 40
_serials = count(1)


class PoolState:
    """The gauges of a pool, in connections; `waiting` is operations that wait for one.

    After every event 0 <= in_use <= size and waiting >= 0, whatever was lost, said twice or out of order.
    """

    __slots__ = (
        "base",
        "counts",
        "in_use",
        "is_closed",
        "looks",
        "max",
        "min",
        "name",
        "open",
        "size",
        "waiting",
    )

    def __init__(self, name: str, counts: ServerCounts) -> None:
        self.name = name
        self.counts = counts
        self.is_closed = False
        self.looks: deque[Look] = deque(maxlen=BUSY_LOOKS)
        self.min = 0
        self.max: int | None = _DEFAULT_MAX
        self._clear()

    def _clear(self) -> None:
        # A connection's number is its pool's base and its id: ids begin anew in each pool, and events of a
        # client that is being replaced go on beside those of the new one.
        self.base = next(_serials) * _SPACE
        self.open: set[int] = set()
        self.size = 0
        self.in_use = 0
        self.waiting = 0

    def has(self, number: int) -> bool:
        """Say whether a connection's number is of this pool."""
        return self.base <= number < self.base + _SPACE

    def begin(self, options: dict[str, Any]) -> None:
        """Take the part of a new pool of the same server: an older one's connections are not its own."""
        self._clear()
        self.is_closed = False
        self.min = options.get("minPoolSize", 0)
        self.max = options.get("maxPoolSize", _DEFAULT_MAX) or None

    def end(self) -> None:
        """The pool is closed: nobody waits, and what is not in use is gone."""
        self.is_closed = True
        self.waiting = 0
        self.size = self.in_use

    def opened(self, connection_id: int) -> None:
        """A connection is being made."""
        if connection_id not in self.open:
            self.open.add(connection_id)
            self.size += 1

    def closed(self, connection_id: int) -> None:
        """A connection is gone; one that was never known changes nothing."""
        if connection_id in self.open:
            self.open.discard(connection_id)
            if self.size > self.in_use:
                self.size -= 1

    def correct(self, size: int, in_use: int, waiting: int) -> None:
        """Add what the gauges are off by. Added, not set: an event that comes meanwhile is kept."""
        self.in_use = max(0, self.in_use + in_use)
        self.size = max(self.in_use, self.size + size)
        self.waiting = max(0, self.waiting + waiting)

    @property
    def signature(self) -> tuple[int, ...]:
        """Changes with every event but for those that undo each other: equal twice, nothing happened."""
        counts = self.counts
        ended = counts.failed.total() + counts.closed.total()
        return (self.size, self.in_use, self.waiting, counts.checked_out, counts.created, ended)

    def gauges(self) -> PoolGauges:
        """Return the gauges."""
        # In this order a check-in between the two readings cannot make more in use than there are.
        in_use = self.in_use
        size = max(self.size, in_use)
        return PoolGauges(size, in_use, size - in_use, self.waiting, self.min, self.max)
