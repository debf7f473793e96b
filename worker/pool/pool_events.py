"""The pool's events of one client, counted: this runs inside every checkout and does nothing else.

There is no lock. `x += 1` on a plain int, and on an item of a list, reads, adds and stores without a call
in between, and CPython hands the GIL over, and runs signal handlers, only at calls and backward jumps: the
three are one step. Where that does not hold (no GIL, or an exception that a signal raises within a handler)
a counter misses one, and a gauge is off until the next reconciliation mends it (`reconcile`).

An event names its server and connection but not its client, so each client has a listener of its own.
PyMongo prints what a handler raises and goes on; ours count it and record it instead. A time limit that
strikes within a handler is lost to its task either way, as within any listener's.
"""

# ruff: noqa: PLR1730 - max() would be a call in every checkout

import sys
from _thread import get_ident
from bisect import bisect_left
from collections.abc import Callable

from pymongo import monitoring

from ..tracking.checkouts import Checkouts, Holder, borrowed, running_greenlet
from ..tracking.flight import Kind
from ..tracking.listening import Address, Errors, Record, harmless
from ..tracking.work import current_work
from .histogram import BOUNDS
from .pool_state import PoolState
from .server_counts import ServerCounts

# A wait that long is recorded, where none was longer since the last tick: the ring is short. At 100 ms
# MongoDB's own advice is to act.
SLOW_SECONDS = 0.1

# Found once, not in every checkout.
_modules = sys.modules
_work_now = current_work.get


class Pools(dict[Address, PoolState]):
    """A client's pools by address; one that no event told of before is made when it is asked for."""

    def __init__(self, counts_of: Callable[[Address], ServerCounts], checkouts: Checkouts) -> None:
        super().__init__()
        self._counts_of = counts_of
        self._checkouts = checkouts

    def __missing__(self, address: Address) -> PoolState:
        """Make the pool."""
        host, port = address
        pool = PoolState(f"{host}:{port}", self._counts_of(address), self._checkouts)
        return self.setdefault(address, pool)


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
        self.pools = Pools(counts_of, checkouts)
        self.errors = errors
        self._checkouts = checkouts
        self._record = record
        # Found once, not in every checkout.
        self._holders = checkouts.holders
        self._suspects = checkouts.suspects
        self._tasks = checkouts.tasks
        self._slowest = checkouts.slowest
        self._clock = checkouts.clock

    # The three events of every checkout come first. Each is one function, without a decorator and with
    # what its parts would be written out: every call costs a thirtieth of the two microseconds they may take.

    def connection_check_out_started(self, event: monitoring.ConnectionCheckOutStartedEvent) -> None:
        """Somebody waits for a connection, be it for microseconds."""
        try:
            self.pools[event.address].waiting += 1
        except Exception as error:  # noqa: BLE001 - monitoring may fail in any way; the checkout goes on
            self.errors.take(error)

    def connection_checked_out(self, event: monitoring.ConnectionCheckedOutEvent) -> None:
        """The wait is over: somebody holds a connection."""
        try:
            pool = self.pools[event.address]
            if pool.waiting > 0:
                pool.waiting -= 1
            wait = event.duration or 0.0
            waits = pool.waits
            waits.counts[bisect_left(BOUNDS, wait)] += 1
            waits.total += wait
            if wait > waits.longest:
                waits.longest = wait
                if wait > SLOW_SECONDS:
                    self._record(Kind.SLOW_CHECKOUT, wait * 1000, pool.name)

            holder = Holder()
            holder.work = work = _work_now()
            if work is not None:
                work.waited += wait
            holder.wait = wait
            holder.server = pool.name
            holder.thread = get_ident()
            holder.greenlet = running_greenlet() if "greenlet" in _modules else None
            holder.stack = borrowed(work, self._suspects) if self._suspects and work is not None else None
            holder.flagged = False
            holder.since = self._clock()
            # In the place of one that was held already, if any: that came back, and it was not told.
            self._holders[pool.base + event.connection_id] = holder
        except Exception as error:  # noqa: BLE001 - monitoring may fail in any way; the checkout goes on
            self.errors.take(error)

    def connection_checked_in(self, event: monitoring.ConnectionCheckedInEvent) -> None:
        """A connection came back; one that nobody was seen to hold changes nothing."""
        try:
            pool = self.pools[event.address]
            holder = self._holders.pop(pool.base + event.connection_id, None)
            if holder is None:
                pool.returned_unseen()
                return
            held = self._clock() - holder.since
            uses = pool.uses
            uses.counts[bisect_left(BOUNDS, held)] += 1
            uses.total += held
            if held > uses.longest:
                uses.longest = held

            work = holder.work
            if work is not None:
                times = self._tasks[work.name]
                times.checkouts += 1
                times.held += held
                times.waited += holder.wait
                if held > times.longest_hold:
                    times.longest_hold = held
                if holder.wait > times.longest_wait:
                    times.longest_wait = holder.wait
                if held > self._slowest.floor:
                    self._slowest.add(work, held)
        except Exception as error:  # noqa: BLE001 - monitoring may fail in any way; the check-in goes on
            self.errors.take(error)

    @harmless
    def connection_check_out_failed(self, event: monitoring.ConnectionCheckOutFailedEvent) -> None:
        """The wait is over, and was for nothing."""
        pool, wait = self.pools[event.address], event.duration or 0.0
        if pool.waiting > 0:
            pool.waiting -= 1
        pool.counts.failed[event.reason] += 1
        self._checkouts.fail(wait)
        self._record(Kind.CHECKOUT_FAILED, wait * 1000, f"{pool.name} {event.reason}")

    @harmless
    def connection_created(self, event: monitoring.ConnectionCreatedEvent) -> None:
        """A connection is being made."""
        pool = self.pools[event.address]
        pool.opened(event.connection_id)
        pool.counts.created += 1
        self._record(Kind.CONNECTION_CREATED, 0.0, pool.name)

    @harmless
    def connection_ready(self, event: monitoring.ConnectionReadyEvent) -> None:
        """A connection was made."""
        pool, took = self.pools[event.address], event.duration or 0.0
        pool.counts.create.observe(took)
        self._record(Kind.CONNECTION_READY, took * 1000, pool.name)

    @harmless
    def connection_closed(self, event: monitoring.ConnectionClosedEvent) -> None:
        """A connection is gone."""
        pool = self.pools[event.address]
        pool.counts.closed[event.reason] += 1
        pool.closed(event.connection_id)
        self._record(Kind.CONNECTION_CLOSED, 0.0, f"{pool.name} {event.reason}")

    @harmless
    def pool_created(self, event: monitoring.PoolCreatedEvent) -> None:
        """A pool is there, the first of its server or another."""
        self.pools[event.address].begin(event.options)

    @harmless
    def pool_ready(self, event: monitoring.PoolReadyEvent) -> None:
        """The pool hands out connections."""
        self._record(Kind.POOL_READY, 0.0, self.pools[event.address].name)

    @harmless
    def pool_cleared(self, event: monitoring.PoolClearedEvent) -> None:
        """The pool takes none of its connections back: the server was lost."""
        pool = self.pools[event.address]
        pool.counts.cleared += 1
        self._record(Kind.POOL_CLEARED, 0.0, pool.name)

    @harmless
    def pool_closed(self, event: monitoring.PoolClosedEvent) -> None:
        """The client is closed, or its server no longer a member."""
        self.pools[event.address].end()

    @property
    def is_drained(self) -> bool:
        """Whether the client is closed and all it held came back."""
        return all(pool.is_drained for pool in list(self.pools.values()))
