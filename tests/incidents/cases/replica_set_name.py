"""The URI names another replica set than the server is of."""

from __future__ import annotations

from tests.incidents.incident import Incident, Steps
from tests.incidents.scene import Scene


def happen(scene: Scene) -> Steps:
    """Start a worker with `replicaSet=orders` on a server of the set `local`."""
    ward = scene.ward(MONGODB_URI=f"{scene.mongo.uri}?replicaSet=orders")
    node = scene.worker(ward)
    yield ward
    node.terminate()
    mended = scene.ward()
    scene.worker(mended, "w2")
    yield mended


INCIDENT = Incident("replica-set-name", "replica-set-name", ("orders", "local"), happen, verdict="down")
