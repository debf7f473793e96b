"""How a deployment is set up: clients before the fork, a time limit above the visibility timeout, no beat."""

from __future__ import annotations

import signal
from typing import Any

from tests.e2e.apps.service import ALONE
from tests.e2e.clinic import is_well
from tests.e2e.workers import wait_until
from tests.incidents.incident import Happen, Incident, Steps
from tests.incidents.scene import Scene


def before_fork(scene: Scene) -> Steps:
    """Open a client where a module is imported."""
    ward = scene.ward()
    node = scene.fleet(ward, pool="prefork", env={"CLINIC_EARLY": scene.mongo.uri})
    yield ward
    node.terminate()
    scene.worker(ward, pool="prefork")


def visibility(scene: Scene) -> Steps:
    """Let the broker deliver again what may still run."""
    ward = scene.ward()
    node = scene.fleet(ward, env={"CLINIC_CONF": '{"broker_transport_options": {"visibility_timeout": 60}}'})
    yield ward
    node.terminate()
    scene.worker(ward)


def no_beat(scene: Scene) -> Steps:
    """Run without a beat; then start one."""
    ward = scene.ward()
    scene.worker(ward)
    yield ward
    scene.beat(ward)


def budget(scene: Scene) -> Steps:
    """Take more connections than the server has."""
    ward = scene.ward(CELERY_PYMONGO_SERVER_CONNECTIONS="3")
    scene.fleet(ward)
    yield ward
    yield scene.ward()


def two_beats(scene: Scene) -> Steps:
    """Run two plain beats."""
    ward = scene.ward(CELERY_PYMONGO_SCHEDULER="plain")
    scene.fleet(ward)
    second = scene.beat(ward, "second")
    yield ward
    second.terminate()


def second_client(scene: Scene) -> Steps:
    """Keep another client open beside the process's own."""
    ward = scene.ward()
    node = scene.fleet(ward)
    ward.send("keep_client")
    yield ward
    scene.again(ward, node)


def _set(**env: str) -> Happen:
    """Start a worker of eight threads with such settings, then one without."""

    def happen(scene: Scene) -> Steps:
        ward = scene.ward()
        node = scene.fleet(ward, pool="threads", concurrency=8, env=env)
        yield ward
        node.terminate()
        scene.worker(ward, pool="threads", concurrency=8)

    return happen


def short_lives(scene: Scene) -> Steps:
    """End each process after one task."""
    ward = scene.ward()
    once: dict[str, Any] = {
        "pool": "prefork",
        "concurrency": 3,
        "options": (*ALONE, "--max-tasks-per-child", "1"),
    }
    node = scene.fleet(ward, **once)
    # Of different lengths, or all slots would be empty at the same moments.
    for seconds in (0.3, 0.7, 1.1) * 30:
        ward.send("nap", seconds)
    yield ward
    node.terminate()
    scene.worker(ward)


def beat_killed(scene: Scene) -> Steps:
    """Kill the only beat; then start one."""
    ward = scene.ward(CELERY_PYMONGO_SCHEDULER="plain")
    scene.worker(ward)
    beat = scene.beat(ward)
    wait_until(lambda: is_well(ward, processes=1), what="a beat", seconds=30)
    beat.send_signal(signal.SIGKILL)
    yield ward
    scene.beat(ward, "second")


INCIDENTS = [
    Incident(
        "processes-of-one-task", "process-churn", ("worker_max_tasks_per_child=1",), short_lives, seconds=60
    ),
    Incident("beat-killed", "beat-silent", ("not a busy worker",), beat_killed, seconds=60),
    Incident("client-before-the-fork", "client-before-fork", ("tests/e2e/apps/clinic.py:",), before_fork),
    Incident("visibility-timeout", "visibility-timeout", ("visibility_timeout 60 s",), visibility),
    Incident("no-beat", "beat-absent", ("0 pulses",), no_beat, is_cheap=True),
    Incident("connection-budget", "connection-budget", ("limit 3",), budget),
    Incident("two-beats", "beat-doubled", ("PersistentScheduler",), two_beats, seconds=45),
    Incident(
        "second-client", "second-client", ("1 of 1 process", "clinic.py:"), second_client, is_cheap=True
    ),
    Incident(
        "selection-takes-long",
        "selection-timeout",
        ("30,000",),
        _set(MONGODB_SERVER_SELECTION_TIMEOUT_MS="30000"),
        verdict="ok",
    ),
    Incident(
        "pool-below-concurrency",
        "pool-below-concurrency",
        ("nobody waits now",),
        _set(MONGODB_MAX_POOL_SIZE="4"),
        verdict="ok",
    ),
    Incident(
        "connections-kept-for-nobody",
        "min-pool-size",
        ("minPoolSize 20",),
        _set(MONGODB_MIN_POOL_SIZE="20"),
        verdict="ok",
    ),
]
