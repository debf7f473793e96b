"""An embedded MongoDB that asks for a login, and a password that is changed on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from pymongo import MongoClient

from ops.local.servers import LocalServer, free_port
from tests.e2e.apps.secured import embedded_mongo

USER = "app"
PASSWORD, NEXT_PASSWORD = "first", "second"
ROOT = "of a server that lives for a minute"


def secured_mongo(data: Path) -> LocalServer:
    """A server with a user who may read and write every database; its `uri` is that of root."""
    port = free_port()
    data.mkdir(parents=True, exist_ok=True)
    with embedded_mongo(data, port=port) as server:
        with MongoClient[dict[str, Any]](server.uri) as client:
            client.admin.command("createUser", "root", pwd=ROOT, roles=["root"])
            client.admin.command("createUser", USER, pwd=PASSWORD, roles=["readWriteAnyDatabase"])
        server.kill()
    server = embedded_mongo(data, port=port, options=("--auth",))
    server.uri = f"mongodb://root:{quote(ROOT)}@127.0.0.1:{port}/"
    return server


def as_user(uri: str, password: str) -> str:
    """This URI with the user's login in the place of root's."""
    parts = urlsplit(uri)
    place = parts.netloc.rpartition("@")[2]
    query = f"{parts.query}&authSource=admin".lstrip("&")
    return urlunsplit(parts._replace(netloc=f"{USER}:{password}@{place}", query=query))
