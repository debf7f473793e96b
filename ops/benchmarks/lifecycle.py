"""What one pooled client per worker process brings and costs: four questions, measured."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from .nodes import Node
from .site import MeasurementError, Site
from .stats import Estimate, estimate, paired_ratios

Say = Callable[[str], None]

LEGEND = """\
A task is one find_one by _id; Celery settings, queues and client options are the
same everywhere.
shared    this project: one client per process
per task  a client made and closed by each task
bare      a module-level client, made by each process at its first task
late      bare, with pymongo imported in each process rather than in MAIN
"""

# Short batches stand close together, so that what else the machine does hits both halves of a pair.
_BATCH = 40
# Two workers of the same app differ by up to 5 % (measured: 0.95 and 1.01 of each other), which no number
# of pairs averages out: where a few per cent matter, the workers are started again so many times.
_BARE_STARTS = 5
_WARM_UP = 200
# The reporter connects within milliseconds of a process's start; a worker that idles has this long anyway.
_IDLE_SECONDS = 1.5
_STEADY_TASKS = 20
_POOL = 4
_TASKS_PER_CHILD = 50
_PAUSE_SECONDS = 0.01


@dataclass(frozen=True)
class Target:
    """A bound for the median."""

    sign: Literal["≥", "≤"]
    value: float

    def is_met(self, value: float) -> bool:
        """Whether `value` is within the bound."""
        return value >= self.value if self.sign == "≥" else value <= self.value

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}"


@dataclass(frozen=True)
class Finding:
    """One line of the result; without a target it is there for contrast."""

    title: str
    unit: str
    estimate: Estimate
    target: Target | None = None
    raw: dict[str, list[float]] = field(default_factory=dict)

    @property
    def is_met(self) -> bool | None:
        """Whether the median meets the target; None without one."""
        return None if self.target is None else self.target.is_met(self.estimate.median)


def measure(site: Site, *, pairs: int, say: Say) -> Iterator[Finding]:
    """Yield the findings, one after the other; `say` hears what is going on."""
    yield from throughput(site, pairs=pairs, say=say)
    yield from first_operation(site, rounds=pairs, say=say)
    yield from memory(site, say=say)


def throughput(site: Site, *, pairs: int, say: Say) -> Iterator[Finding]:
    """Compare tasks per second in interleaved batches on two long-lived workers of equal settings."""
    say(f"tasks/s, shared client and client per task: {pairs} pairs of {_BATCH} tasks")
    rates = _rates(site, "per_task", pairs=pairs, starts=1)
    yield _rate_finding("shared : per task", rates, Target("≥", 2.5))
    say(f"tasks/s, shared client and bare client: {_BARE_STARTS} starts, {pairs} pairs each")
    rates = _rates(site, "bare", pairs=pairs, starts=_BARE_STARTS)
    yield _rate_finding("shared : bare", rates, Target("≥", 0.97))


def first_operation(site: Site, *, rounds: int, say: Say) -> Iterator[Finding]:
    """Compare a fresh process's first operation with the median of its later ones, in recycled children."""
    tasks = 1 + _STEADY_TASKS
    say(f"first operation of a fresh process: {rounds} recycled processes of each kind")
    with _nodes(site, ["shared", "bare"], use="first", concurrency=1, max_tasks=tasks) as nodes:
        times: dict[str, list[tuple[float, float]]] = {node.app: [] for node in nodes}
        for number in range(rounds):
            time.sleep(_IDLE_SECONDS)
            records = {node: node.run_singly(tasks) for node in (nodes if number % 2 else reversed(nodes))}
            for node, (first, *others) in records.items():
                times[node.app].append((first.took_us, median(record.took_us for record in others)))
                node.wait_for_replacement(first.pid)
    yield _first_finding("shared", times["shared"], Target("≤", 2.0))
    yield _first_finding("bare", times["bare"], None)


def memory(site: Site, *, say: Say) -> Iterator[Finding]:
    """Read the memory that is each child's own, after it has run its tasks."""
    say(f"memory per child of {_POOL}, after {_TASKS_PER_CHILD} tasks each")
    yield _memory_finding(site, "shared", "shared", Target("≤", 27.0))
    yield _memory_finding(site, "bare", "bare", None)
    yield _memory_finding(site, "late", "bare, late", None)


@contextmanager
def _nodes(
    site: Site, apps: list[str], *, use: str, concurrency: int, max_tasks: int | None = None
) -> Iterator[list[Node]]:
    with ExitStack() as stack:
        made = [Node(site, app, use=use, concurrency=concurrency, max_tasks=max_tasks) for app in apps]
        yield [stack.enter_context(node) for node in made]


def _rates(site: Site, other: str, *, pairs: int, starts: int) -> list[tuple[float, float]]:
    """Return tasks per second of the shared client and of the other app, pair by pair."""
    rates: list[tuple[float, float]] = []
    for start in range(starts):
        # Neither is always the one that started first.
        apps = ["shared", other] if start % 2 == 0 else [other, "shared"]
        with _nodes(site, apps, use=f"rate{start}-{other}", concurrency=2) as nodes:
            by_app = {node.app: node for node in nodes}
            rates += _interleaved(by_app["shared"], by_app[other], pairs=pairs)
    return rates


def _interleaved(first: Node, second: Node, *, pairs: int) -> Iterator[tuple[float, float]]:
    """Yield tasks per second of both nodes, pair by pair; who goes first alternates."""
    for node in (first, second):
        node.run(_WARM_UP)
    for number in range(pairs):
        order = (second, first) if number % 2 else (first, second)
        rate = {node: node.run(_BATCH).tasks_per_second for node in order}
        yield rate[first], rate[second]


def _rate_finding(title: str, rates: list[tuple[float, float]], target: Target) -> Finding:
    raw = {"first_per_second": [a for a, _ in rates], "second_per_second": [b for _, b in rates]}
    return Finding(f"tasks/s, {title}", "x", estimate(paired_ratios(rates)), target, raw)


def _first_finding(app: str, times: list[tuple[float, float]], target: Target | None) -> Finding:
    raw = {"first_us": [a for a, _ in times], "steady_us": [b for _, b in times]}
    return Finding(f"first : steady op, {app}", "x", estimate(paired_ratios(times)), target, raw)


def _memory_finding(site: Site, app: str, title: str, target: Target | None) -> Finding:
    with Node(site, app, use="memory", concurrency=_POOL) as node:
        ran = node.run(_POOL * _TASKS_PER_CHILD, pause_seconds=_PAUSE_SECONDS)
        if len({record.pid for record in ran.records}) < _POOL:
            raise MeasurementError(f"a child of the worker for {app} ran no task, so its memory says nothing")
        uss = [child.memory_full_info().uss / 1e6 for child in node.children]
    return Finding(f"USS per child, {title}", "MB", estimate(uss), target, {"uss_mb": uss})
