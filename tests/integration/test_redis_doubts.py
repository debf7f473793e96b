"""A Redis that may lose messages is doubted, one that keeps them is not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py

from ops.local.servers import redis_server
from worker.fleet.registry import Registry
from worker.mongo.backoff import Backoff
from worker.process.publisher import Publisher
from worker.store import redis_server as judged


@pytest.fixture
def client(tmp_path: Path) -> Iterator[redis_py.Redis]:
    """A server of the test's own: its configuration is changed."""
    with redis_server(tmp_path) as server, redis_py.Redis.from_url(server.uri) as client:
        yield client


def doubts(client: redis_py.Redis) -> list[str]:
    return judged.doubts(judged.describe(client), is_broker=True)


def test_one_that_keeps_everything_is_not_doubted(client: redis_py.Redis) -> None:
    assert doubts(client) == []


def test_one_that_keeps_nothing_on_disk_loses_everything(client: redis_py.Redis) -> None:
    client.config_set("appendonly", "no")
    (line,) = doubts(client)
    assert line == (
        "no append-only file: every message and result is lost when it restarts; set appendonly to yes"
    )


def test_one_that_saves_now_and_then_loses_what_came_since(client: redis_py.Redis) -> None:
    client.config_set("appendonly", "no")
    client.config_set("save", "3600 1")
    (line,) = doubts(client)
    assert "what came since the last save is lost" in line


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_one_that_evicts_throws_away(client: redis_py.Redis, policy: str) -> None:
    client.config_set("maxmemory-policy", policy)
    assert doubts(client) == []  # without a limit nothing is evicted
    client.config_set("maxmemory", "1gb")
    (line,) = doubts(client)
    assert line.startswith(f"maxmemory-policy is {policy}: ")


def test_one_that_does_not_let_itself_be_asked_is_not_doubted(client: redis_py.Redis) -> None:
    client.config_set("appendonly", "no")
    client.acl_setuser(
        "plain", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-config"]
    )
    server = client.connection_pool.connection_kwargs
    with redis_py.Redis(host=server["host"], port=server["port"], username="plain", password="any") as plain:  # noqa: S106 - no secret: it takes any
        assert doubts(plain) == []


def test_the_first_who_asks_under_a_name_is_told(client: redis_py.Redis) -> None:
    client.config_set("appendonly", "no")
    publishers = [
        Publisher(Registry(client, lambda *parts: ":".join(map(str, parts))), Backoff(1, 2)) for _ in range(2)
    ]
    assert [len(one.doubts("node", is_broker=True)) for one in publishers] == [1, 0]
    assert len(publishers[1].doubts("another node", is_broker=True)) == 1
