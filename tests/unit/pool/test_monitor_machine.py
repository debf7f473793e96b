"""Whatever events are lost, said twice or late: the gauges make sense, and ticks bring them to the truth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pymongo import monitoring as driver

from worker.pool.adapter import read_gauges
from worker.pool.monitor import PoolMonitor

SERVERS = st.sampled_from([("a", 1), ("b", 2)])
# How often an event is told.
TOLD = st.sampled_from([1, 1, 0, 2])


class TruePool:
    """A pool as PyMongo has it: what the monitor should say."""

    def __init__(self) -> None:
        self.opts = SimpleNamespace(min_pool_size=0, max_pool_size=5)
        self._pending = 0
        self.next_id = 1
        self.held: list[int] = []
        self.idle: list[int] = []
        self.waiting = 0
        self.is_closed = False

    @property
    def active_sockets(self) -> int:
        return len(self.held)

    @property
    def operation_count(self) -> int:
        return len(self.held) + self.waiting

    @property
    def conns(self) -> list[Any]:
        return [SimpleNamespace(id=number) for number in self.idle]


class FakeClient:
    """What of a client the monitor looks at."""

    def __init__(self, listener: Any) -> None:
        self.listener = listener
        self.pools: dict[Any, TruePool] = {}
        self.options = SimpleNamespace(event_listeners=[listener])
        self.topology_description = SimpleNamespace(server_descriptions=dict)

    @property
    def _topology(self) -> Any:
        servers = {address: SimpleNamespace(pool=pool) for address, pool in self.pools.items()}
        return SimpleNamespace(_servers=servers)


class Interleavings(RuleBasedStateMachine):
    """One client at a time, of two servers; those it replaced give back what they held when they like."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.monitor = PoolMonitor(clock=lambda: self.now)
        self.clients: list[FakeClient] = []
        self.replace_client()

    @property
    def client(self) -> FakeClient:
        return self.clients[-1]

    def pool(self, address: Any, told: int = 1) -> TruePool:
        pool = self.client.pools.get(address)
        if pool is None or pool.is_closed:
            pool = self.client.pools[address] = TruePool()
            for _ in range(told):
                self.client.listener.pool_created(driver.PoolCreatedEvent(address, {"maxPoolSize": 5}))
        return pool

    @rule(address=SERVERS, told=TOLD)
    def begins_to_wait(self, address: Any, told: int) -> None:
        self.pool(address, told).waiting += 1
        for _ in range(told):
            event = driver.ConnectionCheckOutStartedEvent(address)
            self.client.listener.connection_check_out_started(event)

    @rule(address=SERVERS, told=TOLD)
    def gets_a_connection(self, address: Any, told: int) -> None:
        pool = self.pool(address)
        if not pool.waiting:
            return
        pool.waiting -= 1
        if not pool.idle:
            self._make(address, pool, told)
        number = pool.idle.pop()
        pool.held.append(number)
        for _ in range(told):
            event = driver.ConnectionCheckedOutEvent(address, number, 0.001)
            self.client.listener.connection_checked_out(event)

    def _make(self, address: Any, pool: TruePool, told: int) -> None:
        number, pool.next_id = pool.next_id, pool.next_id + 1
        for _ in range(told):
            self.client.listener.connection_created(driver.ConnectionCreatedEvent(address, number))
            self.client.listener.connection_ready(driver.ConnectionReadyEvent(address, number, 0.01))
        pool.idle.append(number)

    @rule(address=SERVERS, told=TOLD, reason=st.sampled_from(["timeout", "connectionError"]))
    def waits_in_vain(self, address: Any, told: int, reason: str) -> None:
        pool = self.pool(address)
        if pool.waiting:
            pool.waiting -= 1
            for _ in range(told):
                event = driver.ConnectionCheckOutFailedEvent(address, reason, 0.1)
                self.client.listener.connection_check_out_failed(event)

    @rule(told=TOLD, which=st.integers(0, 5))
    def gives_back(self, told: int, which: int) -> None:
        """Of any client, also one that was replaced: its connection is then closed."""
        held = [(c, a, n) for c in self.clients for a, pool in c.pools.items() for n in pool.held]
        if not held:
            return
        client, address, number = held[which % len(held)]
        pool = client.pools[address]
        pool.held.remove(number)
        for _ in range(told):
            client.listener.connection_checked_in(driver.ConnectionCheckedInEvent(address, number))
        pool.idle.append(number)
        if pool.is_closed:
            self._close_idle(client, address, "poolClosed")

    @rule(address=SERVERS, told=TOLD)
    def clears(self, address: Any, told: int) -> None:
        self.pool(address)
        for _ in range(told):
            self.client.listener.pool_cleared(driver.PoolClearedEvent(address))
        self._close_idle(self.client, address, "stale", told)

    @rule(address=SERVERS, told=TOLD)
    def closes_a_pool(self, address: Any, told: int) -> None:
        self.pool(address)
        self._close(self.client, address, told)

    def _close(self, client: FakeClient, address: Any, told: int = 1) -> None:
        pool = client.pools[address]
        self._close_idle(client, address, "poolClosed", told)
        for _ in range(told):
            client.listener.pool_closed(driver.PoolClosedEvent(address))
        pool.waiting, pool.is_closed = 0, True

    def _close_idle(self, client: FakeClient, address: Any, reason: str, told: int = 1) -> None:
        pool = client.pools[address]
        for number in pool.idle * told:
            client.listener.connection_closed(driver.ConnectionClosedEvent(address, number, reason))
        pool.idle = []

    @rule()
    def replace_client(self) -> None:
        self.clients.append(FakeClient(self.monitor.listeners()[0]))
        for older in self.clients[-2:-1]:
            for address in older.pools:
                self._close(older, address)

    @rule(address=SERVERS, number=st.integers(1, 9))
    def something_unheard_of_is_told(self, address: Any, number: int) -> None:
        self.client.listener.connection_closed(driver.ConnectionClosedEvent(address, number + 100, "error"))
        self.client.listener.connection_checked_in(driver.ConnectionCheckedInEvent(address, number + 100))

    def tick(self) -> None:
        self.now += 2.0
        client: Any = self.client
        self.monitor.tick(client, self.now)

    @rule()
    def one_tick(self) -> None:
        self.tick()

    @rule()
    def at_rest_two_ticks_find_the_truth(self) -> None:
        self.tick()
        self.tick()
        client: Any = self.client
        truth = read_gauges(client)
        assert truth is not None
        own = {pool.name: pool.gauges() for pool in self.client.listener.pools.values()}
        # A server of which it never heard, or that is no longer one, is not corrected.
        both = own.keys() & truth.keys()
        assert {name: own[name] for name in both} == {name: truth[name] for name in both}
        assert self.monitor.errors == 0

    def teardown(self) -> None:
        self.at_rest_two_ticks_find_the_truth()

    @invariant()
    def gauges_make_sense(self) -> None:
        for client in self.clients:
            for pool in client.listener.pools.values():
                gauges = pool.gauges()
                assert 0 <= gauges.in_use <= gauges.size
                assert gauges.waiting >= 0


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(stateful_step_count=25, deadline=None)
