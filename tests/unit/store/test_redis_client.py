"""Which connections our own client would make."""

from typing import Any

import pytest
import redis
from redis.sentinel import SentinelConnectionPool, SentinelManagedConnection

from worker.settings.fields import load_settings
from worker.store.redis_client import connect, connect_url


def settings(**environ: str) -> Any:
    return load_settings(environ, env_file=None)


def options(client: redis.Redis) -> dict[str, Any]:
    return dict(client.connection_pool.connection_kwargs)


def test_it_waits_a_second_and_tries_once_whatever_the_settings_and_the_url_say() -> None:
    url = "redis://localhost/0?socket_timeout=77&socket_connect_timeout=77&retry_on_timeout=yes"
    found = options(connect(settings(REDIS_URL=url, REDIS_SOCKET_TIMEOUT_SECONDS="99")))
    assert (found["socket_timeout"], found["socket_connect_timeout"]) == (1.0, 1.0)
    assert found["retry"]._retries == 0


def test_a_hasty_client_waits_less() -> None:
    found = options(connect(settings(REDIS_URL="redis://localhost"), seconds=0.025))
    assert (found["socket_timeout"], found["socket_connect_timeout"]) == (0.025, 0.025)


def test_host_port_database_and_login_come_from_the_url() -> None:
    found = options(connect(settings(REDIS_URL="redis://us%40er:p%3Aw@redis.example:7000/3")))
    named = ("host", "port", "db", "username", "password")
    assert [found[name] for name in named] == ["redis.example", 7000, 3, "us@er", "p:w"]


def test_a_tls_url_verifies_the_certificate_and_the_host_name() -> None:
    client = connect(settings(REDIS_URL="rediss://localhost:1"))
    connection: Any = client.connection_pool.make_connection()
    assert isinstance(connection, redis.SSLConnection)
    assert connection.cert_reqs.name == "CERT_REQUIRED"
    assert connection.check_hostname


def test_what_the_url_says_of_certificates_counts() -> None:
    url = "rediss://localhost:1?ssl_ca_certs=/ca.pem"
    assert options(connect(settings(REDIS_URL=url)))["ssl_ca_certs"] == "/ca.pem"
    found = options(connect_url("rediss://localhost?ssl_cert_reqs=none", tls={"ssl_cert_reqs": "required"}))
    assert found["ssl_cert_reqs"] == "none"


def sentinel_client(**more: str) -> redis.Redis:
    url = "sentinel://app:secret@one:26000/2;sentinel://two"
    return connect(settings(REDIS_URL=url, REDIS_SENTINEL_MASTER="main", **more))


def test_sentinels_are_asked_in_turn_for_the_named_master() -> None:
    pool: Any = sentinel_client().connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.connection_class is SentinelManagedConnection
    assert pool.service_name == "main"
    hosts = [options(sentinel) for sentinel in pool.sentinel_manager.sentinels]
    assert [(found["host"], found["port"]) for found in hosts] == [("one", 26000), ("two", 26379)]
    assert all(found["socket_timeout"] == 1.0 for found in hosts)


def test_the_url_holds_the_masters_login_and_the_setting_that_of_the_sentinels() -> None:
    pool: Any = sentinel_client(**{"REDIS_SENTINEL_PASSWORD": "theirs"}).connection_pool
    kwargs = pool.connection_kwargs
    assert (kwargs["username"], kwargs["password"], kwargs["db"]) == ("app", "secret", 2)
    for sentinel in pool.sentinel_manager.sentinels:
        found = options(sentinel)
        assert (found.get("username"), found["password"], found["db"]) == (None, "theirs", 0)


@pytest.mark.parametrize("url", ["redis://localhost:1", "rediss://localhost:1", "sentinel://localhost:1"])
def test_making_a_client_does_no_io(url: str) -> None:
    """The unit tests' fence would tell."""
    connect(settings(REDIS_URL=url, REDIS_SENTINEL_MASTER="main"))


def test_certificates_are_asked_for_in_celerys_words_too() -> None:
    client = connect(settings(REDIS_URL="rediss://localhost:1?ssl_cert_reqs=CERT_OPTIONAL"))
    connection: Any = client.connection_pool.make_connection()
    assert connection.cert_reqs.name == "CERT_OPTIONAL"


def test_of_several_servers_that_are_no_sentinels_the_first_is_used() -> None:
    found = options(connect_url("redis://one/1;redis://two/2"))
    assert (found["host"], found["db"]) == ("one", 1)
