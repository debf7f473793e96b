"""A mongod that asks for a login, and a password that is changed on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pymongo import MongoClient

from ops.local.servers import LocalServer
from tests.e2e.apps.secured import secured_server

USER = "app"
PASSWORD, NEXT_PASSWORD = "first", "second"


def secured_mongo(data: Path) -> LocalServer:
    """A server with a user who may read and write every database; its `uri` is that of root."""
    return secured_server(data, _add_user)


def _add_user(client: MongoClient[dict[str, Any]]) -> None:
    client.admin.command("createUser", USER, pwd=PASSWORD, roles=["readWriteAnyDatabase"])


def as_user(uri: str, password: str) -> str:
    """This URI with the user's login in the place of root's."""
    parts = urlsplit(uri)
    place = parts.netloc.rpartition("@")[2]
    query = f"{parts.query}&authSource=admin".lstrip("&")
    return urlunsplit(parts._replace(netloc=f"{USER}:{password}@{place}", query=query))
