"""Who is connected, as a real server counts it: by application name, and unknown where it does not say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pymongo
import pytest

from ops.local.servers import LocalServer
from tests.e2e.apps.secured import app_uri, secured_server
from tests.e2e.workers import wait_until
from worker.server.connections import MONITORING_SOCKETS, NOT_PERMITTED, Connections, Counted, read

PREFIX, OWN = "cp/test/", "cp/test/w1@h/0/100"

Client = pymongo.MongoClient[dict[str, Any]]


def asked(client: Client, *, seconds: float = 5) -> Connections:
    return read(client, prefix=PREFIX, own=OWN, timeout_seconds=seconds)


@pytest.fixture
def clients(mongo: LocalServer) -> Iterator[list[Client]]:
    """Our client, another process's, and one of somebody else: each with two connections in its pool."""
    with ExitStack() as stack:
        names = (OWN, "cp/test/w1@h/1/101", "cp/production/w1@h/0/100")
        made = [
            stack.enter_context(Client(mongo.uri, appname=name, minPoolSize=2, maxPoolSize=2))
            for name in names
        ]
        for client in made:
            client.admin.command("ping")
        yield made


def test_the_server_counts_as_many_as_a_process_has(clients: list[Client]) -> None:
    """Its pool, and two monitoring sockets."""
    mine = 2 + MONITORING_SOCKETS
    expected = {OWN: mine, "cp/test/w1@h/1/101": mine}

    def is_complete() -> bool:
        found = asked(clients[0])
        return found.by_appname == expected and (found.others or 0) >= mine

    wait_until(is_complete, what="every connection counted")
    (found,) = asked(clients[0]).members.values()
    assert found.source in ("$currentOp", "currentOp")
    assert found.current is not None
    assert found.current >= 3 * mine


def test_a_closed_clients_connections_are_not_counted_any_more(clients: list[Client]) -> None:
    clients[1].close()
    wait_until(
        lambda: set(asked(clients[0]).by_appname or {}) == {OWN},
        what="the end of the closed client's sockets",
    )


def test_a_client_that_the_server_does_not_list_makes_the_list_unknown(clients: list[Client]) -> None:
    """As where a proxy or a service lists some connections only."""
    (found,) = read(clients[0], prefix=PREFIX, own="cp/test/elsewhere", timeout_seconds=5).members.values()
    assert (found.source, found.by_appname, found.others) == (None, None, None)
    assert found.current is not None


def test_a_server_that_hangs_costs_one_deadline_for_all_questions(
    clients: list[Client], mongo: LocalServer
) -> None:
    mongo.suspend()
    try:
        started = time.monotonic()
        found = asked(clients[0], seconds=0.5)
        seconds = time.monotonic() - started
    finally:
        mongo.resume()
    assert list(found.members.values()) == [Counted()]
    assert seconds < 1.0


def test_what_the_user_may_not_ask_is_not_permitted_and_no_error(tmp_path: Path) -> None:
    with secured_server(tmp_path) as server:
        with Client(app_uri(server), appname=OWN) as client:
            client.shop.sales.find_one()
            assert list(asked(client).members.values()) == [Counted(source=NOT_PERMITTED)]
        server.kill()  # its own way takes 2 s
