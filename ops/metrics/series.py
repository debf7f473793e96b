"""The series: one table, of which the exporter, the reference and the tests are made.

Names of OpenTelemetry's semantic conventions for database clients stand in their Prometheus form where the
meaning is exact; everything else begins with `celery_pymongo_`. Labels are bounded: never a pid or a slot.
"""

from dataclasses import dataclass
from typing import Final, Literal

GAUGE: Final = "gauge"
COUNTER: Final = "counter"
HISTOGRAM: Final = "histogram"


@dataclass(frozen=True)
class Series:
    """A series: its name, kind, labels beside `deployment`, meaning, and where its numbers come from.

    A counter's name is without the `_total` that Prometheus adds. `counted` is the field of a node's counters
    that it is, or the beginning of the fields that are told apart by `reason`.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    counted: str | None = None

    @property
    def source(self) -> str:
        """Where its numbers come from."""
        if self.counted is not None:
            return "all processes of the node since its start"
        return "live processes, now" if "node" in self.labels else "the exporter's last look"


_NODE = ("node",)
_OWN = "celery_pymongo_"
_DB = "db_client_connection_"


def _counter(name: str, meaning: str, counted: str, labels: tuple[str, ...] = _NODE) -> Series:
    return Series(name, COUNTER, labels, meaning, counted)


def _gauge(name: str, labels: tuple[str, ...], meaning: str) -> Series:
    return Series(name, GAUGE, labels, meaning)


def _times(name: str, meaning: str, counted: str) -> Series:
    return Series(name, HISTOGRAM, _NODE, meaning, counted)


_REASON = ("node", "reason")

SERIES: tuple[Series, ...] = (
    _gauge(f"{_DB}count", ("node", "state"), "Pooled connections, by state: idle or used."),
    _gauge(f"{_DB}max", _NODE, "The most that all pools of the node may open to one member."),
    _gauge(f"{_DB}idle_min", _NODE, "What all pools of the node keep open while idle."),
    _gauge(f"{_DB}pending_requests", _NODE, "Operations that wait for a connection."),
    _counter(f"{_DB}timeouts", "Operations that got no connection in time.", "failed.timeout"),
    _times(f"{_DB}create_time_seconds", "How long making a connection took.", "create"),
    _times(f"{_DB}wait_time_seconds", "How long operations waited for a connection.", "wait"),
    _times(f"{_DB}use_time_seconds", "How long operations kept a connection.", "use"),
    _counter(f"{_OWN}checkouts", "Connections handed to operations.", "checked_out"),
    _counter(f"{_OWN}checkouts_failed", "Operations that got no connection, by reason.", "failed.", _REASON),
    _counter(f"{_OWN}connections_created", "Connections made.", "created"),
    _counter(f"{_OWN}connections_closed", "Connections closed, by reason.", "closed.", _REASON),
    _counter(f"{_OWN}pool_clears", "Pools emptied after an error of their server.", "cleared"),
    _counter(f"{_OWN}heartbeats_failed", "Checks of a server that failed.", "heartbeats_failed"),
    _counter(f"{_OWN}tasks_requeued", "Runs of tasks that went back to the broker in an outage.", "requeued"),
    _counter(f"{_OWN}long_holds", "Operations that kept a connection for too long.", "long_holds"),
    _counter(f"{_OWN}leaks", "What tasks left open when they ended.", "leaks"),
    _counter(f"{_OWN}overloads", "Answers of a server that it is overloaded.", "overloads"),
    _counter(f"{_OWN}outages", "Outages that processes of the node met, each process's own.", "outages"),
    _counter(
        f"{_OWN}outage_seconds",
        "Seconds of outages, of all the node's processes together.",
        "outage_seconds",
    ),
    _gauge(f"{_OWN}node_start_time_seconds", _NODE, "When the node began, which its counters count from."),
    _gauge(f"{_OWN}processes", ("node", "state"), "Processes: live, stale, busy, lost or missing."),
    _gauge(f"{_OWN}processes_expected", _NODE, "Processes that the node should have."),
    _gauge(f"{_OWN}circuits", ("node", "state"), "Processes by how they see MongoDB."),
    _gauge(f"{_OWN}memory_bytes", _NODE, "Memory of the node's processes that no other has (USS)."),
    _gauge(f"{_OWN}verdict", ("verdict",), "1 for the deployment's verdict, 0 for the others."),
    _gauge(f"{_OWN}finding", ("id", "severity"), "1 for each kind of finding that the doctor has."),
    _gauge(f"{_OWN}queue_messages", ("queue",), "Messages that wait in a queue."),
    _gauge(f"{_OWN}queue_oldest_seconds", ("queue",), "How long the oldest message of a queue waits."),
    _gauge(f"{_OWN}queue_gated", ("queue",), "1 where a node leaves a queue alone."),
    _gauge(f"{_OWN}unacknowledged_messages", (), "Messages that workers took and did not acknowledge."),
    _gauge(f"{_OWN}dead_letters", (), "Dead letters that wait for a person."),
    _gauge(f"{_OWN}beat_silence_seconds", (), "Since the last tick of the beat that ticked last."),
    _gauge(f"{_OWN}mongodb_up", (), "1 where MongoDB answers a ping of the exporter."),
    _gauge(f"{_OWN}mongodb_ping_seconds", (), "The exporter's ping of MongoDB."),
    _gauge(f"{_OWN}server_connections", ("member",), "All connections of a member, as it counts them."),
    _gauge(f"{_OWN}server_connections_available", ("member",), "Those that a member has left."),
    _gauge(f"{_OWN}redis_up", (), "1 where Redis answered the exporter's last look."),
    _gauge(f"{_OWN}exporter_last_look_timestamp_seconds", (), "When the exporter last saw the fleet."),
    _gauge(f"{_OWN}build_info", ("version",), "1, with the exporter's version."),
)

BY_NAME = {series.name: series for series in SERIES}
