"""The pool's events of one client, counted: this runs inside every checkout and does nothing else.

There is no lock. `x += 1` on a plain int, and on an item of a list, reads, adds and stores without a call
in between, and CPython hands the GIL over, and runs signal handlers, only at calls and backward jumps: the
three are one step. Where that does not hold (no GIL, or an exception that a signal raises within a handler)
a counter misses one, and a gauge is off until the next reconciliation mends it (`reconcile`).

An event names its server and connection but not its client, so each client has a listener of its own.
PyMongo prints what a handler raises and goes on; ours count it and record it instead.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from pymongo import monitoring

from .checkouts import Checkouts
from .flight import Kind
from .pool_state import PoolState
from .server_counts import ServerCounts

Record = Callable[[Kind, float, str], None]
Address = tuple[str, int | None]
E = TypeVar("E")

# A wait that long is recorded: at 100 ms MongoDB's own advice is to act.
SLOW_SECONDS = 0.1


class Errors:
    """Counts what our own handlers raised; each is recorded, none gets into a checkout."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.number = 0

    def take(self, error: Exception) -> None:
        """Count and record one."""
        self.number += 1
        self._record(Kind.ERROR, 0.0, type(error).__name__)


def harmless(handler: Callable[[Any, E], None]) -> Callable[[Any, E], None]:
    """Make a handler of `self.errors`' class raise nothing."""

    @wraps(handler)
    def handle(self: Any, event: E) -> None:
        try:
            handler(self, event)
        except Exception as error:  # noqa: BLE001 - monitoring may fail in any way; the checkout goes on
            self.errors.take(error)

    return handle


class PoolEvents(monitoring.ConnectionPoolListener):
    """Counts the pool events of one client. `counts_of` finds a server's counters by "host:port"."""

    def __init__(
        self,
        checkouts: Checkouts,
        counts_of: Callable[[Address], ServerCounts],
        *,
        record: Record,
        errors: Errors,
    ) -> None:
        self.pools: dict[Address, PoolState] = {}
        self.errors = errors
        self._checkouts = checkouts
        self._counts_of = counts_of
        self._record = record

    # The three events of every checkout come first; a decorator would cost each of them a call.

    def connection_check_out_started(self, event: monitoring.ConnectionCheckOutStartedEvent) -> None:
        """Somebody waits for a connection, be it for microseconds."""
        try:
            (self.pools.get(event.address) or self._meet(event.address)).waiting += 1
        except Exception as error:  # noqa: BLE001 - monitoring may fail in any way; the checkout goes on
            self.errors.take(error)

    def connection_checked_out(self, event: monitoring.ConnectionCheckedOutEvent) -> None:
        """The wait is over: somebody holds a connection."""
        try:
            pool = self.pools.get(event.address) or self._meet(event.address)
            wait = event.duration or 0.0
            if pool.waiting > 0:
                pool.waiting -= 1
            counts = pool.counts
            counts.checked_out += 1
            counts.wait.observe(wait)
            if self._checkouts.begin(pool.base + event.connection_id, wait, pool.name):
                pool.in_use += 1
                if pool.in_use > pool.size:  # noqa: PLR1730 - max() would be a call in every checkout
                    pool.size = pool.in_use
            if wait > SLOW_SECONDS:
                self._record(Kind.SLOW_CHECKOUT, wait * 1000, pool.name)
        except Exception as error:  # noqa: BLE001 - monitoring may fail in any way; the checkout goes on
            self.errors.take(error)

    def connection_checked_in(self, event: monitoring.ConnectionCheckedInEvent) -> None:
        """A connection came back; one that nobody was seen to hold changes nothing."""
        try:
            pool = self.pools.get(event.address) or self._meet(event.address)
            held = self._checkouts.end(pool.base + event.connection_id)
            if held is not None:
                if pool.in_use > 0:
                    pool.in_use -= 1
                pool.counts.use.observe(held)
        except Exception as error:  # noqa: BLE001 - monitoring may fail in any way; the check-in goes on
            self.errors.take(error)

    @harmless
    def connection_check_out_failed(self, event: monitoring.ConnectionCheckOutFailedEvent) -> None:
        """The wait is over, and was for nothing."""
        pool, wait = self._pool(event.address), event.duration or 0.0
        if pool.waiting > 0:
            pool.waiting -= 1
        pool.counts.failed[event.reason] += 1
        self._checkouts.fail(wait)
        self._record(Kind.CHECKOUT_FAILED, wait * 1000, f"{pool.name} {event.reason}")

    @harmless
    def connection_created(self, event: monitoring.ConnectionCreatedEvent) -> None:
        """A connection is being made."""
        pool = self._pool(event.address)
        pool.opened(event.connection_id)
        pool.counts.created += 1
        self._record(Kind.CONNECTION_CREATED, 0.0, pool.name)

    @harmless
    def connection_ready(self, event: monitoring.ConnectionReadyEvent) -> None:
        """A connection was made."""
        pool, took = self._pool(event.address), event.duration or 0.0
        pool.counts.create.observe(took)
        self._record(Kind.CONNECTION_READY, took * 1000, pool.name)

    @harmless
    def connection_closed(self, event: monitoring.ConnectionClosedEvent) -> None:
        """A connection is gone. It cannot be in use: the driver tells of its check-in first."""
        pool = self._pool(event.address)
        pool.counts.closed[event.reason] += 1
        if self._checkouts.holders.pop(pool.base + event.connection_id, None) is not None:
            pool.correct(0, -1, 0)
        pool.closed(event.connection_id)
        self._record(Kind.CONNECTION_CLOSED, 0.0, f"{pool.name} {event.reason}")

    @harmless
    def pool_created(self, event: monitoring.PoolCreatedEvent) -> None:
        """A pool is there, the first of its server or another."""
        pool = self._pool(event.address)
        for number in self._checkouts.held_of(pool):
            self._checkouts.holders.pop(number, None)
        pool.begin(event.options)

    @harmless
    def pool_ready(self, event: monitoring.PoolReadyEvent) -> None:
        """The pool hands out connections."""
        self._record(Kind.POOL_READY, 0.0, self._pool(event.address).name)

    @harmless
    def pool_cleared(self, event: monitoring.PoolClearedEvent) -> None:
        """The pool takes none of its connections back: the server was lost."""
        pool = self._pool(event.address)
        pool.counts.cleared += 1
        self._record(Kind.POOL_CLEARED, 0.0, pool.name)

    @harmless
    def pool_closed(self, event: monitoring.PoolClosedEvent) -> None:
        """The client is closed, or its server no longer a member."""
        self._pool(event.address).end()

    @property
    def is_drained(self) -> bool:
        """Whether the client is closed and all it held came back."""
        return all(pool.is_closed and not pool.in_use for pool in list(self.pools.values()))

    def _pool(self, address: Address) -> PoolState:
        return self.pools.get(address) or self._meet(address)

    def _meet(self, address: Address) -> PoolState:
        host, port = address
        return self.pools.setdefault(address, PoolState(f"{host}:{port}", self._counts_of(address)))
