"""Servers that ask for a login or speak TLS, and the certificates that this takes."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymongo
import pytest

from ops.local.servers import LocalServer, mongo_server

PASSWORD = "p@ss:w/or?d#%[1]&=+ ;ü"  # noqa: S105 - every character that a URI reserves
ROOT = "root of the tests"
# However it is written, none of these may be seen anywhere.
TRACES = (PASSWORD, quote(PASSWORD, safe=""), "p@ss", "p%40ss")


def _add_app(client: pymongo.MongoClient[dict[str, Any]]) -> None:
    client.shop.command("createUser", "app", pwd=PASSWORD, roles=[{"role": "readWrite", "db": "shop"}])


def secured_server(
    data: Path, add_users: Callable[[pymongo.MongoClient[dict[str, Any]]], None] = _add_app
) -> LocalServer:
    """A mongod that asks for a login, not started; its `uri` is that of "root", who may do all.

    Unless `add_users` adds others, "app" may read and write the database "shop".
    """
    server = mongo_server(data, options=with_logins(data))
    with server:
        with pymongo.MongoClient[dict[str, Any]](server.uri, directConnection=True) as client:
            client.admin.command("createUser", "root", pwd=ROOT, roles=["root"])
        server.uri = f"mongodb://root:{quote(ROOT)}@127.0.0.1:{server.port}/"
        with pymongo.MongoClient[dict[str, Any]](server.uri) as client:
            add_users(client)
        server.kill()
    return server


def with_logins(data: Path) -> list[str]:
    """mongod's options for a replica set that asks for a login: its members know each other by a key."""
    data.mkdir(parents=True, exist_ok=True)
    key = data / "key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_text(secrets.token_hex(32))
    return ["--auth", "--keyFile", str(key)]


def with_tls(certificate: Path) -> list[str]:
    """mongod's options for TLS alone, with this certificate and the key beside it."""
    both = certificate.with_name("server.pem")
    both.write_text(certificate.read_text() + certificate.with_suffix(".key").read_text())
    both.chmod(0o600)
    return ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(both)]


def app_uri(server: LocalServer, password: str = PASSWORD) -> str:
    """The URI of the user "app"."""
    return f"mongodb://app:{quote(password, safe='')}@127.0.0.1:{server.port}/shop"


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself; its key lies beside it as `.key`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here to make a certificate with")
    path = folder / "ca.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path
