"""The name of the replica set that a server says, where the settings name another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, ServerSelectionTimeoutError

from worker.mongo.classify import ErrorClass, classify
from worker.server import pings, set_names
from worker.server.set_names import SetNames

DROPPED = 'No replica set members available for replica set name "orders", Timeout: 1.5s'
NAMED = "client is configured to connect to a replica set named 'orders' but this node belongs to 'local'"


def client(wanted: str | None, heard: str | None) -> Any:
    names = SetNames()
    reply = SimpleNamespace(replica_set_name=heard)
    names.succeeded(SimpleNamespace(reply=reply, connection_id=("m1", 27017)))  # type: ignore[arg-type] # the parts that are read
    return SimpleNamespace(options=SimpleNamespace(replica_set_name=wanted, event_listeners=[names]))


def test_a_server_of_another_set_is_named_with_both_names() -> None:
    told = "m1:27017: the replica set is named 'local', and the settings say 'orders'"
    assert set_names.mistake(client("orders", "local")) == told


@pytest.mark.parametrize(("wanted", "heard"), [("local", "local"), (None, "local"), ("orders", None)])
def test_a_name_that_fits_none_that_is_asked_for_and_none_that_is_said_are_no_mistake(
    wanted: str | None, heard: str | None
) -> None:
    assert set_names.mistake(client(wanted, heard)) is None


@pytest.mark.parametrize("text", [DROPPED, NAMED])
def test_it_is_a_mistake_in_the_settings_and_no_outage(text: str) -> None:
    assert classify(ServerSelectionTimeoutError(text)) is ErrorClass.CONFIG
    assert classify(AutoReconnect(text)) is ErrorClass.OUTAGE


def server(name: str | None, *hosts: str) -> Any:
    addresses = {(host, 27017) for host in hosts}
    return SimpleNamespace(replica_set_name=name, all_hosts=addresses)


def test_a_cluster_is_known_by_its_own_words() -> None:
    known = {("proxy", 1): server("rs", "m2", "m1"), ("proxy", 2): server(None)}
    topology = SimpleNamespace(server_descriptions=lambda: known)
    assert pings.cluster(SimpleNamespace(topology_description=topology)) == "rs/m1:27017,m2:27017"  # type: ignore[arg-type] # as above
    assert pings.cluster(None) is None
