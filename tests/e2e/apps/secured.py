"""Servers that ask for a login or speak TLS, and the certificates that this takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymongo
import pytest

from ops.local import security
from ops.local.security import with_logins
from ops.local.servers import LocalServer, ServerError, mongo_server

PASSWORD = "p@ss:w/or?d#%[1]&=+ ;ü"  # noqa: S105 - every character that a URI reserves
ROOT = "root of the tests"
# However it is written, none of these may be seen anywhere.
TRACES = (PASSWORD, quote(PASSWORD, safe=""), "p@ss", "p%40ss")


def secured_server(data: Path) -> LocalServer:
    """A mongod that asks for a login, not started; its `uri` is that of "root", who may do all.

    "app" may read and write the database "shop".
    """
    server = mongo_server(data, options=with_logins(data))
    with server:
        with pymongo.MongoClient[dict[str, Any]](server.uri, directConnection=True) as client:
            client.admin.command("createUser", "root", pwd=ROOT, roles=["root"])
        server.uri = f"mongodb://root:{quote(ROOT)}@127.0.0.1:{server.port}/"
        with pymongo.MongoClient[dict[str, Any]](server.uri) as client:
            roles = [{"role": "readWrite", "db": "shop"}]
            client.shop.command("createUser", "app", pwd=PASSWORD, roles=roles)
        server.kill()
    return server


def app_uri(server: LocalServer, password: str = PASSWORD) -> str:
    """The URI of the user "app"."""
    return f"mongodb://app:{quote(password, safe='')}@127.0.0.1:{server.port}/shop"


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself; its key lies beside it as `.key`."""
    try:
        return security.certificate(folder)
    except ServerError as error:
        pytest.skip(str(error))
