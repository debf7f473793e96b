"""The adapter to the pools of a client: the only place that touches PyMongo's private counters."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from .holder import Client


@dataclass(frozen=True)
class PoolGauges:
    """One server's pool at one moment, in connections; `waiting` is operations queued for one."""

    size: int
    in_use: int
    idle: int
    waiting: int
    min: int
    max: int | None

    @property
    def usage(self) -> float | None:
        """The share of the maximum that is in use, 0.0 to 1.0; None where there is no maximum."""
        return self.in_use / self.max if self.max else None

    def plus(self, other: "PoolGauges") -> "PoolGauges":
        """Return this pool with the connections of another one of the same server, within its own limits."""
        return replace(
            self,
            size=self.size + other.size,
            in_use=self.in_use + other.in_use,
            idle=self.idle + other.idle,
            waiting=self.waiting + other.waiting,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def read_gauges(client: Client) -> dict[str, PoolGauges] | None:
    """Return the gauges of each server's pool by `host:port`; None where PyMongo no longer has them.

    The only place that touches the pool's private counters: PyMongo offers no public ones, and gauges
    made from events drift when a signal interrupts a checkout.
    """
    try:
        topology: Any = client._topology
        # There is none before the first operation has looked a mongodb+srv name up.
        servers = {} if topology is None else topology._servers
        return {f"{host}:{port}": _gauges(server.pool) for (host, port), server in list(servers.items())}
    except AttributeError:
        return None


def _gauges(pool: Any) -> PoolGauges:
    # Both before any call: another thread, of which the numbers would then tell two moments, runs at calls.
    in_use, operations = pool.active_sockets, pool.operation_count
    idle = len(pool.conns)
    return PoolGauges(
        size=in_use + idle,
        in_use=in_use,
        idle=idle,
        waiting=max(0, operations - in_use),
        min=pool.opts.min_pool_size,
        # PyMongo's 0 is no maximum.
        max=pool.opts.max_pool_size or None,
    )


@dataclass(frozen=True)
class PoolInside:
    """What else a pool knows: how many connections it is making, and the ids of the idle ones."""

    connecting: int
    idle: frozenset[int]


def read_inside(client: Client) -> dict[str, PoolInside]:
    """Return what else each server's pool knows by `host:port`; nothing where PyMongo no longer has it."""
    try:
        servers = list(client._topology._servers.items())
        return {f"{host}:{port}": _inside(server.pool) for (host, port), server in servers}
    except AttributeError:
        return {}


def _inside(pool: Any) -> PoolInside:
    # list() of a deque is atomic, iterating over it is not.
    return PoolInside(pool._pending, frozenset(connection.id for connection in list(pool.conns)))


def read_round_trips(client: Client) -> dict[str, float]:
    """Return the driver's moving average of each server's round-trip time in seconds, by `host:port`."""
    servers = client.topology_description.server_descriptions().items()
    times = {f"{host}:{port}": server.round_trip_time for (host, port), server in servers}
    return {name: seconds for name, seconds in times.items() if seconds is not None}
