"""What an outage of MongoDB costs tasks: failures, blocked slots, deliveries, and the time to come back."""

import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from worker.config import celery_config
from worker.settings import load_settings

from ..local.child import Child
from ..local.servers import LocalServer, mongo_server
from .apps import Spec
from .lifecycle import Finding, Target
from .outage_apps import TASK
from .site import MeasurementError, Site
from .stats import estimate

Say = Callable[[str], None]

LEGEND = """\
A task is one upsert by _id and 10 ms of other work, sent at a steady rate before, during and after the
outage: the server is killed and starts again on its port. Celery settings, and our mends of Celery's own
bugs, are the same everywhere.
ours       MongoTask, with the queue gated
bare       a module-level client, made by each process at its first task, with PyMongo's own options
autoretry  the same with autoretry_for=(PyMongoError,), retry_backoff, 3 retries
blocked    of the slots' time in the outage, what runs of tasks took of it, though none could succeed
deliveries starts of tasks per task, retries included
first      from the moment that the server listens to the end of the first task that succeeds
"""

QUEUE = "celery"
_APPS = ("ours", "bare", "autoretry")
_BEFORE_SECONDS, _AFTER_SECONDS = 2.0, 3.0
_PAUSE_SECONDS = 0.01
_LOAD = 0.25
"""Of what the slots could do: a steady rate that no variant falls behind of by itself."""
_START_SECONDS, _DRAIN_SECONDS, _STOP_SECONDS, _LISTEN_SECONDS = 40.0, 180.0, 60.0, 30.0


@dataclass(frozen=True)
class Line:
    """One run of a task, as its process recorded it; monotonic nanoseconds."""

    number: int
    began_ns: int
    ended_ns: int
    state: str


@dataclass(frozen=True)
class Outage:
    """When the server was away: from its kill to the moment that it listened again."""

    killed_ns: int
    listening_ns: int

    @property
    def seconds(self) -> float:
        """How long."""
        return (self.listening_ns - self.killed_ns) / 1e9


@dataclass(frozen=True)
class Outcome:
    """What one outage cost one app."""

    failed: int
    blocked: float
    deliveries: float
    first_seconds: float
    last_seconds: float


def measure(site: Site, *, rounds: int, seconds: float, processes: int, say: Say) -> Iterator[Finding]:
    """Yield the findings: every app in each round, then one process of ours alone."""
    with mongo_server(site.folder / "outage") as server:
        found: dict[str, list[Outcome]] = {app: [] for app in _APPS}
        for number in range(rounds):
            for app in _APPS[number % 3 :] + _APPS[: number % 3]:
                say(f"round {number + 1} of {rounds}: {app}, {processes} processes, {seconds:g} s")
                found[app].append(_suffer(site, server, app, f"{app}-{number}", processes, seconds))
        yield from _compare(found)
        alone = []
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}: ours, 1 process, {3 * seconds:g} s")
            alone.append(_suffer(site, server, "ours", f"alone-{number}", 1, 3 * seconds))
        yield _finding("first, ours, 1 process, worst", "s", [max(one.first_seconds for one in alone)], 6.0)


def _compare(found: dict[str, list[Outcome]]) -> Iterator[Finding]:
    for app, outcomes in found.items():
        is_ours = app == "ours"
        yield _finding(f"failed, {app}", "tasks", [one.failed for one in outcomes], 0.0 if is_ours else None)
        yield _finding(f"blocked, {app}", "x", [one.blocked for one in outcomes])
        yield _finding(f"deliveries, {app}", "x", [one.deliveries for one in outcomes])
        first = [one.first_seconds for one in outcomes]
        yield _finding(f"first, {app}", "s", first, 1.0 if is_ours else None)
        yield _finding(f"last, {app}", "s", [one.last_seconds for one in outcomes])


def _finding(title: str, unit: str, values: Sequence[float], most: float | None = None) -> Finding:
    target = None if most is None else Target("≤", most)
    return Finding(title, unit, estimate(values), target, raw={"values": list(values)})


def assess(lines: Sequence[Line], outage: Outage, *, tasks: int, processes: int) -> Outcome:
    """Return what an outage cost, from every run of every task."""
    ends = [
        line.ended_ns for line in lines if line.state == "SUCCESS" and line.ended_ns > outage.listening_ns
    ]
    if not ends:
        raise MeasurementError("no task succeeded after the outage")
    blocked = sum(
        max(0, min(line.ended_ns, outage.listening_ns) - max(line.began_ns, outage.killed_ns))
        for line in lines
    )
    return Outcome(
        failed=len({line.number for line in lines if line.state == "FAILURE"}),
        blocked=blocked / 1e9 / (processes * outage.seconds),
        deliveries=len(lines) / tasks,
        first_seconds=(min(ends) - outage.listening_ns) / 1e9,
        last_seconds=(max(ends) - outage.listening_ns) / 1e9,
    )


def _suffer(  # noqa: PLR0913, PLR0917 - one experiment, and what it is made of
    site: Site, server: LocalServer, app: str, name: str, processes: int, seconds: float
) -> Outcome:
    environment = site.environment_of(name) | {
        "MONGODB_URI": server.uri,
        "CELERY_PYMONGO_GATED_QUEUES": QUEUE,
    }
    settings = load_settings(environment, env_file=None)
    config = celery_config(settings)
    records = site.folder / f"{name}.lines"
    records.touch()
    told = Spec(config, server.uri, {}, settings.mongodb_database, str(records))
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
        outage, tasks = _send_through(producer, server, processes=processes, seconds=seconds)
        _wait(lambda: len(_ended(_read(records))) >= tasks, child, f"{tasks} tasks", _DRAIN_SECONDS)
    return assess(_read(records), outage, tasks=tasks, processes=processes)


def _send_through(
    producer: Celery, server: LocalServer, *, processes: int, seconds: float
) -> tuple[Outage, int]:
    """Send at a steady rate while the server goes and comes back; return when, and how many were sent."""
    rate = _LOAD * processes / _PAUSE_SECONDS
    began = time.monotonic()
    kill_at, start_at = began + _BEFORE_SECONDS, began + _BEFORE_SECONDS + seconds
    killed_ns = listening_ns = number = 0
    while not listening_ns or time.monotonic() < listening_ns / 1e9 + _AFTER_SECONDS:
        producer.send_task(TASK, (number, _PAUSE_SECONDS), queue=QUEUE, ignore_result=True)
        number += 1
        now = time.monotonic()
        if not killed_ns and now >= kill_at:
            server.kill()
            killed_ns = time.monotonic_ns()
        if killed_ns and not listening_ns and now >= start_at:
            listening_ns = _start(server)
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
    return Outage(killed_ns, listening_ns), number


def _start(server: LocalServer) -> int:
    """Start it, and return the moment that it took a connection."""
    server.launch()
    deadline = time.monotonic() + _LISTEN_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", server.port)) == 0:
                return time.monotonic_ns()
        time.sleep(0.002)
    raise MeasurementError("the server did not come back")


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
