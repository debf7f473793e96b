"""The statistics of a pool: every key with its unit, kind, source and meaning, and how it is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .adapter import PoolGauges
from .histogram import BUCKETS, Times
from .server_counts import Change

PREFIX = "db.client.connection."
COMMANDS = "db.client.operation.duration"
_RATES = ("created", "closed", "failed", "checked_out")
_TIMES = {"create": "create_time", "wait": "wait_time", "use": "use_time", "rtt": "round_trip_time"}


@dataclass(frozen=True)
class Stat:
    """One statistic. `label` names what the values are by, where there are several."""

    key: str
    unit: str
    kind: str
    source: str
    meaning: str
    label: str = ""


_EVENTS, _OPTIONS = "pool events", "client options"
_POOL = "pool events, corrected by the pool's own counters"
_GAUGE, _COUNTER, _HISTOGRAM = "gauge", "counter", "histogram"

# Names of OpenTelemetry's semantic conventions for database clients, and ours under the same prefix.
# Counters and histograms count from the process's start or the last pop_stats().
STATS: tuple[Stat, ...] = (
    Stat(PREFIX + "count", "{connection}", _GAUGE, _POOL, "Open connections.", "state: idle, used"),
    Stat(PREFIX + "idle.max", "{connection}", _GAUGE, _OPTIONS, "The most that may be idle: maxPoolSize."),
    Stat(PREFIX + "idle.min", "{connection}", _GAUGE, _OPTIONS, "The fewest kept open: minPoolSize."),
    Stat(PREFIX + "max", "{connection}", _GAUGE, _OPTIONS, "The most that may be open; null: no limit."),
    Stat(PREFIX + "pending_requests", "{request}", _GAUGE, _POOL, "Operations that wait for a connection."),
    Stat(PREFIX + "timeouts", "{timeout}", _COUNTER, _EVENTS, "Waits that ended at waitQueueTimeoutMS."),
    Stat(PREFIX + "create_time", "s", _HISTOGRAM, _EVENTS, "Making a connection, handshake and all."),
    Stat(PREFIX + "wait_time", "s", _HISTOGRAM, _EVENTS, "Getting a connection from the pool."),
    Stat(PREFIX + "use_time", "s", _HISTOGRAM, _EVENTS, "From a checkout to its check-in."),
    Stat(
        PREFIX + "round_trip_time",
        "s",
        _HISTOGRAM,
        "the driver's moving average, at each tick that finds it changed",
        "A round trip to the server.",
    ),
    Stat(PREFIX + "created", "{connection}", _COUNTER, _EVENTS, "Connections begun."),
    Stat(PREFIX + "closed", "{connection}", _COUNTER, _EVENTS, "Connections closed.", "reason"),
    Stat(PREFIX + "checked_out", "{connection}", _COUNTER, _EVENTS, "Checkouts that got a connection."),
    Stat(PREFIX + "failed", "{request}", _COUNTER, _EVENTS, "Checkouts that got none.", "reason"),
    Stat(PREFIX + "cleared", "{pool}", _COUNTER, _EVENTS, "Times the pool was cleared: its server was lost."),
    Stat(
        PREFIX + "heartbeats_failed",
        "{heartbeat}",
        _COUNTER,
        "heartbeat events",
        "Server checks that failed.",
    ),
    Stat(
        PREFIX + "drift",
        "{connection}",
        _COUNTER,
        "reconciliation",
        "By how much gauges had to be corrected: events were lost, as where a signal ends a wait.",
    ),
    Stat(
        PREFIX + "rate",
        "1/s",
        _GAUGE,
        _EVENTS,
        "Over the last minute.",
        "event: created, closed, failed, checked_out",
    ),
    Stat(
        PREFIX + "average",
        "s",
        _GAUGE,
        _EVENTS,
        "Over the last minute; null: nothing to average.",
        "time: create_time, wait_time, use_time, round_trip_time",
    ),
    Stat(
        COMMANDS,
        "s",
        _HISTOGRAM,
        "command events",
        "Commands, where they are listened to.",
        "command and outcome: ok, error",
    ),
)


def server_stats(gauges: PoolGauges, counted: Change, minute: Change) -> dict[str, Any]:
    """Return the statistics of one server by the table's keys, as plain JSON types."""
    own = {
        "count": {"idle": gauges.idle, "used": gauges.in_use},
        "idle.max": gauges.max,
        "idle.min": gauges.min,
        "max": gauges.max,
        "pending_requests": gauges.waiting,
        **{name: counted.counts[name] for name in _PLAIN_COUNTERS},
        **{name: counted.by(name) for name in ("closed", "failed")},
        **{key: _histogram(counted.times[name]) for name, key in _TIMES.items()},
        "rate": {name: round(minute.rate(name), 3) for name in _RATES},
        "average": {key: minute.times[name].average for name, key in _TIMES.items()},
    }
    return {PREFIX + key: value for key, value in own.items()} | {COMMANDS: _commands(counted)}


