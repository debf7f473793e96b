"""What is known of a deployment at one moment, as plain values: what checks judge.

None is unknown, and `Facts.unseen` says why. Durations are seconds where a name says nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

ONE_TASK = ("prefork", "solo")
"""Kinds of pools whose processes run one task at a time."""

HEARTBEAT_MS = 10_000
"""How often the driver checks each server, where nobody says otherwise."""

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Process:
    """A process by its last report, and its node's record.

    `state` is live, stale, busy or lost, `silence` for how long it said nothing.
    """

    member: str
    node: str
    state: str
    silence: float
    report: Report
    record: Report = field(default_factory=dict)

    @property
    def is_present(self) -> bool:
        """Whether it is not lost."""
        return self.state != "lost"

    @property
    def is_cut_off(self) -> bool:
        """Whether it cannot use MongoDB."""
        circuit: str = self.report.get("circuit", "closed")
        return circuit != "closed"

    @property
    def hung_seconds(self) -> float | None:
        """For how long MongoDB has not answered it; None where that is not what cuts it off."""
        seconds = self.report.get("hung") if self.is_cut_off else None
        return None if seconds is None else seconds + self.silence

    @property
    def vouches(self) -> bool:
        """Whether it has used MongoDB so lately that MongoDB must be there: heartbeats see to that."""
        success = self.report.get("ok")
        pause = ((self.record.get("options") or {}).get("heartbeatFrequencyMS") or HEARTBEAT_MS) / 1000
        # One heartbeat that is late, and a report or two on their way.
        limit = 1.5 * pause + 5
        return not self.is_cut_off and success is not None and success + self.silence <= limit

    @property
    def has_just_recovered(self) -> bool:
        """Whether what it tells of the last two minutes may be of an outage that is over."""
        return self.report.get("recovered") is not None

    @property
    def concurrency(self) -> int | None:
        """How many tasks it runs at a time; None where its node does not say."""
        return 1 if self.report.get("kind") in ONE_TASK else self.record.get("concurrency")

    @property
    def pool(self) -> Report:
        """Its gauges: size, in_use, waiting, min, max, usage."""
        return self.part("pool")

    @property
    def max_pool(self) -> int | None:
        """maxPoolSize, of one member's pool; None where there is no maximum or nobody tells."""
        told = self.record.get("options", {}).get("maxPoolSize", self.pool.get("max"))
        return told or None

    @property
    def min_pool(self) -> int:
        """minPoolSize, of one member's pool."""
        return int(self.record.get("options", {}).get("minPoolSize", self.pool.get("min")) or 0)

    @property
    def most_connections(self) -> int | None:
        """How many connections its pool of one member can come to hold; None where nothing bounds it.

        One for each task at a time, and one for the health check: a thread holds no two.
        """
        bounds = [self.max_pool, None if self.concurrency is None else self.concurrency + 1]
        return min((bound for bound in bounds if bound is not None), default=None)

    @property
    def task(self) -> str | None:
        """The name of the task that it runs now."""
        name: str | None = self.part("task").get("name")
        return name

    @property
    def is_full_of_tasks(self) -> bool:
        """Whether each of its slots runs a task now."""
        return self.number("task", "running") >= (self.concurrency or float("inf"))

    def age(self, at: float) -> float:
        """Return how long it has lived by then; 0.0 where it does not say."""
        return float(at - self.report.get("started", at))

    def part(self, name: str) -> Report:
        """Return a section of the report; empty where it has none."""
        section: Report = self.report.get(name) or {}
        return section

    def number(self, section: str, name: str) -> float:
        """Return a number of the report; 0.0 where it is not told."""
        return float(self.part(section).get(name) or 0.0)


@dataclass(frozen=True)
class Node:
    """A node: how many slots it should have, its processes, slots without one, and what it says of itself.

    `answers`: whether its main process answered remote control, which is asked only where no process is
    present; None where it was not asked or nobody could ask.
    """

    name: str
    slots: int
    processes: tuple[Process, ...]
    missing: tuple[str, ...] = ()
    record: Report = field(default_factory=dict)
    answers: bool | None = None

    @cached_property
    def present(self) -> tuple[Process, ...]:
        """The processes that are not lost."""
        return tuple(process for process in self.processes if process.is_present)

    @cached_property
    def members(self) -> frozenset[str]:
        """Its name, and those of its processes and slots."""
        return frozenset({self.name, *self.missing, *(process.member for process in self.processes)})


