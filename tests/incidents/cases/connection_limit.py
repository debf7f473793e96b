"""The server is at its limit of connections: somebody else has them."""

from __future__ import annotations

import socket
import time

from tests.e2e.workers import wait_until
from tests.incidents.incident import Incident, Steps
from tests.incidents.scene import Scene

_LIMIT = 30


def at_its_limit(scene: Scene) -> Steps:
    """Have somebody hold every connection that the server has left, and the doctor come for one more."""
    server = scene.mongod("--maxConns", str(_LIMIT))
    ward = scene.ward(MONGODB_URI=server.uri, CELERY_PYMONGO_SNAPSHOT_INTERVAL_SECONDS="2")
    scene.fleet(ward).wait_for_log("client.warm")
    held: list[socket.socket] = []
    others = scene.client(server.uri, maxPoolSize=2)

    def free() -> int:
        return int(others.admin.command("serverStatus")["connections"]["available"])

    def take_all() -> bool:
        # One is left, so that the last count can be taken; it goes with the next.
        while free() > 1:
            held.append(socket.create_connection(("127.0.0.1", server.port)))
            time.sleep(0.01)
        counts = ward.app.mongo.view.last_counts()
        return bool(counts.get("current", 0) >= _LIMIT - 3)

    wait_until(take_all, what="a snapshot that counts them", seconds=30)
    while free():
        held.append(socket.create_connection(("127.0.0.1", server.port)))
        time.sleep(0.01)
    yield ward
    for one in held:
        one.close()


INCIDENT = Incident("connection-limit", "connections-refused", ("of 30 in use", "of others"), at_its_limit)
