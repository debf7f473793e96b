"""How a deployment is set up: clients before the fork, a time limit above the visibility timeout, no beat."""

from __future__ import annotations

from tests.incidents.incident import Incident, Steps
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


def endless(scene: Scene) -> Steps:
    """Let operations wait for ever for a connection."""
    ward = scene.ward()
    node = scene.fleet(ward, env={"MONGODB_URI": f"{scene.mongo.uri}?waitQueueTimeoutMS=0"})
    yield ward
    node.terminate()
    scene.worker(ward)


INCIDENTS = [
    Incident("client-before-the-fork", "client-before-fork", ("tests/e2e/apps/clinic.py:",), before_fork),
    Incident("visibility-timeout", "visibility-timeout", ("visibility_timeout 60 s",), visibility),
    Incident("no-beat", "beat-absent", ("0 pulses",), no_beat, is_cheap=True),
    Incident("connection-budget", "connection-budget", ("limit 3",), budget),
    Incident("two-beats", "beat-doubled", ("PersistentScheduler",), two_beats, seconds=45),
    Incident("endless-wait", "timeout-missing", ("waitQueueTimeoutMS 0",), endless),
]