_PLAIN_COUNTERS = ("timeouts", "created", "checked_out", "cleared", "heartbeats_failed", "drift")


def _commands(counted: Change) -> dict[str, Any]:
    labels = [name for name in counted.times if name.startswith("command.")]
    return {name.removeprefix("command."): _histogram(counted.times[name]) for name in labels}


def _histogram(times: Times) -> dict[str, Any]:
    return {"count": times.number, "sum": round(times.total, 6), "buckets": list(times.counts)}


@dataclass(frozen=True)
class Totals:
    """One process's pools together: what a row of the board and a report carry. Times are in ms, rates per s.

    Of `pool`, size, in_use, idle and waiting are sums over all servers; min and max are those of each
    server's pool, and usage is the fullest pool's share of max in use, None without a max. `servers` has
    size, in_use and waiting by server. `wait`, `use`, `rtt`, `rate` and `wait_buckets` are of the last
    minute; `count` is since the start or the last reset.
    """

    pool: dict[str, float | None]
    servers: dict[str, list[int]]
    count: dict[str, int]
    rate: dict[str, float]
    wait: dict[str, float | int | None]
    use: dict[str, float | int | None]
    rtt: dict[str, float | int | None]
    wait_buckets: list[int]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        # Not asdict(), which copies every number of it: that was a third of a tick.
        return dict(vars(self))


_COUNTS = (
    "created",
    "closed",
    "checked_out",
    "failed",
    "timeouts",
    "cleared",
    "heartbeats_failed",
    "drift",
)


def totals(gauges: Mapping[str, PoolGauges], counted: list[Change], minutes: list[Change]) -> Totals:
    """Add up the servers of a process; `gauges` are by server."""
    times = {name: _sum_times([minute.times[name] for minute in minutes]) for name in _TIMES}
    return Totals(
        pool=_together(list(gauges.values())),
        servers={name: [each.size, each.in_use, each.waiting] for name, each in gauges.items()},
        count={name: sum(change.counts[name] for change in counted) for name in _COUNTS},
        rate={name: round(sum(minute.rate(name) for minute in minutes), 3) for name in _RATES},
        wait=times["wait"].to_dict(),
        use=times["use"].to_dict(),
        rtt=times["rtt"].to_dict(),
        wait_buckets=list(times["wait"].counts),
    )


def _sum_times(times: list[Times]) -> Times:
    return sum(times, Times((0,) * BUCKETS))


def _together(gauges: list[PoolGauges]) -> dict[str, float | None]:
    names = ("size", "in_use", "idle", "waiting")
    sums: dict[str, float | None] = {name: sum(getattr(each, name) for each in gauges) for name in names}
    # A limit is one server's: that of several together would never be reached.
    limits = [each.max for each in gauges]
    most = None if None in limits else max((limit for limit in limits if limit is not None), default=0)
    usage = max((each.usage for each in gauges if each.usage is not None), default=None)
    return sums | {
        "min": max((each.min for each in gauges), default=0),
        "max": most,
        "usage": None if usage is None else round(usage, 4),
    }
