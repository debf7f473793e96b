"""Servers that ask for a login or speak TLS, and the certificates that this takes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymongo
import pytest

from ops.local.servers import EMBEDDED, LocalServer, free_port

PASSWORD = "p@ss:w/or?d#%[1]&=+ ;ü"  # noqa: S105 - every character that a URI reserves
ROOT = "root of the tests"
# However it is written, none of these may be seen anywhere.
TRACES = (PASSWORD, quote(PASSWORD, safe=""), "p@ss", "p%40ss")


def embedded_mongo(data: Path, *, port: int, options: tuple[str, ...] = (), query: str = "") -> LocalServer:
    """The embedded MongoDB server with further arguments of its own."""
    program = EMBEDDED / "bin" / "secantusd-py"
    if not program.exists():
        pytest.skip("only the embedded MongoDB server is set up with users and TLS here")
    argv = [
        str(program),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--storage-path",
        str(data / "secantus"),
    ]
    argv.append("--sync-on-commit")  # an acknowledged write survives SIGKILL
    uri = f"mongodb://127.0.0.1:{port}/{query}"
    return LocalServer("mongo", [*argv, *options], uri=uri, port=port, data=data)


def secured_server(data: Path) -> LocalServer:
    """An embedded MongoDB that asks for a login; "app" may read and write the database "shop"."""
    port = free_port()
    with embedded_mongo(data, port=port) as server:
        with pymongo.MongoClient[dict[str, Any]](server.uri) as client:
            client.admin.command("createUser", "root", pwd=ROOT, roles=["root"])
            roles = [{"role": "readWrite", "db": "shop"}]
            client.shop.command("createUser", "app", pwd=PASSWORD, roles=roles)
        server.kill()
    server = embedded_mongo(data, port=port, options=("--auth",))
    server.uri = f"mongodb://root:{quote(ROOT)}@127.0.0.1:{port}/"
    return server


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
