"""SecantusDB, the server of the last resort: prefork workers, and what its launcher makes right."""

from __future__ import annotations

import socket
import struct
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bson
import pymongo
import pytest

from ops.local import programs
from ops.local.servers import LocalServer, secantus_server
from tests.e2e.proxy import WatchingProxy
from tests.e2e.site import Site


@pytest.fixture(scope="module")
def secantus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    if programs.secantus() is None:
        pytest.skip("SecantusDB is not installed: the whole of ops/test does that")
    with secantus_server(tmp_path_factory.mktemp("secantus")) as server:
        yield server


def test_it_says_that_it_is_not_mongod(secantus: LocalServer) -> None:
    assert secantus.label == "SecantusDB 0.7.0b3 (not mongod)"


def test_a_prefork_worker_opens_one_client_per_process_and_closes_each(
    secantus: LocalServer, redis: LocalServer, tmp_path: Path
) -> None:
    with WatchingProxy(secantus.uri) as proxy:
        site = Site(secantus, redis, proxy, tmp_path)
        with site.node("fork") as node:
            node.worker.wait_ready()
            node.wait_warm()
            results = [node.send("write", key) for key in range(20)]
            assert sorted(result.get(timeout=30) for result in results) == list(range(20))
            pids = node.pids()
            assert {pid: proxy.clients(pid) for pid in pids} == dict.fromkeys(pids, 1)
            assert node.worker.terminate() == 0
            assert {pid: proxy.sessions_ended(pid) for pid in pids} == dict.fromkeys(pids, 1)


def send(connection: socket.socket, command: dict[str, Any]) -> None:
    """Send an OP_MSG and wait for nothing."""
    body = struct.pack("<iB", 0, 0) + bson.encode(command)
    connection.sendall(struct.pack("<iiii", 16 + len(body), 1, 0, 2013) + body)


def receive(connection: socket.socket) -> dict[str, Any]:
    """Return the reply to one."""
    (length,) = struct.unpack("<i", connection.recv(16, socket.MSG_WAITALL)[:4])
    return bson.decode(connection.recv(length - 16, socket.MSG_WAITALL)[5:])


def test_a_write_takes_effect_once_though_its_retry_overtakes_it(secantus: LocalServer) -> None:
    """As the driver sends it again on another connection, while the first may still be on its way."""
    session = {"id": bson.Binary(uuid.uuid4().bytes, bson.binary.UUID_SUBTYPE)}
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", secantus.port))) for _ in range(2)
        ]
        for number in range(1, 101):
            update = {"q": {"_id": number}, "u": {"$inc": {"n": 1}}, "upsert": True}
            command = {"update": "retried", "updates": [update], "lsid": session, "$db": "app"}
            for connection in connections:
                send(connection, command | {"txnNumber": bson.Int64(number)})
            assert [receive(connection)["n"] for connection in connections] == [1, 1]
        client = stack.enter_context(pymongo.MongoClient[dict[str, Any]](secantus.uri))
        assert client.app.retried.distinct("n") == [1]
