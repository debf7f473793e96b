"""What becomes of messages: nobody consumes their queue, two deployments do, all slots are busy."""

from __future__ import annotations

from tests.incidents.incident import Incident, Steps
from tests.incidents.scene import Scene


def nobody_consumes(scene: Scene) -> Steps:
    """Send to a queue that no node consumes; then have one consume it."""
    ward = scene.ward()
    scene.fleet(ward)
    ward.send("nothing", to="nowhere", times=3)
    yield ward
    scene.worker(ward, "nowhere")


def two_deployments(scene: Scene) -> Steps:
    """Have two deployments without a prefix consume the queue of the same name."""
    bare = {"CLINIC_CONF": '{"broker_transport_options": {}}'}
    ward, other = scene.ward(**bare), scene.ward(name="neighbour", **bare)
    ward.app.conf.broker_transport_options = {}
    scene.fleet(ward, "shared")
    node = scene.worker(other, "shared")
    yield ward
    node.terminate()


def busy(scene: Scene) -> Steps:
    """Keep the only slot busy while messages wait."""
    ward = scene.ward()
    node = scene.fleet(ward)
    ward.send("nap", 40.0, times=2)
    yield ward
    node.close()
    scene.worker(ward)


INCIDENTS = [
    Incident(
        "queue-that-nobody-consumes",
        "queue-unconsumed",
        ("nowhere", "3 messages"),
        nobody_consumes,
    ),
    Incident(
        "two-deployments-on-one-queue", "queue-shared", ("neighbour", "shared"), two_deployments, lasts=True
    ),
    Incident("all-slots-busy", "slots-busy", ("clinic.nap", "1 message in w1"), busy),
]
