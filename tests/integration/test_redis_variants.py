"""What may stand behind REDIS_URL: TLS, Sentinel, passwords, a shared or hung server; and no cluster."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis as redis_py
from kombu.exceptions import OperationalError

from ops.local.child import Child
from ops.local.servers import LocalServer, free_port, redis_server
from tests.e2e.apps import secured, service, tls_front
from tests.e2e.apps.secured import PASSWORD, TRACES
from tests.e2e.apps.service import Beat, beat, call, environment, producer, wait_for_ping
from tests.e2e.workers import Worker, wait_until

logger = logging.getLogger(__name__)

QUICK = {
    "CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS": "1",
    "CELERY_PYMONGO_RECONNECT_INTERVAL_SECONDS": "1",
    "CELERY_PYMONGO_SNAPSHOT_INTERVAL_SECONDS": "1",
}


@contextmanager
def running(env: dict[str, str | None], folder: Path) -> Iterator[tuple[Worker, Beat]]:
    """A worker and a beat, started side by side."""
    with service.service(env, folder) as node, beat(env, folder) as sender:
        node.wait_ready()
        yield node, sender


def assert_carried(env: dict[str, str | None], folder: Path) -> None:
    """Broker, results, broadcasts and RedBeat work under these settings, and the password is not printed."""
    with running(env, folder) as (node, sender), producer(env) as app:
        assert call(app, "mongo.health.check")["verdict"] == "ok"
        wait_for_ping(app, "w1")
        sender.wait_for_sent("mongo.health.check", count=2)
        # What beat sent was run: more than the one task of ours.
        wait_until(lambda: runs(app) > 2, what="scheduled tasks run")
        for text in (node.text, sender.text):
            assert not [trace for trace in TRACES if trace in text]
            assert "Traceback" not in text


def runs(app: Any) -> int:
    stats = app.control.inspect(timeout=0.5).stats() or {}
    return sum(count for node in stats.values() for count in node["total"].values())


# --- passwords and TLS ---


def test_a_password_with_every_reserved_character_carries_all(mongo: LocalServer, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        with redis_py.Redis.from_url(server.uri) as admin:
            rules = ["on", f">{PASSWORD}", "~*", "&*", "+@all"]
            admin.execute_command("ACL", "SETUSER", "us@er:1", *rules)
            admin.execute_command("ACL", "SETUSER", "default", "off")
        login = f"{quote('us@er:1', safe='')}:{quote(PASSWORD, safe='')}"
        url = f"redis://{login}@127.0.0.1:{server.port}/0"
        assert_carried(environment(mongo.uri, url, **QUICK), tmp_path)


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


def test_tls_carries_all(mongo: LocalServer, tls_port: int, certificate: Path, tmp_path: Path) -> None:
    url = f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate}"
    assert_carried(environment(mongo.uri, url, **QUICK), tmp_path)


def test_a_certificate_that_nobody_vouches_for_is_refused(mongo: LocalServer, tls_port: int) -> None:
    url = f"rediss://127.0.0.1:{tls_port}/0"
    with producer(environment(mongo.uri, url)) as app:
        with pytest.raises(redis_py.ConnectionError, match="certificate verify failed"):
            app.connection_for_write().connect()
        with pytest.raises(redis_py.ConnectionError, match="certificate verify failed"):
            app.backend.client.ping()


# --- Sentinel ---


@contextmanager
def sentinel(primary: LocalServer, folder: Path) -> Iterator[int]:
    """One Sentinel that watches `primary` as "main"; yields its port."""
    port = free_port()
    folder.mkdir()
    rules = folder / "sentinel.conf"
    rules.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor main 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds main 500\n"
        "sentinel failover-timeout main 2000\n"
    )
    child = Child("sentinel", [primary.child.argv[0], str(rules), "--sentinel"], log=folder / "sentinel.log")
    child.start()
    try:
        with redis_py.Redis(port=port) as client:
            wait_until(lambda: _knows(client), what="a Sentinel that knows its primary")
        yield port
    finally:
        child.stop(5)


def _knows(client: redis_py.Redis) -> bool:
    try:
        return bool(client.sentinel_get_master_addr_by_name("main"))
    except redis_py.RedisError:
        return False


def primary_port(client: redis_py.Redis) -> int:
    address: Any = client.sentinel_get_master_addr_by_name("main")
    return int(address[1])


def test_sentinel_carries_all_and_a_failover_is_survived(mongo: LocalServer, tmp_path: Path) -> None:
    with ExitStack() as stack:
        primary = stack.enter_context(redis_server(tmp_path / "one"))
        replicates = ["--replicaof", "127.0.0.1", str(primary.port)]
        replica = stack.enter_context(redis_server(tmp_path / "two", options=replicates))
        port = stack.enter_context(sentinel(primary, tmp_path / "sentinel"))
        client = stack.enter_context(redis_py.Redis(port=port))
        wait_until(
            lambda: client.sentinel_slaves("main"), what="a Sentinel that knows the replica", seconds=20
        )
        env = environment(mongo.uri, f"sentinel://127.0.0.1:{port}/0", REDIS_SENTINEL_MASTER="main", **QUICK)
        node, sender = stack.enter_context(running(env, tmp_path))
        app = stack.enter_context(producer(env))
        assert call(app, "mongo.health.check")["verdict"] == "ok"
        sender.wait_for_sent("mongo.health.check", count=2)
        primary.kill()
        wait_until(lambda: primary_port(client) == replica.port, what="a failover", seconds=20)
        wait_until(lambda: answered(app), what="a task run on the new primary", seconds=30)
        assert node.is_alive
        # Its lock was in the old primary: it goes on, or exits for its supervisor to start it again.
        if not sender.is_alive:
            sender = stack.enter_context(beat(env, tmp_path, name="beat2"))
        sent = sender.sent("mongo.health.check")
        sender.wait_for_sent("mongo.health.check", count=sent + 1)


def answered(app: Any) -> bool:
    try:
        return bool(call(app, "probe.echo", 1, seconds=2) == 1)
    except Exception as error:  # noqa: BLE001 - whatever a failover does to one call
        logger.info("a call during the failover: %r", error)
        return False


# --- Redis Cluster ---


@pytest.mark.parametrize("program", ["worker", "beat"])
def test_a_cluster_is_refused_by_exit_78_and_one_line(
    mongo: LocalServer, tmp_path: Path, program: str
) -> None:
    with redis_server(
        tmp_path / "cluster", options=["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    ) as server:
        env = environment(mongo.uri, server.uri)
        assert_refused(env, tmp_path, program=program, why="REDIS_URL: this Redis is a cluster")


@pytest.mark.parametrize("program", ["worker", "beat"])
def test_the_url_of_a_cluster_is_refused_by_exit_78_and_one_line(
    mongo: LocalServer, tmp_path: Path, program: str
) -> None:
    env = environment(mongo.uri, f"redis+cluster://user:{quote(PASSWORD, safe='')}@127.0.0.1:7000")
    assert_refused(env, tmp_path, program=program, why="a Redis Cluster cannot be used")


def assert_refused(env: dict[str, str | None], folder: Path, *, program: str, why: str) -> None:
    make: Callable[..., Worker] = service.service if program == "worker" else beat
    with make(env, folder) as process:
        assert process.wait() == os.EX_CONFIG, process.text
    assert process.text.count(why) == 1, process.text
    assert not [trace for trace in (*TRACES, "Traceback") if trace in process.text]


# --- two deployments on one Redis ---


def test_two_deployments_on_one_redis_do_not_see_each_other(
    mongo: LocalServer, redis: LocalServer, redis_client: redis_py.Redis, tmp_path: Path
) -> None:
    envs = {
        name: environment(mongo.uri, redis.uri, CELERY_PYMONGO_DEPLOYMENT=name, **QUICK)
        for name in ("staging", "production")
    }
    with ExitStack() as stack:
        for name, env in envs.items():
            stack.enter_context(service.service(env, tmp_path, name=name))
            stack.enter_context(beat(env, tmp_path, name=f"beat-{name}"))
        staging, production = (stack.enter_context(producer(env)) for env in envs.values())
        wait_for_ping(staging, "staging")
        wait_for_ping(production, "production")
        result = staging.send_task("probe.echo", ["mine"])
        assert result.get(timeout=10) == "mine"
        assert production.AsyncResult(result.id).state == "PENDING"
        wait_until(lambda: len(list(redis_client.scan_iter("*redbeat:lock"))) == 2, what="two leaders")
        staging.control.shutdown()
        wait_for_ping(staging)
        wait_for_ping(production, "production")
        unread = staging.send_task("probe.echo", ["unread"])
        assert call(production, "probe.echo", "read") == "read"
        assert unread.state == "PENDING"
        raw: list[Any] = [*redis_client.scan_iter("*"), *redis_client.pubsub_channels("*")]
        keys = [key.decode() for key in raw]
    # Who consumes which queue is noted beside the deployments, by broker: so two that share one are seen.
    keys = [key for key in keys if not key.startswith("celery-pymongo::consumers:")]
    assert {":".join(key.split(":")[:2]) for key in keys} == {
        "celery-pymongo:staging",
        "celery-pymongo:production",
    }, keys


# --- a Redis that hangs ---


def test_publishing_to_a_redis_that_hangs_fails_in_its_time(mongo: LocalServer, tmp_path: Path) -> None:
    limit = 0.1
    with redis_server(tmp_path / "redis") as server:
        env = environment(mongo.uri, server.uri, REDIS_SOCKET_TIMEOUT_SECONDS=str(limit))
        with producer(env) as used, producer(env) as fresh:
            used.send_task("probe.echo")
            server.suspend()
            try:
                took = [
                    seconds_to_fail(app, ignore_result=ignore)
                    for app in (used, fresh)
                    for ignore in (True, False)
                ]
            finally:
                server.resume()
    logger.info("publishing failed after %s s", took)
    # The longest: four tries of a message, 0.6 s of pauses between them.
    assert max(took) < 4 * 2 * limit + 0.6 + 1


def busy(app: Any) -> list[Any]:
    active = app.control.inspect(timeout=0.3).active() or {}
    return [task for tasks in active.values() for task in tasks]


def seconds_to_fail(app: Any, *, ignore_result: bool) -> float:
    started = time.monotonic()
    # RuntimeError is what Celery raises where it cannot subscribe to the result.
    with pytest.raises((OperationalError, redis_py.TimeoutError, RuntimeError)):
        app.send_task("probe.echo", ignore_result=ignore_result)
    return time.monotonic() - started


def test_a_task_that_ends_while_redis_is_away_keeps_its_result(mongo: LocalServer, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        env = environment(mongo.uri, server.uri, REDIS_SOCKET_TIMEOUT_SECONDS="1")
        with service.service(env, tmp_path, pool="prefork") as node, producer(env) as app:
            node.wait_ready()
            result = app.send_task("probe.nap", [2])
            node.wait_for_log(r"probe\.nap\[\S+\] received")
            wait_until(lambda: any(busy(app)), what="the task in its slot")
            server.kill()
            node.wait_for_log("Failed operation _store_result")
            server.start()
            node.wait_for_log("succeeded in")
            # Its own connections broke, too: asked anew, as a caller with a saved id would.
            with producer(env) as again:
                assert again.AsyncResult(result.id).get(timeout=10) == 2
