"""Secondaries that are up and do not replicate: one of two, both, and one that tasks read from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pymongo

from ops.local.replica_set import ReplicaSet
from ops.local.servers import LocalServer
from tests.incidents.incident import Happen, Incident, Steps
from tests.incidents.scene import Scene


@contextmanager
def _not_replicating(members: ReplicaSet, *which: LocalServer) -> Iterator[None]:
    with ExitStack() as stack:
        clients = [stack.enter_context(members.client(one)) for one in which]
        for client in clients:
            client.admin.command("configureFailPoint", "stopReplProducer", mode="alwaysOn")
        try:
            yield
        finally:
            for client in clients:
                client.admin.command("configureFailPoint", "stopReplProducer", mode="off")


def _behind(number: int, **env: str) -> Happen:
    def happen(scene: Scene) -> Steps:
        members = scene.stage.replica_set
        ward = scene.ward(MONGODB_URI=members.uri, **env)
        node = scene.fleet(ward)
        members.primary()
        with _not_replicating(members, *members.secondaries()[:number]):
            client = scene.client(members.uri, w=1)
            client.clinic.ticks.with_options(write_concern=pymongo.WriteConcern(w=1)).insert_one({})
            yield ward
        members.wait_for_members()
        del node

    return happen


def one_away(scene: Scene) -> Steps:
    """Kill a secondary, and start it again."""
    members = scene.stage.replica_set
    ward = scene.ward(MONGODB_URI=members.uri)
    scene.fleet(ward)
    members.primary()
    member = members.secondaries()[0]
    member.kill()
    yield ward
    member.start()
    members.wait_for_members()


def no_majority(scene: Scene) -> Steps:
    """Kill two of three members, and start them again."""
    members = scene.stage.replica_set
    ward = scene.ward(MONGODB_URI=members.uri)
    scene.fleet(ward)
    members.primary()
    lost = members.secondaries()[:2]
    for member in lost:
        member.kill()
    yield ward
    for member in lost:
        member.start()
    members.wait_for_members()


INCIDENTS = [
    Incident("majority-behind", "majority-behind", ("127.0.0.1:", "behind"), _behind(2), seconds=60),
    Incident("secondary-behind", "member-behind", ("127.0.0.1:",), _behind(1), verdict="ok", seconds=60),
    Incident(
        "secondary-behind-that-is-read",
        "member-behind",
        ("secondaryPreferred",),
        _behind(1, MONGODB_READ_PREFERENCE="secondaryPreferred"),
        seconds=60,
    ),
    Incident("member-killed", "member-away", ("refused",), one_away),
    Incident("majority-killed", "no-primary", ("none is primary",), no_majority, verdict="down", seconds=60),
]
