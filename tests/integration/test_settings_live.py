"""Settings as a running service lives with them: rotated secrets, TLS, and what it tells of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymongo
import pytest

from ops.local.security import with_tls
from ops.local.servers import LocalServer, mongo_server
from tests.e2e.apps.secured import PASSWORD, TRACES, app_uri, certificate, secured_server
from tests.e2e.apps.service import call, environment, producer, service
from tests.e2e.workers import ROOT, Worker, wait_until
from worker.process.process import Mongo
from worker.settings.fields import load_settings

ROTATED = "n3w@" + PASSWORD
SOON = {
    "CELERY_PYMONGO_BACKOFF_CAP_SECONDS": "0.5",
    "CELERY_PYMONGO_PING_TIMEOUT_SECONDS": "0.5",
    "MONGODB_SERVER_SELECTION_TIMEOUT_MS": "500",
}


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[LocalServer]:
    with secured_server(tmp_path / "mongo") as server:
        yield server
        server.kill()  # its own way takes 2 s


@pytest.fixture
def secret_file(secured: LocalServer, tmp_path: Path) -> Path:
    path = tmp_path / "mongodb-uri"
    path.write_text(app_uri(secured) + "\n")
    return path


def rotate(server: LocalServer, password: str) -> None:
    """Change the password; the server comes back without the logins of before."""
    with pymongo.MongoClient[dict[str, Any]](server.uri) as root:
        root.shop.command("updateUser", "app", pwd=password)
    server.kill()
    server.start()


def test_a_rotated_secret_is_taken_up_without_a_restart_and_never_shown(
    secured: LocalServer, redis: LocalServer, secret_file: Path, tmp_path: Path
) -> None:
    env = environment("", redis.uri, **SOON) | {"MONGODB_URI": None, "MONGODB_URI_FILE": str(secret_file)}
    with service(env, tmp_path) as node, producer(env) as app:
        node.wait_ready()
        assert call(app, "mongo.health.check")["verdict"] == "ok"
        pid = node.pid
        rotate(secured, ROTATED)
        wait_until(lambda: refused(app), what="a health check that names the refused login")
        failed = app.send_task("probe.write", [{"n": 1}], queue="celery")
        with pytest.raises(Exception, match=r"(?i)authentication failed"):
            failed.get(timeout=10)
        assert node.is_alive
        assert "task.retry" not in node.text
        secret_file.write_text(app_uri(secured, ROTATED))
        node.wait_for_log("client.replaced", seconds=10)
        wait_until(
            lambda: call(app, "mongo.health.check")["verdict"] == "ok", what="a health check that is ok"
        )
        assert call(app, "probe.write", {"n": 2}) == 1
        assert (node.pid, node.text.count("client.replaced")) == (pid, 1)
        node.terminate()
        assert_hidden(node.text)


def refused(app: Any) -> bool:
    report = call(app, "mongo.health.check")
    assert_hidden(str(report))
    return bool((report["verdict"], report["error_class"]) == ("down", "auth"))


def assert_hidden(text: str) -> None:
    assert not [trace for trace in (*TRACES, ROTATED, quote(ROTATED, safe=""), "n3w") if trace in text]


def test_celerys_report_shows_no_credential(shown: Worker) -> None:
    argv = [sys.executable, "-m", "celery", "-A", "worker", "report"]
    environ = {**os.environ, **{name: value for name, value in shown.env.items() if value}}
    done = subprocess.run(
        argv, capture_output=True, text=True, env=environ, cwd=ROOT, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "redbeat_redis_url" in done.stdout
    assert_hidden(done.stdout + done.stderr + shown.text)


@pytest.mark.parametrize("command", ["stats", "conf", "report"])
def test_a_worker_tells_remote_control_no_credential(shown: Worker, command: str) -> None:
    with producer(shown.env) as app:
        inspect = app.control.inspect(destination=[shown.hostname], timeout=5)
        told = str(getattr(inspect, command)())
    assert "127.0.0.1" in told
    assert_hidden(told)


def test_the_report_of_a_service_on_sentinel_shows_no_credential() -> None:
    login = f"user:{quote(PASSWORD, safe='')}@"
    url = f"sentinel://{login}127.0.0.1:1/0;sentinel://{login}127.0.0.1:2/0"
    secrets = {"REDIS_SENTINEL_MASTER": "main", "REDIS_SENTINEL_PASSWORD": PASSWORD}
    with producer(environment("mongodb://127.0.0.1:1/", url, **secrets)) as app:
        report = app.bugreport()
    assert "master_name" in report
    assert_hidden(report)


@pytest.fixture(scope="module")
def shown(
    mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    """A worker whose Redis asks for a password."""
    import redis as redis_py

    with redis_py.Redis.from_url(redis.uri) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    url = f"redis://app:{quote(PASSWORD, safe='')}@127.0.0.1:{redis.port}/0"
    secrets = {"SENTRY_DSN": "http://p%40ss@127.0.0.1:9/1", "REDIS_SENTINEL_PASSWORD": PASSWORD}
    env = environment(mongo.uri, url, **secrets)
    with service(env, tmp_path_factory.mktemp("shown")) as node:
        yield node.wait_ready()


# --- TLS ---


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalServer, Path]]:
    """A MongoDB that speaks TLS only, and the certificate that vouches for it."""
    folder = tmp_path_factory.mktemp("tls")
    path = certificate(folder)
    server = mongo_server(folder, options=with_tls(path))
    server.uri += f"?tls=true&tlsCAFile={path}"
    with server:
        yield server, path
        server.kill()


def checked(environ: dict[str, str]) -> dict[str, Any]:
    mongo = Mongo(load_settings(environ, env_file=None))
    try:
        return mongo.check()
    finally:
        mongo.close()


def test_tls_with_an_authority_of_ones_own(encrypted: tuple[LocalServer, Path]) -> None:
    server, path = encrypted
    uri = f"mongodb://127.0.0.1:{server.port}/"
    report = checked({"MONGODB_URI": uri, "MONGODB_TLS": "true", "MONGODB_TLS_CA_FILE": str(path)})
    assert (report["verdict"], report["reasons"]) == ("ok", [])


def test_an_authority_that_nobody_knows_is_a_mistake_in_the_settings(
    encrypted: tuple[LocalServer, Path],
) -> None:
    uri = f"mongodb://127.0.0.1:{encrypted[0].port}/?tls=true"
    report = checked({"MONGODB_URI": uri, "CELERY_PYMONGO_PING_TIMEOUT_SECONDS": "0.5"})
    assert (report["verdict"], report["error_class"]) == ("down", "config")
    assert "certificate verify failed" in report["reasons"][0]


def test_no_tls_where_the_server_has_it_is_down(encrypted: tuple[LocalServer, Path]) -> None:
    uri = f"mongodb://127.0.0.1:{encrypted[0].port}/"
    report = checked({"MONGODB_URI": uri, "CELERY_PYMONGO_PING_TIMEOUT_SECONDS": "0.5"})
    assert (report["verdict"], report["error_class"]) == ("down", "config")
    assert "the server speaks TLS and this client does not" in report["reasons"][0]
