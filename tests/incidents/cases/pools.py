"""What tasks do to their pool, and a server that refuses for overload."""

from __future__ import annotations

from typing import Any

from tests.incidents.incident import Incident, Steps
from tests.incidents.scene import Scene

_SMALL = {"MONGODB_MAX_POOL_SIZE": "4", "MONGODB_WAIT_QUEUE_TIMEOUT_MS": "1500"}
_EIGHT: dict[str, Any] = {"pool": "threads", "concurrency": 8, "env": _SMALL}


def too_small(scene: Scene) -> Steps:
    """Run eight tasks at a time on four connections."""
    ward = scene.ward(MONGODB_URI=scene.mongod().uri)
    node = scene.fleet(ward, **_EIGHT)
    find = {"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 200}
    with scene.failing(find, uri=ward.env["MONGODB_URI"]):
        ward.send("read", 40, times=8)
        yield ward
    scene.again(ward, node)


def held_by_one(scene: Scene) -> Steps:
    """Have one task's slow operations take all connections, while another's wait."""
    ward = scene.ward(MONGODB_URI=scene.mongod().uri)
    node = scene.fleet(ward, pool="threads", concurrency=8, env={"MONGODB_MAX_POOL_SIZE": "4"})
    distinct = {"failCommands": ["distinct"], "blockConnection": True, "blockTimeMS": 2000}
    with scene.failing(distinct, uri=ward.env["MONGODB_URI"]):
        for _ in range(30):
            ward.send("report", times=2)
            ward.send("read", 5)
        yield ward
    scene.again(ward, node)


def long_holds(scene: Scene) -> Steps:
    """Have operations take 15 s each on as many connections as there are."""
    ward = scene.ward(MONGODB_URI=scene.mongod().uri, CELERY_PYMONGO_LONG_HOLD_SECONDS="1")
    node = scene.fleet(ward, **_EIGHT)
    distinct = {"failCommands": ["distinct"], "blockConnection": True, "blockTimeMS": 15_000}
    with scene.failing(distinct, uri=ward.env["MONGODB_URI"]):
        ward.send("report", times=8)
        yield ward
    node.close()
    scene.worker(ward)


def left_session(scene: Scene) -> Steps:
    """Leave a session open."""
    ward = scene.ward()
    node = scene.fleet(ward)
    ward.send("forget_session")
    yield ward
    scene.again(ward, node)


def overloaded(scene: Scene) -> Steps:
    """Have the server refuse reads since it is overloaded."""
    ward = scene.ward(MONGODB_URI=scene.mongod().uri)
    node = scene.fleet(ward)
    data = {
        "failCommands": ["find"],
        "errorCode": 462,
        "errorLabels": ["SystemOverloadedError", "RetryableError"],
    }
    with scene.failing(data, uri=ward.env["MONGODB_URI"]):
        ward.send("ask", times=2)
        yield ward
    scene.again(ward, node)


INCIDENTS = [
    Incident("pool-too-small", "pool-too-small", ("maxPoolSize 4", "concurrency 8"), too_small),
    Incident("one-task-holds-the-pool", "pool-held", ("clinic.report", "holds"), held_by_one),
    Incident("connections-held-long", "long-holds", ("clinic.report holds", "4 of 4"), long_holds),
    Incident("session-left-open", "leak", ("clinic.forget_session",), left_session),
    Incident("server-overloaded", "overload", ("overloaded",), overloaded),
]
