"""Where nodes go: another cluster, a slow link, another Redis; and clients that tasks make."""

from __future__ import annotations

import json

from tests.incidents.incident import Incident, Steps
from tests.incidents.scene import Scene


def two_clusters(scene: Scene) -> Steps:
    """Give one of two nodes the URI of another server, of a set of the same name."""
    ward = scene.ward()
    scene.fleet(ward, "w1")
    astray = scene.worker(ward, "w2", env={"MONGODB_URI": scene.mongod().uri})
    yield ward
    astray.terminate()
    scene.worker(ward, "w2")


def slow_link(scene: Scene) -> Steps:
    """Put 400 ms of each way between one of three nodes and the server."""
    route = scene.route()
    ward = scene.ward()
    scene.fleet(ward, "w1", env={"MONGODB_URI": route.uri}).wait_for_log("client.warm")
    scene.worker(ward, "w2")
    scene.worker(ward, "w3")
    route.delay(0.4)
    yield ward
    route.clear()


# The driver's round trips are an average that forgets slowly.
_FORGOTTEN_SECONDS = 120.0


def another_redis(scene: Scene) -> Steps:
    """Keep the records in another Redis than the broker."""
    other = scene.redis_server()
    apart = {"CLINIC_CONF": json.dumps({"broker_url": scene.stage.redis.uri})}
    ward = scene.ward(redis=other.uri)
    ward.app.conf.broker_url = scene.stage.redis.uri
    scene.fleet(ward, env=apart)
    yield ward


def client_per_call(scene: Scene) -> Steps:
    """Have a task make a client each time that it runs."""
    ward = scene.ward()
    node = scene.fleet(ward)
    ward.send("connect", times=8)
    yield ward
    scene.again(ward, node)


INCIDENTS = [
    Incident("two-clusters", "two-clusters", ("w2@localhost", "local/127.0.0.1:"), two_clusters),
    Incident(
        "slow-link",
        "node-slow",
        ("w1@localhost", "round trips"),
        slow_link,
        seconds=100,
        mend_seconds=_FORGOTTEN_SECONDS,
    ),
    Incident(
        "another-redis", "registry-apart", ("records (REDIS_URL)",), another_redis, verdict="ok", lasts=True
    ),
    Incident(
        "client-per-call", "client-per-call", ("clinic.connect", "clinic.py:"), client_per_call, is_cheap=True
    ),
]
