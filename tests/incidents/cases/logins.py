"""Who logs in, and with which rights: a wrong password, a user who may only read."""

from __future__ import annotations

import pymongo

from ops.local.servers import LocalServer
from tests.e2e.apps.secured import PASSWORD, app_uri, secured_server
from tests.incidents.incident import Incident, Steps
from tests.incidents.scene import Scene

KEPT = {"CELERY_PYMONGO_HISTORY_DATABASE": "shop", "CELERY_PYMONGO_BACKOFF_CAP_SECONDS": "0.5"}


def _server(scene: Scene) -> LocalServer:
    server = secured_server(scene.folder / "secured")
    server.start()
    scene.stack.callback(server.kill)
    return server


def wrong_password(scene: Scene) -> Steps:
    """Log in with a password that is not the user's."""
    server = _server(scene)
    ward = scene.ward(MONGODB_URI=app_uri(server, "wrong"), **KEPT)
    node = scene.worker(ward)
    yield ward
    node.terminate()
    mended = scene.ward(MONGODB_URI=app_uri(server), **KEPT)
    scene.worker(mended)
    yield mended


def may_only_read(scene: Scene) -> Steps:
    """Have tasks write as a user of the role `read`; then grant what the doctor says."""
    server = _server(scene)
    root: pymongo.MongoClient[dict[str, object]] = scene.client(server.uri)
    root.shop.command("updateUser", "app", roles=[{"role": "read", "db": "shop"}])
    ward = scene.ward(MONGODB_URI=app_uri(server, PASSWORD), CELERY_PYMONGO_HISTORY_DAYS="0")
    node = scene.fleet(ward)
    ward.send("write", 1, times=2)
    yield ward
    root.shop.command({"grantRolesToUser": "app", "roles": [{"role": "readWrite", "db": "shop"}]})
    scene.again(ward, node)


def no_cluster_monitor(scene: Scene) -> Steps:
    """Have a user who may not ask the server how it is; then grant that."""
    server = _server(scene)
    ward = scene.ward(MONGODB_URI=app_uri(server, PASSWORD), **KEPT)
    scene.fleet(ward)
    yield ward
    grant = {"grantRolesToUser": "app", "roles": [{"role": "clusterMonitor", "db": "admin"}]}
    scene.client(server.uri).shop.command(grant)


INCIDENTS = [
    Incident("user-may-not-monitor", "role-cluster-monitor", ("code 13",), no_cluster_monitor, verdict="ok"),
    Incident(
        "wrong-password", "login-refused", ("1 of 1 process", "code 18"), wrong_password, verdict="down"
    ),
    Incident("user-may-only-read", "operations-denied", ("clinic.write", "insert", "13"), may_only_read),
]
