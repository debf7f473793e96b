"""What a PyMongo that has moved its private names is said to lack."""

import pytest
from pymongo import MongoClient
from pymongo.synchronous.topology import Topology

from worker.mongo.holder import Client
from worker.pool.missing_names import lacking


@pytest.fixture
def client() -> Client:
    return MongoClient(connect=False)


def test_the_installed_one_lacks_nothing(client: Client) -> None:
    assert lacking(client) == []


def test_a_list_of_clients_that_is_gone_is_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(MongoClient, "_clients")
    (line,) = lacking(client)
    assert "other clients" in line


@pytest.mark.parametrize("name", ["_opened", "_closed"])
def test_a_client_that_does_not_say_whether_it_is_open_is_named(client: Client, name: str) -> None:
    value = vars(client).pop(name)
    (line,) = lacking(client)
    vars(client)[name] = value
    assert "other clients" in line


def test_what_ends_waiting_for_a_server_that_hangs_is_named(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Topology, "on_change")
    (line,) = lacking(client)
    assert "hangs" in line
