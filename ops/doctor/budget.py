"""The connection budget: what all pools together may come to, against what a server takes.

processes x (min(maxPoolSize, concurrent operations + 1) + 2) to each member; the two are the monitor's and
the round-trip timer's. Celery's own MongoDB result backend is a second client of each process.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ..text import count
from .facts import Facts, Node, Process

MONITORING = 2
"""Sockets beside the pool that a client holds to each member."""

BACKEND_POOL = 10
"""The maxPoolSize that Celery's MongoDB result backend takes where nobody says otherwise."""

RESERVE = 0.8
"""The share of a limit that may be planned: deploys overlap, and others connect, too."""

_UNBOUNDED = 100


@dataclass(frozen=True)
class Share:
    """So many alike processes, what each may open to one member, and why."""

    processes: int
    kind: str
    pool: int
    each: int

    @property
    def total(self) -> int:
        """What they may open together to one member."""
        return self.processes * self.each

    @property
    def line(self) -> str:
        """The share as a sum."""
        return f"{count(self.processes, 'process')} ({self.kind}) x {self.each} = {self.total:,}"


@dataclass(frozen=True)
class Budget:
    """What the fleet may open to each of `members`, and the `limit` of one; None is unknown.

    `fitting` is the largest maxPoolSize with which all fit into a reserve of the limit; None: none does.
    """

    shares: tuple[Share, ...]
    members: int
    limit: int | None
    limit_source: str
    fitting: int | None

    @property
    def total(self) -> int:
        """Connections to each member."""
        return sum(share.total for share in self.shares)

    @property
    def lines(self) -> tuple[str, ...]:
        """The shares, the largest first."""
        return tuple(share.line for share in sorted(self.shares, key=lambda share: -share.total)[:5])


def budget(facts: Facts) -> Budget | None:
    """Return the budget of the fleet; None where no process is known."""
    if not facts.present:
        return None
    limit, source = limit_of(facts)
    return Budget(shares(facts), members_of(facts), limit, source, _fitting(facts, limit))


def limit_of(facts: Facts) -> tuple[int | None, str]:
    """Return how many connections a member takes, and who says so."""
    if facts.limit is None:
        return None, facts.unseen.get("limit", "the server does not say")
    by_setting = bool(facts.settings.get("server_connections"))
    return facts.limit, "CELERY_PYMONGO_SERVER_CONNECTIONS" if by_setting else "serverStatus"


def members_of(facts: Facts) -> int:
    """Return how many members the deployment of MongoDB has, as far as the driver knows from here."""
    return max(1, len(((facts.ping or {}).get("topology") or {}).get("members") or ()))


def shares(facts: Facts) -> tuple[Share, ...]:
    """Return what the processes may open to each member, alike ones together."""
    found = Counter(share for node in facts.living for share in _of_node(node))
    return tuple(Share(number, *alike) for alike, number in sorted(found.items()))


def _of_node(node: Node) -> Iterator[tuple[str, int, int]]:
    slots = max(node.slots, len(node.present))
    for place in range(slots):
        # A slot that is empty now will be filled by one like the others.
        process = node.present[min(place, len(node.present) - 1)]
        pool = _pool(process, process.max_pool)
        yield str(process.report.get("kind")), pool, pool + MONITORING + _backend(process)


def _pool(process: Process, most: int | None) -> int:
    tasks = process.concurrency
    return min(most or _UNBOUNDED, _UNBOUNDED if tasks is None else tasks + 1)


def _backend(process: Process) -> int:
    if process.record.get("result_backend") != "mongodb":
        return 0
    return min(BACKEND_POOL, process.concurrency or BACKEND_POOL) + MONITORING


def _fitting(facts: Facts, limit: int | None) -> int | None:
    if limit is None:
        return None
    largest = max(_pool(process, process.max_pool) for process in facts.present)
    # The larger the pools, the more there are in all: the first that is too much ends the search.
    fitting = bisect_right(range(1, largest + 1), RESERVE * limit, key=lambda most: _total(facts, most))
    return fitting or None


def _total(facts: Facts, most: int) -> int:
    """Return what all may open to one member where no pool may have more than `most`."""
    return sum(
        max(node.slots, len(node.present))
        * (_pool(node.present[0], min(most, node.present[0].max_pool or most)) + MONITORING)
        + _backend(node.present[0])
        for node in facts.living
    )
