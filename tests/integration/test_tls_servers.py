"""TLS mistakes against real mongods: each is told as what it is, and opens the circuit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.local.servers import LocalServer, mongo_server
from tests.certificates import Authority
from worker.connection.circuit import CircuitState
from worker.process.process import Mongo
from worker.settings.fields import load_settings

CA, OWN = "MONGODB_TLS_CA_FILE", "MONGODB_TLS_CERTIFICATE_KEY_FILE"


class Servers:
    """Three mongods, and certificates: `tls` takes no connection without TLS, `mutual` none without a
    certificate of a client, `foreign` has a certificate for another host.
    """

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "authority")
        self.stranger = Authority(folder / "stranger")
        self._folder = folder
        trusts = ["--tlsCAFile", str(self.authority.certificate)]
        lenient = [*trusts, "--tlsAllowConnectionsWithoutCertificates"]
        good, other = self.authority.sign("good"), self.authority.sign("other", hosts="DNS:db.example.com")
        self.tls = self._server("tls", good, lenient)
        self.mutual = self._server("mutual", good, trusts)
        self.foreign = self._server("foreign", other, [*lenient, "--tlsDisabledProtocols", "TLS1_3"])

    def _server(self, name: str, certificate: Path, options: list[str]) -> LocalServer:
        own = ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(certificate)]
        server = mongo_server(self._folder / name, options=[*own, *options])
        client = self.authority.sign(f"{name}-client")
        lax = f"tlsCAFile={self.authority.certificate}&tlsAllowInvalidHostnames=true"
        server.uri += f"?tls=true&{lax}&tlsCertificateKeyFile={client}"
        return server

    def certificate(self, name: str) -> Path:
        """A client's own: good, old, or one that the servers do not know."""
        if name == "old":
            return self.authority.sign("old", lasts=timedelta(minutes=1))
        return (self.stranger if name == "strange" else self.authority).sign(f"{name}-own")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = Servers(tmp_path_factory.mktemp("tls"))
    with ExitStack() as stack:
        for server in (made.tls, made.mutual, made.foreign):
            stack.enter_context(server)
            stack.callback(server.kill)
        yield made


@contextmanager
def process(port: int, **env: str) -> Iterator[Mongo]:
    environ = {
        "MONGODB_URI": f"mongodb://127.0.0.1:{port}/",
        "CELERY_PYMONGO_PING_TIMEOUT_SECONDS": "1",
        **env,
    }
    mongo = Mongo(load_settings(environ, env_file=None))
    try:
        yield mongo
    finally:
        mongo.close()


TRUSTING: dict[str, Any] = {"trusts": "authority"}

CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "a plain client to TLS": (
        "tls",
        {},
        "the server speaks TLS and this client does not (connection closed)",
    ),
    "a plain client to mutual TLS": ("mutual", {}, "the server speaks TLS and this client does not ("),
    "a TLS client to a plain server": (
        "plain",
        TRUSTING,
        "this client speaks TLS and the server does not (EOF occurred in violation of protocol)",
    ),
    "no client certificate": ("mutual", TRUSTING, "client certificate missing: the server asks for one ("),
    "an old client certificate": ("mutual", TRUSTING | {"own": "old"}, "client certificate expired on 20"),
    "a client certificate of another authority": (
        "mutual",
        TRUSTING | {"own": "strange"},
        "client certificate not accepted, it seems: the server asks for one and closes (connection closed)",
    ),
    "a server of another authority": (
        "tls",
        {"trusts": "stranger"},
        "certificate not trusted (certificate",
    ),
    "a server of another host": (
        "foreign",
        TRUSTING,
        "certificate is of another host (certificate",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_told_as_what_it_is(case: str, servers: Servers, mongo: LocalServer) -> None:
    name, options, words = CASES[case]
    server = mongo if name == "plain" else getattr(servers, name)
    env = {CA: str(getattr(servers, options["trusts"]).certificate)} if "trusts" in options else {}
    if own := options.get("own"):
        env[OWN] = str(servers.certificate(own))
    with process(server.port, **env, **({"MONGODB_TLS": "true"} if env else {})) as mongo_process:
        report = mongo_process.check()
        assert (report["verdict"], report["error_class"]) == ("down", "config")
        [reason] = report["reasons"]
        assert reason.startswith(f"config: 127.0.0.1:{server.port}: {words}"), reason
        assert mongo_process.link.circuit.state is CircuitState.OPEN
        assert mongo_process.link.error is not None


def test_what_fits_is_no_mistake(servers: Servers) -> None:
    env = {CA: str(servers.authority.certificate), OWN: str(servers.certificate("good"))}
    with process(servers.mutual.port, MONGODB_TLS="true", **env) as mongo_process:
        assert mongo_process.check()["verdict"] == "ok"


def test_a_certificate_that_is_renewed_is_taken_up_by_the_next_attempt(servers: Servers) -> None:
    own = servers.certificate("old")
    env = {CA: str(servers.authority.certificate), OWN: str(own)}
    with process(servers.mutual.port, MONGODB_TLS="true", **env) as mongo_process:
        assert mongo_process.check()["error_class"] == "config"
        first = mongo_process.reconnect(force=True)["attempt"]
        assert (first["connected"], first["replaced_client"]) == (False, False)
        servers.certificate("good").replace(own)
        second = mongo_process.reconnect(force=True)["attempt"]
        assert (second["connected"], second["replaced_client"]) == (True, True)
