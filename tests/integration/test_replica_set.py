"""The replica set that faults are tried on: elections, members that go and come back, logins, TLS."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

from ops.local import programs
from ops.local.replica_set import ReplicaSet
from ops.local.servers import port_is_free
from tests.faults.network import Network
from tests.faults.proxy import FaultProxy
from worker.connection.heartbeats import Heartbeats

UNAUTHORIZED = 13

pytestmark = pytest.mark.skipif(programs.mongod() is None, reason="a replica set of three takes a mongod")


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with ReplicaSet(tmp_path_factory.mktemp("set"), election_timeout=2.0) as found:
        yield found


def test_one_of_three_is_the_primary_and_the_uri_names_all(replica_set: ReplicaSet) -> None:
    assert replica_set.label.startswith("mongod ")
    with replica_set.client() as client:
        client.app.facts.insert_one({"_id": 1})
        assert len(client.nodes) == 3
        assert client.address == ("127.0.0.1", replica_set.primary().port)


def test_who_steps_down_is_followed_by_another(replica_set: ReplicaSet) -> None:
    old = replica_set.step_down(seconds=30)
    new = replica_set.primary(other_than=old)
    assert new is not old
    assert old in replica_set.secondaries()


def test_heartbeats_tell_of_an_election_and_of_none_before_the_client(replica_set: ReplicaSet) -> None:
    heartbeats = Heartbeats(lambda _reason: None, lambda: None)
    with MongoClient[dict[str, Any]](replica_set.uri, event_listeners=[heartbeats]) as client:
        client.app.facts.find_one()
        assert heartbeats.elected_at is None
        before = time.monotonic()
        replica_set.primary(other_than=replica_set.step_down(seconds=5))
        client.app.facts.insert_one({"_id": "after"})
        assert heartbeats.elected_at is not None
        assert heartbeats.elected_at > before


def test_a_killed_primary_is_replaced_and_comes_back_with_every_write(replica_set: ReplicaSet) -> None:
    old = replica_set.primary()
    old.kill()
    new = replica_set.primary(other_than=old)
    with replica_set.client() as client:
        client.app.facts.insert_one({"_id": "meanwhile"})
    old.start()
    replica_set.wait_for_members()
    assert replica_set.primary() is new
    with replica_set.client(old) as client:
        assert client.app.facts.find_one({"_id": "meanwhile"})


def test_a_suspended_primary_is_replaced_and_learns_of_it(replica_set: ReplicaSet) -> None:
    old = replica_set.primary()
    old.suspend()
    try:
        replica_set.primary(other_than=old)
    finally:
        old.resume()
    replica_set.wait_for_members()
    assert replica_set.primary() is not old


def test_without_a_majority_there_is_no_primary(replica_set: ReplicaSet) -> None:
    primary = replica_set.primary()
    for member in replica_set.members:
        if member is not primary:
            member.kill()
    replica_set.wait_without_primary()
    replica_set.start()
    replica_set.wait_for_members()
    assert replica_set.answers()


def test_a_primary_that_is_cut_off_from_the_others_is_replaced_and_all_are_reached(tmp_path: Path) -> None:
    replica_set = ReplicaSet(tmp_path, election_timeout=2.0)
    with FaultProxy() as proxy:
        network = Network(proxy, replica_set)
        with replica_set:
            old = replica_set.primary()
            network.partition(old)
            replica_set.primary(other_than=old)
            with replica_set.client() as client:
                client.app.facts.insert_one({"_id": "meanwhile"})
            with replica_set.client(old) as client:
                assert client.app.facts.find_one({"_id": "meanwhile"}) is None
            network.clear()
            replica_set.wait_for_members()


def test_logins_and_tls_are_required_where_they_are_asked_for(tmp_path: Path) -> None:
    with ReplicaSet(tmp_path, members=1, auth=True, tls=True) as replica_set:
        (member,) = replica_set.members
        with replica_set.client() as client:
            client.app.facts.insert_one({"_id": 1})
        with stranger(member.uri) as client, pytest.raises(OperationFailure) as refused:
            client.app.facts.find_one()
        assert refused.value.code == UNAUTHORIZED
        plain = f"mongodb://127.0.0.1:{member.port}/?directConnection=true"
        with stranger(plain) as client, pytest.raises(ServerSelectionTimeoutError):
            client.admin.command("ping")
        pid = member.pid
        replica_set.kill()
        replica_set.start()
        assert member.pid != pid
        with replica_set.client() as client:
            assert client.app.facts.count_documents({}) == 1
    assert port_is_free(member.port)


def stranger(uri: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(uri, serverSelectionTimeoutMS=1000)
