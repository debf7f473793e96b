"""What an election or an outage of MongoDB costs tasks: failures, blocked slots, time to come back."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from worker.integration.config import celery_config
from worker.settings.fields import load_settings

from ..local.child import Child
from ..local.replica_set import ReplicaSet, elections
from .apps import Spec
from .lifecycle import Finding, Target
from .outage_apps import TASK
from .site import MeasurementError, Site
from .stats import estimate

Say = Callable[[str], None]

LEGEND = """\
A task is one upsert by _id and 10 ms of other work, sent at a steady rate before, during and after the
fault. MongoDB is a replica set of its own with the default election timeout of 10 s: its primary steps down,
is killed and comes back, or all members are killed and start again on their ports. Celery settings, and our
mends of Celery's own bugs, are the same everywhere.
ours       MongoTask, with the queue gated
bare       a module-level client, made by each process at its first task, with PyMongo's own options
autoretry  the same with autoretry_for=(PyMongoError,), retry_backoff, 3 retries
blocked    seconds of each slot, from the fault on, that runs took which began before the next task was done
deliveries starts of tasks per task, retries included
primary    from the fault to a primary that takes writes, by MongoDB's own log
first      from there to the end of the first task that wrote after it
"""

STEP_DOWN, PRIMARY_KILL, SET_KILL = FAULTS = ("step-down", "primary-kill", "set-kill")

QUEUE = "celery"
_APPS = ("ours", "bare", "autoretry")
_BEFORE_SECONDS, _AFTER_SECONDS = 2.0, 3.0
_PAUSE_SECONDS = 0.01
_LOAD = 0.25
"""Of what the slots could do: a steady rate that no variant falls behind of by itself."""
_START_SECONDS, _DRAIN_SECONDS, _STOP_SECONDS = 40.0, 180.0, 60.0
_INELIGIBLE_SECONDS = 5


@dataclass(frozen=True)
class Line:
    """One run of a task, as its process recorded it; monotonic nanoseconds."""

    number: int
    began_ns: int
    ended_ns: int
    state: str


@dataclass(frozen=True)
class Fault:
    """What happens to MongoDB; `seconds` is how long all members are away, where they are."""

    kind: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.seconds:g} s" if self.seconds else self.kind

    def strike(self, replica_set: ReplicaSet) -> None:
        """Strike, and return once all members are back and have the same."""
        if self.kind == STEP_DOWN:
            old = replica_set.step_down(seconds=_INELIGIBLE_SECONDS)
            replica_set.primary(other_than=old)
        elif self.kind == PRIMARY_KILL:
            old = replica_set.primary()
            old.kill()
            replica_set.primary(other_than=old)
            old.start()
        else:
            replica_set.kill()
            time.sleep(self.seconds)
            replica_set.start()
        replica_set.wait_for_members()


@dataclass(frozen=True)
class Outage:
    """When MongoDB took no writes: from the fault to a new primary, in monotonic nanoseconds."""

    struck_ns: int
    primary_ns: int

    @property
    def seconds(self) -> float:
        """How long."""
        return (self.primary_ns - self.struck_ns) / 1e9


@dataclass(frozen=True)
class Outcome:
    """What one outage cost one app."""

    failed: int
    blocked_seconds: float
    deliveries: float
    primary_seconds: float
    first_seconds: float
    last_seconds: float


def measure(  # noqa: PLR0913 - what is measured
    site: Site, faults: Sequence[Fault], *, members: int, rounds: int, processes: int, say: Say
) -> Iterator[Finding]:
    """Yield the findings: every app in each round of each fault."""
    with ReplicaSet(site.folder / "outage", members=members) as replica_set:
        for fault in faults:
            found: dict[str, list[Outcome]] = {app: [] for app in _APPS}
            for number in range(rounds):
                for app in _APPS[number % 3 :] + _APPS[: number % 3]:
                    say(f"{fault}, round {number + 1} of {rounds}: {app}, {processes} processes")
                    name = f"{app}-{fault.kind}-{fault.seconds:g}-{number}"
                    found[app].append(_suffer(site, replica_set, fault, app, name, processes))
            yield from _compare(fault, found)


def _compare(fault: Fault, found: dict[str, list[Outcome]]) -> Iterator[Finding]:
    every = [one for outcomes in found.values() for one in outcomes]
    yield _finding(f"{fault}: primary", "s", [one.primary_seconds for one in every])
    for app, outcomes in found.items():
        is_ours = app == "ours"
        failed = [one.failed for one in outcomes]
        yield _finding(f"{fault}: failed, {app}", "tasks", failed, 0.0 if is_ours else None)
        yield _finding(f"{fault}: blocked, {app}", "s", [one.blocked_seconds for one in outcomes])
        yield _finding(f"{fault}: deliveries, {app}", "x", [one.deliveries for one in outcomes])
        first = [one.first_seconds for one in outcomes]
        yield _finding(f"{fault}: first, {app}", "s", first, 0.5 if is_ours else None)
        yield _finding(f"{fault}: last, {app}", "s", [one.last_seconds for one in outcomes])


def _finding(title: str, unit: str, values: Sequence[float], most: float | None = None) -> Finding:
    target = None if most is None else Target("≤", most)
    return Finding(title, unit, estimate(values), target, raw={"values": list(values)})


def assess(lines: Sequence[Line], outage: Outage, *, tasks: int, processes: int) -> Outcome:
    """Return what an outage cost, from every run of every task."""
    # What a task does after its write says when it wrote.
    wrote_after_ns = outage.primary_ns + int(_PAUSE_SECONDS * 1e9)
    ends = [line.ended_ns for line in lines if line.state == "SUCCESS" and line.ended_ns > wrote_after_ns]
    if not ends:
        raise MeasurementError("no task succeeded after the outage")
    blocked = sum(
        max(0, line.ended_ns - max(line.began_ns, outage.struck_ns))
        for line in lines
        if line.began_ns < min(ends)
    )
    return Outcome(
        failed=len({line.number for line in lines if line.state == "FAILURE"}),
        blocked_seconds=blocked / 1e9 / processes,
        deliveries=len(lines) / tasks,
        primary_seconds=outage.seconds,
        first_seconds=(min(ends) - outage.primary_ns) / 1e9,
        last_seconds=(max(ends) - outage.primary_ns) / 1e9,
    )


def _suffer(  # noqa: PLR0913, PLR0917 - one experiment, and what it is made of
    site: Site, replica_set: ReplicaSet, fault: Fault, app: str, name: str, processes: int
) -> Outcome:
    environment = site.environment_of(name) | {
        "MONGODB_URI": replica_set.uri,
        "CELERY_PYMONGO_GATED_QUEUES": QUEUE,
    }
    settings = load_settings(environment, env_file=None)
    config = celery_config(settings)
    records = site.folder / f"{name}.lines"
    records.touch()
    told = Spec(config, replica_set.uri, {}, settings.mongodb_database, str(records))
    argv = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        f"{__package__}.outage_apps:{app}",
        "worker",
        "-P",
        "prefork",
    ]
    argv += ["-c", str(processes), "-n", f"{name}@bench", "-l", "INFO", "-Q", QUEUE]
    log = site.folder / f"{name}.log"
    child = Child(name, argv, log=log, env=environment | told.to_environment())
    with _running(child), Celery(name, set_as_current=False) as producer:
        producer.conf.update(config)
        outage, tasks = _send_through(producer, replica_set, fault, processes=processes)
        _wait(lambda: len(_ended(_read(records))) >= tasks, child, f"{tasks} tasks", _DRAIN_SECONDS)
    return assess(_read(records), outage, tasks=tasks, processes=processes)


def _send_through(
    producer: Celery, replica_set: ReplicaSet, fault: Fault, *, processes: int
) -> tuple[Outage, int]:
    """Send at a steady rate while MongoDB suffers; return when it took no writes, and how many were sent."""
    rate = _LOAD * processes / _PAUSE_SECONDS
    began = time.monotonic()
    suffering = _Suffering(replica_set, fault, delay=_BEFORE_SECONDS)
    suffering.start()
    number = 0
    while suffering.over_at is None or time.monotonic() < suffering.over_at + _AFTER_SECONDS:
        producer.send_task(TASK, (number, _PAUSE_SECONDS), queue=QUEUE, ignore_result=True)
        number += 1
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
    return suffering.outage(), number


class _Suffering(threading.Thread):
    """The fault, beside the sending of tasks."""

    def __init__(self, replica_set: ReplicaSet, fault: Fault, *, delay: float) -> None:
        super().__init__(name="fault", daemon=True)
        self.over_at: float | None = None
        self._replica_set, self._fault, self._delay = replica_set, fault, delay
        self._struck_at = 0.0
        self._error: Exception | None = None

    def run(self) -> None:
        """Strike after a while, and wait for the end."""
        time.sleep(self._delay)
        self._struck_at = time.monotonic()
        try:
            self._fault.strike(self._replica_set)
        except Exception as error:  # noqa: BLE001 - raised by outage(), in the thread that asks
            self._error = error
        self.over_at = time.monotonic()

    def outage(self) -> Outage:
        """When MongoDB took no writes; raises what ended the fault early."""
        if self._error is not None:
            raise self._error
        offset = time.time() - time.monotonic()
        elected = (at - offset for member in self._replica_set.members for at in elections(member.log))
        primary_at = min(at for at in elected if at > self._struck_at)
        return Outage(int(self._struck_at * 1e9), int(primary_at * 1e9))


@contextmanager
def _running(child: Child) -> Iterator[None]:
    child.start()
    try:
        ready = f"{child.name}@bench ready."
        _wait(lambda: ready in child.log.read_text(errors="replace"), child, "its start", _START_SECONDS)
        yield
    finally:
        child.stop(_STOP_SECONDS)


def _wait(condition: Callable[[], bool], child: Child, what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if not child.is_running or time.monotonic() > deadline:
            text = child.log.read_text(errors="replace")[-2000:]
            raise MeasurementError(f"the worker {child.name} did not finish {what}:\n{text}")
        time.sleep(0.05)


def _read(path: Path) -> list[Line]:
    rows = (row.split() for row in path.read_text().splitlines())
    return [Line(int(number), int(began), int(ended), state) for number, began, ended, state in rows]


def _ended(lines: Sequence[Line]) -> set[int]:
    return {line.number for line in lines if line.state in ("SUCCESS", "FAILURE")}
