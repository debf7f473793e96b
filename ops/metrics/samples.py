"""From what is known of a deployment to the numbers of the series. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from ..doctor.facts import Facts, Node
from ..doctor.finding import Finding
from .series import COUNTER, GAUGE, SERIES, Series

VERDICTS = ("ok", "degraded", "down", "unknown")
GONE_SECONDS = 3600.0
"""How long a node's counters are told after its last word, as they stay in Redis."""

MOST_NODES, MOST_QUEUES, MOST_FINDINGS = 5_000, 200, 50
"""Of each the first by name: labels are bounded, whatever names there are in Redis."""


@dataclass(frozen=True)
class Known:
    """One look at a deployment. `survey` is the document of `mongo status`, `counters` are the nodes', by
    name, `bounds` the upper bounds of the histograms' buckets in seconds.
    """

    facts: Facts
    survey: Mapping[str, Any]
    findings: Sequence[Finding]
    counters: Mapping[str, Mapping[str, Any]]
    bounds: Sequence[float]
    version: str
    has_seen_redis: bool
    seen_at: float


@dataclass(frozen=True)
class Sample:
    """A value of a series; of a histogram the sum, with its cumulated `buckets`. `began` is when a counter
    was zero, unix seconds.
    """

    labels: tuple[str, ...]
    value: float
    buckets: tuple[float, ...] = ()
    began: float | None = None


Samples = dict[str, list[Sample]]


def samples(known: Known) -> Samples:
    """Return the samples of each series; of what is unknown there are none."""
    found: Samples = {series.name: [] for series in SERIES}
    for series in SERIES:
        if series.kind != GAUGE:
            found[series.name] = list(_counted(series, known))
    for name, labels, value in _gauges(known):
        if value is not None:
            found[name].append(Sample(labels, float(value)))
    return found


def _counted(series: Series, known: Known) -> Iterator[Sample]:
    name = series.counted or ""
    for node, document in sorted(known.counters.items())[:MOST_NODES]:
        counts, began = document["counts"], document["began"]
        if series.kind == COUNTER and not name.endswith("."):
            yield Sample((node,), counts.get(name, 0.0), began=began)
        elif series.kind == COUNTER:
            for field_name, value in sorted(counts.items()):
                if field_name.startswith(name):
                    yield Sample((node, field_name.removeprefix(name)), value, began=began)
        else:
            buckets = [counts.get(f"{name}.{place}", 0.0) for place in range(len(known.bounds) + 1)]
            yield Sample((node,), counts.get(f"{name}.sum", 0.0), tuple(accumulate(buckets)), began)


_Gauge = tuple[str, tuple[str, ...], float | None]


def _gauges(known: Known) -> Iterator[_Gauge]:
    facts, survey = known.facts, known.survey
    own = "celery_pymongo_"
    for node in (facts.nodes or ())[:MOST_NODES]:
        yield from _of_node(node)
    for name, document in sorted(known.counters.items())[:MOST_NODES]:
        yield f"{own}node_start_time_seconds", (name,), document["began"]
    for verdict in VERDICTS:
        yield f"{own}verdict", (verdict,), survey["verdict"] == verdict
    # A check may find the same of several nodes, and a scrape may not repeat a series.
    kinds = dict.fromkeys((finding.id, str(finding.severity)) for finding in known.findings)
    for kind in list(kinds)[:MOST_FINDINGS]:
        yield f"{own}finding", kind, 1
    for name, queue in sorted((survey["queues"] or {}).items())[:MOST_QUEUES]:
        yield f"{own}queue_messages", (name,), queue["depth"]
        yield f"{own}queue_oldest_seconds", (name,), queue["age"]
        yield f"{own}queue_gated", (name,), queue["gate"] is not None
    yield f"{own}unacknowledged_messages", (), survey["unacked"]
    yield f"{own}dead_letters", (), facts.dead_letters
    yield f"{own}beat_silence_seconds", (), (survey["beat"] or {}).get("silence")
    ping = survey["mongodb"]
    is_up = None if ping["verdict"] == "unknown" else ping["verdict"] != "down"
    yield f"{own}mongodb_up", (), is_up
    yield f"{own}mongodb_ping_seconds", (), None if ping["latency_ms"] is None else ping["latency_ms"] / 1000
    for member, row in sorted(survey["servers"].items()):
        yield f"{own}server_connections", (member,), row["current"]
        yield f"{own}server_connections_available", (member,), row["available"]
    yield f"{own}redis_up", (), known.has_seen_redis
    yield f"{own}exporter_last_look_timestamp_seconds", (), known.seen_at
    yield f"{own}build_info", (known.version,), 1


def _of_node(node: Node) -> Iterator[_Gauge]:
    present = node.present
    own, pools = "celery_pymongo_", "db_client_connection_"

    def summed(name: str, section: str = "pool") -> float:
        return sum(process.number(section, name) for process in present)

    yield f"{pools}count", (node.name, "used"), summed("in_use")
    yield f"{pools}count", (node.name, "idle"), summed("idle")
    yield f"{pools}pending_requests", (node.name,), summed("waiting")
    yield f"{pools}idle_min", (node.name,), summed("min")
    maxima = [process.pool.get("max") for process in present]
    yield f"{pools}max", (node.name,), None if None in maxima else summed("max")
    yield f"{own}memory_bytes", (node.name,), summed("uss", "memory")
    states = Counter(process.state for process in node.processes) + Counter(missing=len(node.missing))
    for state in ("live", "stale", "busy", "lost", "missing"):
        yield f"{own}processes", (node.name, state), states[state]
    yield f"{own}processes_expected", (node.name,), node.slots
    circuits = Counter(str(process.report.get("circuit", "closed")) for process in present)
    for state in ("closed", "open", "half-open"):
        yield f"{own}circuits", (node.name, state), circuits[state]


@dataclass
class Truth:
    """What was seen last, where a look sees less: one that was late makes no counter vanish."""

    samples: Samples = field(default_factory=dict)
    counters: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def remember(self, known: Known) -> Known:
        """Return what is known with the counters of looks before this one, while they count."""
        kept = self.counters | dict(known.counters)
        self.counters = {n: one for n, one in kept.items() if known.seen_at - one["at"] <= GONE_SECONDS}
        return replace(known, counters=self.counters)

    def take(self, seen: Samples, *, has_seen_redis: bool) -> Samples:
        """Return what is served: all of this look, or where Redis is away the last truth with what is new."""
        if has_seen_redis or not self.samples:
            self.samples = seen
            return seen
        always = ("celery_pymongo_redis_up", "celery_pymongo_verdict", "celery_pymongo_mongodb_up")
        fresh = {name: seen[name] for name in always}
        return self.samples | fresh
