"""The server refuses what tasks do: a full disk, a block of all writes, a validator. One rule for all."""

from __future__ import annotations

from tests.incidents.incident import Incident, Steps
from tests.incidents.scene import Scene


def disk_full(scene: Scene) -> Steps:
    """Have each insert fail as mongod does whose disk is full."""
    ward = scene.ward()
    node = scene.fleet(ward)
    with scene.failing({"failCommands": ["insert"], "errorCode": 14_031}):
        ward.send("write", 1, times=2)
        yield ward
    scene.again(ward, node)


def writes_blocked(scene: Scene) -> Steps:
    """Block the writes of users, as for a migration."""
    ward = scene.ward(MONGODB_URI=scene.mongod().uri)
    client = scene.client(ward.env["MONGODB_URI"])
    node = scene.fleet(ward)
    client.admin.command({"setUserWriteBlockMode": 1, "global": True})
    ward.send("write", 1, times=2)
    yield ward
    client.admin.command({"setUserWriteBlockMode": 1, "global": False})
    scene.again(ward, node)


def validator(scene: Scene) -> Steps:
    """Give the collection a rule that the documents of a task do not pass."""
    ward = scene.ward(MONGODB_DATABASE="validated")
    database = scene.client().validated
    database.create_collection("clinic", validator={"n": {"$type": "string"}})
    node = scene.fleet(ward)
    ward.send("write", 1, times=4)
    yield ward
    database.drop_collection("clinic")
    scene.again(ward, node)


INCIDENTS = [
    Incident("disk-full", "operations-refused", ("disk", "14031", "clinic.write"), disk_full, is_cheap=True),
    Incident("writes-blocked", "operations-refused", ("blocked", "371", "clinic.write"), writes_blocked),
    Incident("validator", "operations-refused", ("validator", "121", "clinic.write"), validator),
]