@dataclass(frozen=True)
class Queue:
    """Messages that wait, the age of the oldest where it is known, and who consumes it (nodes)."""

    depth: int
    age: float | None
    consumers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Beat:
    """A beat that ticked: how long ago it last did and first did, its host, pid and scheduler."""

    silence: float
    age: float
    host: str
    pid: int
    scheduler: str


@dataclass(frozen=True)
class Facts:
    """Everything; `settings` is what this program's own settings say, see `gather`.

    `ping` is one from here (`Link.check`), `members` what is wrong with the members as seen from here (code,
    verdict, sentence, evidence), `server` what the member with the least room left tells of its connections,
    `last_counts` what that was at the last snapshot, `replication` how far the members are,
    `redis` what INFO tells. `unreadable` are the keys of records in Redis that cannot be read, by what they
    are; `refusal` is with which word Redis refuses to write, and `redis_refuses` what it does, as a
    predicate, where it answered and nothing could be seen. `lasting` is since when something is so, by what
    and by process, as the last health check left it, `judged` when that was, `check_arrived` when the last
    one came as a message.
    `elsewhere` are the queues of this broker that other deployments consume, with their names.
    `tasks` are hard limits of tasks by name, None for those that have none. `broker` is kombu's name of its
    kind, `redis_places` where the `registry` and the `broker` are, without secrets. `has_redis`: one is
    named for what is told of the fleet, and `is_redis_the_broker`: it has the messages, too. `health` is the
    verdict of the rules of the health checks, with their reasons.
    """

    at: float
    deployment: str
    settings: Report = field(default_factory=dict)
    nodes: tuple[Node, ...] | None = None
    ping: Report | None = None
    members: tuple[Report, ...] = ()
    login: Report | None = None
    server: Report | None = None
    replication: Report | None = None
    last_counts: Report | None = None
    indexes: Mapping[str, Any] | None = None
    queues: Mapping[str, Queue] | None = None
    beats: tuple[Beat, ...] | None = None
    redis: Report | None = None
    post_mortems: tuple[Report, ...] | None = None
    dead_letters: int | None = None
    elsewhere: Mapping[str, tuple[str, ...]] | None = None
    unreadable: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refusal: str | None = None
    redis_refuses: str | None = None
    lasting: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    check_arrived: float | None = None
    judged: float | None = None
    unseen: Mapping[str, str] = field(default_factory=dict)
    broker: str = "redis"
    has_redis: bool = True
    is_redis_the_broker: bool = True
    redis_places: Mapping[str, str] = field(default_factory=dict)
    health: Report = field(default_factory=dict)

    @cached_property
    def processes(self) -> tuple[Process, ...]:
        """Every process that is known, the lost ones too."""
        return tuple(process for node in self.nodes or () for process in node.processes)

    @cached_property
    def present(self) -> tuple[Process, ...]:
        """The processes that are not lost."""
        return tuple(process for process in self.processes if process.is_present)

    @cached_property
    def living(self) -> tuple[Node, ...]:
        """The nodes with a process that is not lost."""
        return tuple(node for node in self.nodes or () if node.present)

    @cached_property
    def standing(self) -> tuple[Node, ...]:
        """Those, and the nodes that have lost every process while their main process answers."""
        return tuple(node for node in self.nodes or () if node.present or node.answers)

    @property
    def limit(self) -> int | None:
        """How many connections one member of MongoDB takes: by the settings, else by the server."""
        limit: int | None = self.settings.get("server_connections") or (self.server or {}).get("limit")
        return limit

    @property
    def answers_here(self) -> bool:
        """Whether MongoDB answered a ping from here."""
        return self.ping is not None and self.ping.get("verdict") == "ok"

    def is_known(self, fact: str) -> bool:
        """Whether a fact was seen."""
        return getattr(self, fact) is not None
