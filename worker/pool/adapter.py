"""The adapter to a client's pools and heartbeats: the only place that touches what PyMongo keeps private.

Where a PyMongo has it no longer nothing is raised: gauges are unknown, and a server that hangs is given up by
the driver alone, after its own limits.
"""

import socket
import weakref
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import pymongo
from pymongo.errors import ExecutionTimeout, NetworkTimeout, PyMongoError, WaitQueueTimeoutError
from pymongo.server_description import ServerDescription
from pymongo.synchronous.pool import Connection, Pool

from ..mongo.holder import Client
from ..tracking.listening import Address


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


def keep_open(client: Client, number: int, *, timeout_seconds: float) -> None:
    """Use so many connections of each server that takes writes at once; those that are missing are made.

    None of them is idle for long then, so the driver closes none. Its own minPoolSize opens as many to every
    member of a set, used or not, and makes them anew each time that they were idle for maxIdleTimeMS.
    Never raises for what MongoDB does.
    """
    servers = client.topology_description.server_descriptions()
    with suppress(PyMongoError, OSError), pymongo.timeout(timeout_seconds):
        for address in [address for address, server in servers.items() if server.is_writable]:
            try:
                pool = client._topology._servers[address].pool
                _use_at_once(pool, number - pool.active_sockets, client)
            except (AttributeError, KeyError, TypeError):
                # PyMongo has changed, or the server has just gone: one connection is what all can do.
                client.admin.command("ping")


def _use_at_once(pool: Any, number: int, client: Client) -> None:
    with ExitStack() as held:
        for _ in range(number):
            held.enter_context(pool.checkout()).command("admin", {"ping": 1}, client=client)


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


class TrackedPool(Pool):
    """A pool that knows the connections it made, those that are in use too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._made: weakref.WeakValueDictionary[int, Connection] = weakref.WeakValueDictionary()

    def connect(self, handler: Any = None) -> Connection:
        """Make a connection as PyMongo does."""
        connection = super().connect(handler)
        self._made[connection.id] = connection
        return connection

    def hang_up(self) -> None:
        """End both ways of each connection, so that what waits to read or to write ends now.

        PyMongo's own interruption reaches readers alone, after up to half a second.
        """
        # The list of references is made in one piece, iterating over the values is not.
        for connection in [reference() for reference in self._made.valuerefs()]:
            if connection is not None:
                with suppress(OSError):
                    # Before PyMongo 4.12 the socket itself.
                    _hang_up(getattr(connection.conn, "sock", connection.conn))


def _hang_up(connected: Any) -> None:
    # An SSLSocket's own shutdown() takes its TLS away from the thread that uses it; pyOpenSSL has another.
    if hasattr(connected, "sock_shutdown"):
        connected.sock_shutdown(socket.SHUT_RDWR)
    else:
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def answers(client: Client, address: Address, seconds: float) -> bool:
    """Say whether a server says anything within so many seconds to a hello on a connection of its own.

    A refusal is an answer. Neither the pool nor the heartbeats of this server have a part in it.
    """
    try:
        own_pool = client._topology._create_pool_for_monitor(address)
    except AttributeError:
        return True
    try:
        with pymongo.timeout(seconds), own_pool.checkout() as connection:
            connection.hello()
    except (NetworkTimeout, ExecutionTimeout, WaitQueueTimeoutError):
        return False
    except (PyMongoError, OSError):
        return True
    finally:
        own_pool.close()
    return True


def renew_heartbeat(client: Client, address: Address) -> None:
    """Have a server's heartbeats go on over a new connection; its operations do not notice."""
    with suppress(AttributeError, KeyError):
        client._topology._servers[address]._monitor.cancel_check()


def interrupt(client: Client, address: Address, reason: str) -> None:
    """End what waits for a server's answer, and take it for unknown until it is heard: what the driver does
    by itself when its heartbeat times out.
    """
    with suppress(AttributeError, KeyError):
        topology: Any = client._topology
        server = topology._servers[address]
        server.pool.hang_up()
        unknown = ServerDescription(address, error=NetworkTimeout(f"{address[0]}:{address[1]}: {reason}"))
        topology.on_change(unknown, reset_pool=True, interrupt_connections=True)
        server._monitor.cancel_check()
