"""TLS mistakes, found out of servers that speak TLS, do not, or want a certificate."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bson
import pytest
from pymongo import errors
from pymongo.server_description import ServerDescription

from tests.certificates import Authority
from worker.mongo.classify import ErrorClass
from worker.server import pings, tls
from worker.server.security import Encryption

TIMEOUTS = " (configured timeouts: socketTimeoutMS: 20000.0ms, connectTimeoutMS: 10000.0ms)"
CLOSED = "connection closed"
EOF = "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol (_ssl.c:1006)"

Serve = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@contextmanager
def server(serve: Serve) -> Iterator[int]:
    """Serve each connection in turn; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, suppress(OSError):
                        serve(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def speaks_tls(certificate: Path, *, wants: Path | None = None) -> Serve:
    """Serve TLS, and close once it is said that a certificate is missing, as mongod does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if wants is not None:
        context.load_verify_locations(wants)
        context.verify_mode = ssl.CERT_OPTIONAL

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1)

    return serve


def speaks_plainly(connection: socket.socket) -> None:
    """Answer an OP_MSG, and close on anything else."""
    head = connection.recv(16, socket.MSG_WAITALL)
    if head[12:16] == (2013).to_bytes(4, "little"):
        body = b"\0\0\0\0\0" + bson.encode({"ok": 1})
        parts = (16 + len(body), 7, int.from_bytes(head[4:8], "little"), 2013)
        connection.sendall(b"".join(part.to_bytes(4, "little") for part in parts) + body)
        connection.recv(1)


def closes(_connection: socket.socket) -> None:
    """Do what a proxy does whose server is away."""


def client(port: int, met: str, own: Encryption, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client that met this at this server."""
    address = ("127.0.0.1", port)
    error = errors.AutoReconnect(f"127.0.0.1:{port}: {met}{TIMEOUTS}")
    described = {address: ServerDescription(address, error=error)}
    monkeypatch.setattr(tls, "encryption_of", lambda _client: own)
    options = SimpleNamespace(replica_set_name=None, event_listeners=[])
    described_so = SimpleNamespace(server_descriptions=lambda: described)
    return SimpleNamespace(topology_description=described_so, options=options)


def test_a_server_that_speaks_tls_to_a_client_that_does_not(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(speaks_tls(authority.sign("server"))) as port:
        for met in (CLOSED, "[Errno 104] Connection reset by peer"):
            found = tls.mistake(client(port, met, Encryption(False), monkeypatch))
            assert found is not None
            assert found.startswith(f"127.0.0.1:{port}: the server speaks TLS and this client does not (")


def test_a_server_without_tls_and_a_client_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(speaks_plainly) as port:
        found = tls.mistake(client(port, EOF, Encryption(True), monkeypatch))
    words = "this client speaks TLS and the server does not (EOF occurred in violation of protocol)"
    assert found == f"127.0.0.1:{port}: {words}"


@pytest.mark.parametrize(
    ("name", "lasts", "words"),
    [
        (None, timedelta(days=1), "client certificate missing: the server asks for one (connection closed)"),
        (
            "fresh",
            timedelta(days=1),
            "client certificate not accepted, it seems: the server asks for one and closes (",
        ),
        ("old", timedelta(minutes=1), "client certificate expired on 20"),
    ],
)
def test_a_server_that_wants_a_certificate(
    name: str | None,
    lasts: timedelta,
    words: str,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = None if name is None else authority.sign(name, lasts=lasts)
    certificate = authority.sign("server")
    with server(speaks_tls(certificate, wants=authority.certificate)) as port:
        found = tls.mistake(client(port, CLOSED, Encryption(True, own), monkeypatch))
    assert found is not None
    assert found.removeprefix(f"127.0.0.1:{port}: ").startswith(words)


def test_a_certificates_date_is_told(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    expired = authority.sign("expired", begins=-timedelta(days=9), lasts=timedelta(days=1))
    with server(speaks_tls(expired)) as port:
        met = "[SSL: X] certificate verify failed: certificate has expired (_ssl.c:1006)"
        found = tls.mistake(client(port, met, Encryption(True), monkeypatch))
    day = (datetime.now(UTC) - timedelta(days=8)).strftime("%Y-%m-%d")
    assert found is not None
    assert f": certificate expired on {day} " in found
    assert found.endswith(" (certificate verify failed: certificate has expired)")


@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize("met", [CLOSED, EOF, "[Errno 111] Connection refused", "timed out"])
def test_a_server_that_only_closes_is_no_tls_mistake(
    is_on: bool, met: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(closes) as port:
        assert tls.mistake(client(port, met, Encryption(is_on), monkeypatch)) is None
    assert tls.mistake(client(port, met, Encryption(is_on), monkeypatch)) is None


def test_a_server_that_says_nothing_costs_no_more_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for is_on in (True, False):
            asked = client(port, CLOSED, Encryption(is_on), monkeypatch)
            assert tls.mistake(asked, seconds=0.2) is None


def test_a_ping_that_fails_is_explained(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = pings.failed(errors.AutoReconnect("h:1: connection closed"))
    with server(speaks_tls(authority.sign("server"))) as port:
        found = pings.explained(failed, client(port, CLOSED, Encryption(False), monkeypatch))
    assert (found.verdict, found.error_class) == (pings.Verdict.DOWN, ErrorClass.CONFIG)
    assert "the server speaks TLS" in str(found.error)


@pytest.mark.parametrize("error", [errors.OperationFailure("no", 18), errors.ExecutionTimeout("slow", 50)])
def test_nothing_is_asked_where_the_server_answered(error: Exception) -> None:
    failed = pings.failed(error)
    nothing: Any = None
    assert pings.explained(failed, nothing) is failed
