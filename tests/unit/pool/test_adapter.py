"""Counters from events, gauges from the pool."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import MongoClient

from worker.mongo.holder import Client
from worker.pool.adapter import PoolGauges, PoolInside, read_gauges, read_inside, read_round_trips
from worker.pool.missing_names import looks_up_when_made

A = ("a", 27017)


@pytest.fixture
def client() -> Iterator[Client]:
    made: Client = MongoClient("mongodb://a:27017,b:27018", connect=False, maxPoolSize=7, minPoolSize=2)
    yield made
    made.close()


def pools(client: Client) -> dict[Any, Any]:
    """Give the client the servers that its first operation would, without their threads."""
    topology = client._topology
    for address in topology.description.server_descriptions():
        pool = topology._create_pool_for_server(address)
        topology._servers[address] = SimpleNamespace(pool=pool)  # type: ignore[assignment] # a server is its pool here
    return {address: server.pool for address, server in topology._servers.items()}


def test_a_client_that_has_not_connected_has_no_pools(client: Client) -> None:
    assert read_gauges(client) == {}


def test_gauges_are_what_the_pools_own_counters_say(client: Client) -> None:
    """Real pools: a PyMongo that renames a counter is noticed here."""
    found = pools(client)
    pool = found["a", 27017]
    pool.active_sockets, pool.operation_count = 3, 5
    pool.conns.extend([object(), object()])
    gauges = read_gauges(client)
    pool.conns.clear()
    assert gauges is not None
    assert gauges["a:27017"] == PoolGauges(size=5, in_use=3, idle=2, waiting=2, min=2, max=7)
    assert gauges["b:27018"] == PoolGauges(size=0, in_use=0, idle=0, waiting=0, min=2, max=7)
    assert json.loads(json.dumps(gauges["a:27017"].to_dict()))["in_use"] == 3
    client._topology._servers.clear()


def test_nobody_waits_where_more_is_in_use_than_operations_run(client: Client) -> None:
    """A cursor or transaction may hold a connection between its operations."""
    pool = pools(client)["a", 27017]
    pool.active_sockets, pool.operation_count = 2, 1
    gauges = read_gauges(client)
    client._topology._servers.clear()
    assert gauges is not None
    assert gauges["a:27017"].waiting == 0


def test_a_pool_without_a_maximum_has_none() -> None:
    made: Client = MongoClient("mongodb://a:27017", connect=False, maxPoolSize=0)
    pools(made)
    gauges = read_gauges(made)
    made._topology._servers.clear()
    made.close()
    assert gauges is not None
    assert gauges["a:27017"].max is None


@pytest.mark.parametrize("client", [object(), SimpleNamespace(_topology=SimpleNamespace())])
def test_gauges_are_unknown_where_pymongo_has_changed(client: Any) -> None:
    assert read_gauges(client) is None
    assert read_inside(client) == {}


def test_a_pool_knows_what_it_is_making_and_what_is_idle(client: Client) -> None:
    pool = pools(client)["a", 27017]
    pool._pending = 2
    pool.conns.extend([SimpleNamespace(id=3), SimpleNamespace(id=7)])
    inside = read_inside(client)
    pool.conns.clear()
    client._topology._servers.clear()
    assert inside["a:27017"] == PoolInside(connecting=2, idle=frozenset({3, 7}))
    assert inside["b:27018"] == PoolInside(connecting=0, idle=frozenset())


def test_the_round_trip_time_is_that_of_the_servers_that_answered(client: Client) -> None:
    assert read_round_trips(client) == {}
    servers = {A: SimpleNamespace(round_trip_time=0.002), ("b", 1): SimpleNamespace(round_trip_time=None)}
    seen: Any = SimpleNamespace(topology_description=SimpleNamespace(server_descriptions=lambda: servers))
    assert read_round_trips(seen) == {"a:27017": 0.002}


def test_gauges_of_two_pools_of_a_server_are_added_within_the_limits_of_the_first() -> None:
    together = PoolGauges(3, 1, 2, 4, 1, 5).plus(PoolGauges(2, 2, 0, 1, 0, 9))
    assert together == PoolGauges(5, 3, 2, 5, 1, 5)


def test_a_client_that_has_not_looked_its_name_up_has_no_pools() -> None:
    """Which is not to say that PyMongo keeps no counters any more."""
    if looks_up_when_made():
        pytest.skip("this PyMongo looks it up when the client is made")
    client: Any = MongoClient("mongodb+srv://cluster0.shop.test/", connect=False)
    assert read_gauges(client) == {}
