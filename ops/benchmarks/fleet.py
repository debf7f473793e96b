"""What a snapshot of a large fleet takes, and what Redis bears for the fleet: processes are simulated."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from worker.fleet import fleet as fleets
from worker.fleet import snapshot as snapshots
from worker.fleet.registry import Registry
from worker.server.connections import Connections, Counted
from worker.store.redis_client import connect_url

from .fleet_reports import reports
from .lifecycle import Finding, Target
from .site import PREFIX, Site
from .stats import estimate, paired_ratios

Say = Callable[[str], None]

LEGEND = """\
Reports are as large as a busy process's and published by the registry: one round trip
each, in which a script runs the commands. A snapshot reads them all, judges them and
adds them up, in one process; `read` is its part at Redis. Commands, round trips and CPU
(of one core) are Redis' for a fleet that reports every 2 s. Each process keeps one
connection for it: none is made anew.
"""

SIZES = (100, 1_000, 10_000)
_TICK_SECONDS = 2.0
_CONNECTIONS = 200
_KB, _MB = 1e3, 1e6


@dataclass(frozen=True)
class Snapshot:
    """One snapshot: seconds of reading and in all, and the bytes and commands that reading took."""

    read: float
    total: float
    size: float
    commands: float


@dataclass(frozen=True)
class Publishing:
    """What reports cost: the bytes that Redis keeps, and its CPU seconds and commands for one report."""

    memory: float
    cpu: float
    commands: float


def measure(site: Site, *, rounds: int, say: Say) -> Iterator[Finding]:
    """Yield the findings, one after the other; `say` hears what is going on."""
    taken: dict[int, list[Snapshot]] = {}
    for size in SIZES:
        say(f"{size:,} processes: two reports each, then {rounds} snapshots")
        with _fleet(site, size) as fleet:
            publishing = fleet.publish()
            fleet.snapshot()
            taken[size] = [fleet.snapshot() for _ in range(rounds)]
        yield from _of_snapshots(size, taken[size])
        yield from _of_publishing(size, publishing)
    small, large = ([one.total / size for one in taken[size]] for size in SIZES[1:])
    ratios = paired_ratios(list(zip(large, small, strict=True)))
    yield _finding("per process, 10,000 : 1,000", "x", ratios, Target("≤", 1.5))
    yield _of_connections(site)


class _Fleet:
    """Processes with reports in Redis, under keys of their own."""

    def __init__(self, client: "redis.Redis", size: int) -> None:
        self._redis: Any = client
        self._size = size
        self._registry = Registry(
            client, lambda *parts: ":".join((PREFIX, f"fleet-{size}", *map(str, parts)))
        )
        self._reports = [(origin.member, text) for origin, text in reports(size)]
        appnames = (origin.appname for origin, _ in reports(size))
        counted = Counted(by_appname=dict.fromkeys(appnames, 3), source="$currentOp", others=9)
        self._connections = Connections({"m:27017": counted})

    def publish(self) -> Publishing:
        """Report for every process twice; the second time is what a tick costs."""
        before = self._info()
        self._publish_all()
        filled = self._info()
        self._publish_all()
        after = self._info()
        return Publishing(
            memory=after["used_memory"] - before["used_memory"],
            cpu=(_cpu(after) - _cpu(filled)) / self._size,
            commands=_commands(filled, after) / self._size,
        )

    def snapshot(self) -> Snapshot:
        """Take a snapshot as a worker does."""
        before = self._info()
        started = time.perf_counter()
        reading = self._registry.fleet()
        read = time.perf_counter() - started
        fleet = fleets.assess(reading, is_alive=lambda _: None)
        document = snapshots.snapshot(fleet, deployment="bench", connections=self._connections)
        total = time.perf_counter() - started
        after = self._info()
        assert document["coverage"]["seen"] == self._size, f"a snapshot of {document['coverage']['seen']}"
        moved = after["total_net_output_bytes"] - before["total_net_output_bytes"]
        return Snapshot(read, total, moved, _commands(before, after))

    def _publish_all(self) -> None:
        for member, text in self._reports:
            self._registry.publish(member, text)

    def _info(self) -> dict[str, Any]:
        found: dict[str, Any] = self._redis.info()
        return found


@contextmanager
def _fleet(site: Site, size: int) -> Iterator[_Fleet]:
    with connect_url(site.environment["REDIS_URL"], seconds=10) as client:
        yield _Fleet(client, size)


def _of_snapshots(size: int, found: list[Snapshot]) -> Iterator[Finding]:
    target = Target("≤", 1000) if size == SIZES[-1] else None
    yield _finding(f"{size:,}: snapshot", "ms", [one.total * 1000 for one in found], target)
    yield _finding(f"{size:,}: read", "ms", [one.read * 1000 for one in found])
    yield _finding(f"{size:,}: bytes read", "kB", [one.size / _KB for one in found])
    yield _finding(f"{size:,}: commands of it", "", [one.commands for one in found])


def _of_publishing(size: int, found: Publishing) -> Iterator[Finding]:
    per_second = size / _TICK_SECONDS
    yield _finding(f"{size:,}: kept in Redis", "MB", [found.memory / _MB])
    yield _finding(f"{size:,}: round trips", "/s", [per_second])
    yield _finding(f"{size:,}: commands", "/s", [found.commands * per_second])
    yield _finding(f"{size:,}: CPU of Redis", "%", [100 * found.cpu * per_second])


def _of_connections(site: Site) -> Finding:
    """Return what the connections of the largest fleet take of Redis' memory, from a few hundred of them."""
    url = site.environment["REDIS_URL"]
    with ExitStack() as stack:
        client: Any = stack.enter_context(connect_url(url, seconds=10))
        before = client.info("memory")["used_memory"]
        for _ in range(_CONNECTIONS):
            stack.enter_context(connect_url(url)).ping()
        each = (client.info("memory")["used_memory"] - before) / _CONNECTIONS
    return _finding(f"{SIZES[-1]:,}: connections", "MB", [SIZES[-1] * each / _MB])


def _finding(title: str, unit: str, values: list[float], target: Target | None = None) -> Finding:
    return Finding(title, unit, estimate(values), target, {"values": values})


def _cpu(info: dict[str, Any]) -> float:
    return float(info["used_cpu_sys"] + info["used_cpu_user"])


def _commands(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Return the commands between two readings, without the reading itself."""
    return float(after["total_commands_processed"] - before["total_commands_processed"] - 1)
