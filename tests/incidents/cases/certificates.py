"""What keeps a client from a server that speaks TLS: its certificate, or one side without TLS."""

from __future__ import annotations

from datetime import timedelta

from ops.local.servers import LocalServer
from tests.incidents.incident import Happen, Incident, Steps
from tests.incidents.scene import Scene

_DAY = timedelta(days=1)


def _server(scene: Scene, **certificate: object) -> LocalServer:
    both = scene.stage.authority.sign(scene.name, **certificate)  # type: ignore[arg-type] # as the case has it
    ca = str(scene.stage.authority.certificate)
    options = ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(both), "--tlsCAFile", ca]
    return scene.tls_mongod(*options, "--tlsAllowConnectionsWithoutCertificates", ca=ca)


def _with(**certificate: object) -> Happen:
    def happen(scene: Scene) -> Steps:
        server = _server(scene, **certificate)
        options = {"MONGODB_TLS": "true", "MONGODB_TLS_CA_FILE": str(scene.stage.authority.certificate)}
        ward = scene.ward(MONGODB_URI=server.uri, CELERY_PYMONGO_BACKOFF_CAP_SECONDS="0.5", **options)
        scene.worker(ward)
        yield ward
        server.kill()
        scene.stage.authority.sign(scene.name)
        server.start()

    return happen


def without_tls(scene: Scene) -> Steps:
    """Speak to a server without the TLS that it asks for."""
    server = _server(scene)
    ward = scene.ward(MONGODB_URI=server.uri)
    node = scene.worker(ward)
    yield ward
    node.terminate()
    ca = str(scene.stage.authority.certificate)
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
