"""Logins, roles and TLS of real mongods, as a worker's log, `doctor` and `status` tell of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest

from ops.local.child import Child
from ops.local.servers import LocalServer, free_port, mongo_server, port_is_free
from tests.certificates import Authority
from tests.e2e.apps.secured import PASSWORD, TRACES, app_uri, secured_server
from tests.e2e.clinic import APP, Clinic, clinic, is_well
from tests.e2e.workers import ROOT, Worker, wait_until
from tests.schemas import validated

pytestmark = pytest.mark.timeout(240)

SOON = {
    "CELERY_PYMONGO_BACKOFF_CAP_SECONDS": "0.5",
    "CELERY_PYMONGO_HISTORY_DATABASE": "shop",
    "CELERY_PYMONGO_GATED_QUEUES": "w1",
}
FRONT = ROOT / "tests/e2e/apps/tls_front.py"
REFUSED = "login refused (Authentication failed, code 18)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logins")


@pytest.fixture(scope="module")
def secured(folder: Path) -> Iterator[LocalServer]:
    """A mongod with logins: "app" may read and write the database "shop", "reader" may read it."""
    with secured_server(folder / "secured") as server:
        with pymongo.MongoClient[dict[str, Any]](server.uri) as root:
            roles = [{"role": "read", "db": "shop"}]
            root.shop.command("createUser", "reader", pwd=PASSWORD, roles=roles)
        yield server
        server.kill()  # its own way takes 2 s


def status(of: Clinic, **env: str) -> tuple[int, dict[str, Any]]:
    """Run `mongo status --json`; return its exit code and document."""
    argv = [sys.executable, "-m", "celery", "-A", APP, "mongo", "status", "--json"]
    environment = {**os.environ, **of.env, **env}
    done = subprocess.run(
        argv, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    assert not [trace for trace in TRACES if trace in done.stdout]
    return done.returncode, validated(done.stdout)


def ready(node: Worker) -> Worker:
    return node.wait_ready(seconds=60)


# --- logins ---


def test_a_login_that_is_refused_on_this_machine_alone(
    secured: LocalServer, redis: LocalServer, folder: Path
) -> None:
    with (
        clinic("here", app_uri(secured), redis.uri, folder, **SOON) as here,
        here.worker() as node,
        here.beat(),
    ):
        ready(node)
        wait_until(lambda: is_well(here, processes=1), what="a healthy deployment", seconds=60)
        wrong = {"MONGODB_URI": app_uri(secured, "wrong") + "?replicaSet=local"}
        words = ("this machine", REFUSED, "user app", "authSource shop", "mechanism SCRAM")
        found = here.expect("login-refused", *words, severity="note", env=wrong)
        assert "primary" not in json.dumps(found)
        # Its word counts for the fleet while no process has just used MongoDB, as on a machine that is slow.
        told: dict[str, Any] = {}

        def is_vouched_for() -> bool:
            code, document = status(here, **wrong)
            told.update(document, code=code)
            return bool(document["layers"]["reachability"] == "ok")

        wait_until(is_vouched_for, what="a process that has just used MongoDB", seconds=60)
        # A machine that is busy keeps checkouts waiting: no other complaint is there.
        assert [reason for reason in told["reasons"] if "waited" not in reason] == []
        assert told["code"] == int(bool(told["reasons"]))
        assert REFUSED in told["unseen"]["MongoDB"]


@pytest.mark.full
def test_a_worker_whose_login_is_refused_says_so_in_one_line(
    secured: LocalServer, redis: LocalServer, folder: Path
) -> None:
    env = SOON | {"CELERY_PYMONGO_HEALTH_INTERVAL_SECONDS": "600"}
    with (
        clinic("out", app_uri(secured, "wrong"), redis.uri, folder, **env) as out,
        out.worker(pool="prefork", concurrency=2) as node,
    ):
        ready(node)
        # PyMongo's background threads have had their tries by then.
        node.wait_for_log(r"reconnect\.failed: attempt 8 ", count=2, seconds=120)
        opened = [line for line in node.text.splitlines() if "circuit.opened" in line]
        assert len(opened) == 2, node.text
        assert all("MongoDB refuses the login: " in line and REFUSED in line for line in opened)
        assert "Traceback" not in node.text
        assert "background" not in node.text
        node.wait_for_log(r"gate\.closed")
        results = out.send("save", 1)
        code, told = status(out)
        assert (code, told["verdict"]) == (2, "down")
        assert REFUSED in told["reasons"][0]
        out.expect("login-refused", "2 of 2 processes", REFUSED, severity="down")
        assert not results[0].ready()


def test_a_user_who_may_only_read(secured: LocalServer, redis: LocalServer, folder: Path) -> None:
    uri = app_uri(secured).replace("//app:", "//reader:")
    with (
        clinic("reader", uri, redis.uri, folder, **SOON) as reader,
        reader.worker() as node,
        reader.beat(),
    ):
        ready(node)
        for result in reader.send("write", 1, times=2):
            with pytest.raises(Exception, match="not authorized"):
                result.get(timeout=30)
        words = ("clinic.write: insert on shop.clinic", "code 13", "2 times in 1 of 1 process")
        found = reader.expect("operations-denied", *words, seconds=60)
        assert found["title"] == "Writes are refused: the MongoDB user may not write (code 13)."
        assert "grantRolesToUser('reader', [{role: 'readWrite', db: 'shop'}])" in found["fix"][0]
        assert "Everything else works" not in json.dumps(reader.ask())
        code, told = status(reader)
        assert (code, told["layers"]["permissions"]) == (1, "degraded")
        assert any("MongoDB denies operations of clinic.write (code 13)" in why for why in told["reasons"])
        assert reader.send("read", 1)[0].get(timeout=30) == 1


# --- TLS ---


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder / "authority")


@contextmanager
def front(port: int, certificate: Path, target: int, log: Path) -> Iterator[None]:
    """Serve TLS with this certificate on the port, in front of a server that speaks none."""
    wait_until(lambda: port_is_free(port), what="a free port", seconds=30)
    argv = [sys.executable, str(FRONT), str(port), str(certificate), str(certificate), str(target)]
    child = Child("front", argv, log=log)
    child.start()
    try:
        wait_until(lambda: not port_is_free(port), what="the TLS front", seconds=30)
        yield
    finally:
        child.kill()


@pytest.mark.full
def test_a_certificate_that_has_expired(
    mongo: LocalServer, redis: LocalServer, folder: Path, authority: Authority
) -> None:
    """A mongod does not start with one: something in front of it has the old one still."""
    port = free_port()
    good = authority.sign("good")
    expired = authority.sign("expired", begins=-timedelta(days=9), lasts=timedelta(days=1))
    uri = f"mongodb://127.0.0.1:{port}/shop?directConnection=true&tls=true&tlsCAFile={authority.certificate}"
    log = folder / "front.log"
    with clinic("expired", uri, redis.uri, folder, **SOON) as late, late.worker() as node:
        with front(port, good, mongo.port, log):
            ready(node)
            node.wait_for_log(r"client\.warm", seconds=60)
            assert late.send("save", 0)[0].get(timeout=30) == 0
        with front(port, expired, mongo.port, log):
            said = r"circuit\.(opened|cause): the connection's settings do not fit MongoDB: "
            node.wait_for_log(said, seconds=60)
            node.wait_for_log(r"gate\.closed", seconds=30)
            results = [late.send("save", number)[0] for number in (1, 2, 3)]
            words = ("certificate expired on ", "certificate has expired", "1 of 1 process")
            found = late.expect("configuration-refused", *words, severity="down")
            assert found["title"] == "The server's certificate has expired."
            assert f"openssl s_client -connect 127.0.0.1:{port}" in found["fix"][0]
            code, told = status(late)
            assert (code, told["verdict"]) == (2, "down")
            assert any("certificate expired on " in reason for reason in told["reasons"])
            assert not [result for result in results if result.ready()]
        with front(port, good, mongo.port, log):
            assert [result.get(timeout=60) for result in results] == [1, 2, 3]
            node.wait_for_log(r"gate\.opened")
        assert "Traceback" not in node.text
        assert "_OperationCancelled" not in node.text
        assert "task.retry" not in node.text


@pytest.mark.full
def test_a_client_certificate_that_is_renewed_where_it_lies(
    redis: LocalServer, folder: Path, authority: Authority
) -> None:
    own = folder / "client.pem"
    shutil.copy2(authority.sign("old", lasts=timedelta(minutes=5)), own)
    options = ["--tlsMode", "requireTLS", "--tlsCAFile", str(authority.certificate)]
    options += ["--tlsCertificateKeyFile", str(authority.sign("server"))]
    server = mongo_server(folder / "mutual", options=options)
    login = f"tlsCAFile={authority.certificate}&tlsCertificateKeyFile={authority.sign('tests')}"
    server.uri += f"?tls=true&{login}"
    uri = f"mongodb://127.0.0.1:{server.port}/shop"
    tls = {
        "MONGODB_TLS": "true",
        "MONGODB_TLS_CA_FILE": str(authority.certificate),
        "MONGODB_TLS_CERTIFICATE_KEY_FILE": str(own),
    }
    with (
        server,
        clinic("renewed", uri, redis.uri, folder, **SOON, **tls) as renewed,
        renewed.worker() as node,
    ):
        ready(node)
        words = ("client certificate expired on ", "1 of 1 process")
        found = renewed.expect("configuration-refused", *words, severity="down", seconds=60)
        assert found["title"] == "The client certificate has expired."
        result = renewed.send("save", 1)[0]
        fresh = folder / "fresh.pem"
        shutil.copy2(authority.sign("new"), fresh)
        fresh.replace(own)
        assert result.get(timeout=60) == 1
        assert node.text.count("client.replaced") == 1
        server.kill()
