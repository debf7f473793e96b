"""Our own client on what may stand behind REDIS_URL: TLS, Sentinels, passwords; and under gevent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis as redis_py

from ops.local.child import Child
from ops.local.environment import ROOT
from ops.local.servers import LocalServer, free_port, redis_server
from tests.e2e.apps import secured, tls_front
from tests.e2e.apps.secured import PASSWORD
from tests.e2e.workers import wait_until
from tests.integration.test_redis_variants import primary_port, sentinel
from worker.fleet.registry import Registry
from worker.settings.fields import load_settings
from worker.store.redis_client import connect

LOGIN = quote(PASSWORD, safe="")


def open_registry(url: str, **more: str) -> Registry:
    settings = load_settings({"REDIS_URL": url, **more}, env_file=None)
    client: Any = connect(settings)
    pool = client.connection_pool
    sentinels = pool.sentinel_manager.sentinels if "sentinel://" in url else []
    POOLS.extend([pool, *(sentinel.connection_pool for sentinel in sentinels)])
    return Registry(client, settings.key)


POOLS: list[Any] = []


@pytest.fixture(autouse=True)
def closed_afterwards() -> Iterator[None]:
    """No socket is left to the garbage collector, which would warn."""
    yield
    while POOLS:
        POOLS.pop().disconnect()


def assert_carried(registry: Registry) -> None:
    registry.publish("w1@h/0", b'{"pid":1}')
    assert [seen.report for seen in registry.fleet().processes] == [{"pid": 1}]


# --- passwords and TLS ---


def test_a_password_with_every_reserved_character_is_understood(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        with redis_py.Redis.from_url(server.uri) as admin:
            admin.config_set("requirepass", PASSWORD)
        assert_carried(open_registry(f"redis://:{LOGIN}@127.0.0.1:{server.port}/0"))
        with pytest.raises(redis_py.AuthenticationError):
            open_registry(server.uri).fleet()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return secured.certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_port(redis: LocalServer, certificate: Path, tmp_path: Path) -> Iterator[int]:
    """A port where the module's Redis is reached by TLS only: the wheel's Valkey was built without it."""
    port = free_port()
    key = certificate.with_suffix(".key")
    argv = [sys.executable, tls_front.__file__, str(port), str(certificate), str(key), str(redis.port)]
    front = Child("tls", argv, log=tmp_path / "tls.log")
    front.start()
    try:
        yield port
    finally:
        front.stop(2)


def test_tls_carries_reports(tls_port: int, certificate: Path, redis_client: redis_py.Redis) -> None:
    registry = open_registry(f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate}")
    wait_until(lambda: listens(registry), what="TLS in front of Redis")
    assert_carried(registry)


def test_a_certificate_that_nobody_vouches_for_is_refused(tls_port: int, certificate: Path) -> None:
    trusting = open_registry(f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate}")
    wait_until(lambda: listens(trusting), what="TLS in front of Redis")
    with pytest.raises(redis_py.ConnectionError, match="certificate verify failed"):
        open_registry(f"rediss://127.0.0.1:{tls_port}/0").fleet()


def listens(registry: Registry) -> bool:
    try:
        return bool(registry.fleet())
    except redis_py.ConnectionError as error:
        if "refused" in str(error):
            return False
        raise


# --- Sentinel ---


def protect(primary: LocalServer, replica: LocalServer, guard: Any) -> None:
    """Give the servers one password and the Sentinel another."""
    guard.sentinel_set("main", "auth-pass", PASSWORD)
    for server in (primary, replica):
        with redis_py.Redis.from_url(server.uri) as admin:
            admin.config_set("masterauth", PASSWORD)
            admin.config_set("requirepass", PASSWORD)
    guard.execute_command("ACL", "SETUSER", "default", "resetpass", ">theirs")


def published(registry: Registry) -> bool:
    try:
        return bool(registry.publish("w1@h/0", b'{"pid":1}'))
    except redis_py.RedisError:
        return False


def test_a_failover_is_followed_and_a_sentinel_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    with ExitStack() as stack:
        primary = stack.enter_context(redis_server(tmp_path / "one"))
        replicates = ["--replicaof", "127.0.0.1", str(primary.port)]
        replica = stack.enter_context(redis_server(tmp_path / "two", options=replicates))
        port = stack.enter_context(sentinel(primary, tmp_path / "sentinel"))
        guard = stack.enter_context(redis_py.Redis.from_url(f"redis://:theirs@127.0.0.1:{port}"))
        with redis_py.Redis(port=port) as unguarded:
            wait_until(lambda: unguarded.sentinel_slaves("main"), what="a known replica", seconds=20)
            protect(primary, replica, unguarded)
        url = f"sentinel://:{LOGIN}@127.0.0.1:{free_port()}/0;sentinel://127.0.0.1:{port}"
        named = {"REDIS_SENTINEL_MASTER": "main", "REDIS_SENTINEL_PASSWORD": "theirs"}
        registry = open_registry(url, **named)
        assert_carried(registry)
        primary.kill()
        wait_until(lambda: primary_port(guard) == replica.port, what="a failover", seconds=20)
        wait_until(lambda: published(registry), what="a report on the new primary", seconds=20)
        assert_carried(registry)


# --- gevent ---

OTHERS_GO_ON = """
from gevent import monkey; monkey.patch_all()
import sys, time, gevent
from tests.integration.test_registry_servers import open_registry, published

registry, ticks = open_registry(sys.argv[1]), []

def tick():
    while True:
        ticks.append(time.monotonic())
        gevent.sleep(0.01)

gevent.spawn(tick)
told = [published(registry), published(registry)]
print(told, len(ticks))
"""


def test_under_gevent_a_redis_that_hangs_holds_nobody_else_up(redis: LocalServer) -> None:
    redis.suspend()
    try:
        command = [sys.executable, "-c", OTHERS_GO_ON, redis.uri]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    finally:
        redis.resume()
    told, _, ticks = done.stdout.strip().rpartition(" ")
    assert told == "[False, False]", done.stderr
    # Two seconds of waiting: some 200 rounds of the other greenlet.
    assert int(ticks) > 100
