"""How a client is made."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.read_preferences import Secondary

from worker.connection import client as module
from worker.connection.client import Identity, build_client, own_version
from worker.mongo.holder import Client
from worker.pool.monitor import PoolMonitor
from worker.settings.fields import Settings, load_settings

# No deadline: a machine that is busy with other things is no fault.
QUICK = settings(max_examples=50, deadline=None)

HERE = Identity(deployment="staging", node="celery@host", slot=3, pid=4711)


def load(**environ: str) -> Settings:
    return load_settings(environ, env_file=None)


@pytest.fixture
def made() -> Iterator[list[Client]]:
    clients: list[Client] = []
    yield clients
    for client in clients:
        client.close()


def build(made: list[Client], settings: Settings, **options: Any) -> Client:
    made.append(build_client(settings, HERE, concurrency=options.pop("concurrency", 1), **options))
    return made[-1]


def test_the_application_name_says_who_owns_the_connection(made: list[Client]) -> None:
    metadata = build(made, load()).options.pool_options.metadata
    assert metadata["application"]["name"] == "celery-pymongo/staging/celery@host/3/4711"
    assert metadata["driver"]["name"].endswith("celery-pymongo")


@QUICK
@given(st.text(max_size=300), st.text(max_size=100), st.integers(0, 10**6), st.integers(0, 2**22))
def test_an_application_name_is_never_longer_than_the_handshake_takes(
    node: str, deployment: str, slot: int, pid: int
) -> None:
    try:
        f"{node}{deployment}".encode()
    except UnicodeEncodeError:
        return  # no host and no setting has half a character
    name = Identity(deployment, node, slot, pid).appname("celery-pymongo")
    assert len(name.encode()) <= 128
    assert name.endswith(f"/{slot}/{pid}")


def test_a_long_node_name_of_many_bytes_loses_whole_characters() -> None:
    name = Identity("d", "ö" * 200, 1, 2).appname("p")
    assert name.startswith("p/d/ööö")
    assert set(name) == set("p/d/ö/1/2")


def test_the_settings_are_the_clients_options(made: list[Client]) -> None:
    options = build(made, load(), concurrency=4).options
    pool = options.pool_options
    assert (pool.max_pool_size, pool.min_pool_size, pool.max_idle_time_seconds) == (50, 4, 30)
    assert (pool.wait_queue_timeout, pool.connect_timeout, pool.socket_timeout) == (5, 4, 20)
    assert (options.server_selection_timeout, options.heartbeat_frequency) == (3, 2)
    assert (options.retry_writes, options.retry_reads) == (True, True)
    assert options.write_concern.document == {"w": "majority", "j": True}
    assert options.timeout is None


def test_what_the_uri_sets_wins(made: list[Client]) -> None:
    uri = "mongodb://h/?maxPoolSize=7&readPreference=secondary&timeoutMS=700"
    options = build(made, load(MONGODB_URI=uri, CELERY_PYMONGO_OPERATION_DEADLINE_SECONDS="3")).options
    assert options.pool_options.max_pool_size == 7
    assert options.read_preference == Secondary()
    assert options.timeout == 0.7


def test_the_deadline_of_an_operation_is_the_clients(made: list[Client]) -> None:
    """Not the task's: a task with a hundred operations has the deadline a hundred times."""
    options = build(made, load(CELERY_PYMONGO_OPERATION_DEADLINE_SECONDS="1.5")).options
    assert options.timeout == 1.5


def test_listeners_are_the_clients_own(made: list[Client]) -> None:
    own = PoolMonitor().listeners()
    listeners: list[Any] = build(made, load(), listeners=own).options.event_listeners
    assert all(listener in listeners for listener in own)


def test_a_client_is_made_without_connecting(made: list[Client]) -> None:
    client = build(made, load(MONGODB_URI="mongodb://nowhere.invalid:1"))
    assert not client._opened
    assert client.nodes == frozenset()


def test_the_version_is_the_installed_one_or_says_that_it_is_a_checkout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "version", lambda name: f"{name} 1.2")
    assert own_version() == "celery-pymongo 1.2"

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", missing)
    assert own_version() == "checkout"
