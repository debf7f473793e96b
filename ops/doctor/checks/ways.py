"""Do all nodes go to the same servers, and does none take much longer than the others?"""

from collections import defaultdict
from collections.abc import Iterator
from statistics import median

from ..facts import Facts, Node
from ..finding import Check, Finding, Severity
from ..words import names

SLOWER, LEAST_MS = 10.0, 100.0
"""So many times the round trips of the other nodes, and so many milliseconds, are a slow way."""


def two_clusters(facts: Facts) -> Iterator[Finding]:
    """Nodes of one deployment that work on different data."""
    by_cluster: dict[str, set[str]] = defaultdict(set)
    for process in facts.present:
        if cluster := process.report.get("cluster"):
            by_cluster[cluster].add(process.node)
    clusters = sorted(by_cluster, key=lambda name: (-len(by_cluster[name]), name))
    # Sets that share a member are one that is being changed.
    apart = [one for one in clusters[1:] if not _hosts(one) & _hosts(clusters[0])]
    if not apart:
        return
    few = frozenset().union(*(by_cluster[one] for one in apart))
    yield Finding(
        "two-clusters",
        Severity.DEGRADED,
        f"Nodes of this deployment use {len(apart) + 1} different clusters of MongoDB.",
        tuple(f"{names(by_cluster[one])}: {one}" for one in (clusters[0], *apart)),
        "Each task writes to, and reads from, the cluster of the node that it lands on: what one has written "
        "another does not find.",
        (
            f"compare MONGODB_URI (or MONGODB_URI_FILE) of {names(few)} with that of the others",
            f"celery -A APP control -d {min(few)} shutdown  # until it is right: its queue waits or others "
            "take it",
        ),
        where=few,
    )


def _hosts(cluster: str) -> set[str]:
    return set(cluster.partition("/")[2].split(","))


def node_slow(facts: Facts) -> Iterator[Finding]:
    """One node's round trips are many times those of the others: its way, not the server."""
    trips = {node.name: trip for node in facts.living if (trip := _trip(node)) is not None}
    if len(trips) < 2:
        return
    for node in facts.living:
        others = [trip for name, trip in trips.items() if name != node.name]
        trip, usual = trips.get(node.name), median(others) if others else None
        if trip is None or usual is None or trip < LEAST_MS or trip < SLOWER * usual:
            continue
        yield Finding(
            "node-slow",
            Severity.DEGRADED,
            f"The way of {node.name} to MongoDB is slow: round trips of {trip:,.0f} ms, others have "
            f"{usual:,.0f} ms.",
            (
                f"round trips in the last minute: {node.name} {trip:,.1f} ms, "
                f"{names(set(trips) - {node.name})} {usual:,.1f} ms (median)",
            ),
            "Every operation of this node takes at least so long and holds its connection and its slot. The "
            "server is well: the other nodes are answered at once.",
            (
                f"from the host of {node.name}: ping and traceroute (mtr) to the server; VPN, NAT, a proxy, "
                "another "
                "region or zone, a saturated link",
                f"celery -A APP control -d {node.name} cancel_consumer QUEUE  # leaves the work to the "
                "others",
            ),
            where=node.members,
        )


def _trip(node: Node) -> float | None:
    # The median of a minute's heartbeats: the average keeps what is over for longer.
    told = [p.number("rtt", "p50") for p in node.present if not p.is_cut_off and p.number("rtt", "n")]
    return median(told) if told else None


def registry_apart(facts: Facts) -> Iterator[Finding]:
    """The Redis of the fleet's records is not the one that has the messages."""
    if facts.is_redis_the_broker or facts.broker != "redis" or not facts.has_redis:
        return
    registry, broker = (facts.redis_places.get(name) or "unknown" for name in ("registry", "broker"))
    yield Finding(
        "registry-apart",
        Severity.NOTE,
        "The fleet's records are kept in another Redis than the messages.",
        (f"records (REDIS_URL): {registry}", f"messages (broker_url): {broker}"),
        "Both must be there, and be looked after: dead letters, counts of kills and the locks of beat are in "
        "the "
        "one, the queues in the other. Where it is a mistake, a worker that has it the other way is not seen "
        "here.",
        (
            "REDIS_URL set to the broker's URL, if they are meant to be one",
            "if they are meant to be two: persistence and noeviction on both",
        ),
    )


CHECKS = (
    Check("two-clusters", "Do all nodes use one cluster?", two_clusters, needs=("nodes",)),
    Check(
        "node-slow",
        "Is each node's way as fast as the others'?",
        node_slow,
        needs=("nodes",),
        explains=(
            "overload",
            "long-holds",
            "pool-exhausted",
            "pool-too-small",
            "slots-busy",
            "process-cut-off",
        ),
        practice="Database response time",
    ),
    Check("registry-apart", "Is the registry's Redis the broker's?", registry_apart),
)
