"""What keeps a client from a server that speaks TLS: its certificate, or one side without TLS."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ops.local.servers import free_port, mongo_server
from tests.incidents.incident import Happen, Incident, Steps
from tests.incidents.scene import Scene

_DAY = timedelta(days=1)


def _with(**certificate: Any) -> Happen:
    """A mongod does not start with an expired certificate: what stands before it has the old one still."""

    def happen(scene: Scene) -> Steps:
        authority, port = scene.stage.authority, free_port()
        ward = scene.ward(
            MONGODB_URI=f"mongodb://127.0.0.1:{port}/?directConnection=true",
            CELERY_PYMONGO_BACKOFF_CAP_SECONDS="0.5",
            MONGODB_TLS="true",
            MONGODB_TLS_CA_FILE=str(authority.certificate),
        )
        with scene.tls_front(authority.sign(scene.name, **certificate), port=port):
            scene.worker(ward)
            yield ward
        scene.stack.enter_context(scene.tls_front(authority.sign(f"{scene.name}-renewed"), port=port))

    return happen


def without_tls(scene: Scene) -> Steps:
    """Speak to a server without the TLS that it asks for."""
    both, ca = scene.stage.authority.sign(scene.name), str(scene.stage.authority.certificate)
    options = ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(both), "--tlsCAFile", ca]
    server = mongo_server(
        scene.folder / "tls", options=[*options, "--tlsAllowConnectionsWithoutCertificates"]
    )
    plain, server.uri = server.uri, f"{server.uri}?tls=true&tlsCAFile={ca}"
    server.start()
    scene.stack.callback(server.kill)
    server.uri = plain
    ward = scene.ward(MONGODB_URI=server.uri)
    node = scene.worker(ward)
    yield ward
    node.terminate()
    mended = scene.ward(MONGODB_URI=server.uri, MONGODB_TLS="true", MONGODB_TLS_CA_FILE=ca)
    scene.worker(mended)
    yield mended


INCIDENTS = [
    Incident(
        "certificate-expired",
        "configuration-refused",
        ("certificate has expired", "expired on 20", "127.0.0.1:"),
        _with(begins=-2 * _DAY, lasts=_DAY),
        verdict="down",
    ),
    Incident(
        "certificate-of-another-host",
        "configuration-refused",
        ("another host name",),
        _with(hosts="DNS:db.example"),
        verdict="down",
    ),
    Incident("tls-on-one-side", "configuration-refused", ("TLS only",), without_tls, verdict="down"),
]
