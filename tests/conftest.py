"""What every test shares: marks by folder, the fence of those without servers, and servers of their own."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pymongo
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"

# `worker`, `tasks` and `ops` are imported as they are from a checkout, whatever the current folder is.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from ops.local import rabbit as rabbitmq  # noqa: E402  # needs the line above
from ops.local.identify import ASK  # noqa: E402  # as above
from ops.local.servers import LocalServer, mongo_server, redis_server  # noqa: E402  # as above

UNIT_TIMEOUT_SECONDS = 60

FENCED = ("unit", "hostile")
"""Folders whose tests are pure and fast."""

# The unit suite stays under ten seconds; `pytest --hypothesis-profile=default` looks longer.
# No deadline of an example's: on a busy machine any of them takes long once.
settings.register_profile("quick", max_examples=30, deadline=None)
settings.load_profile("quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by folder, so that nobody forgets."""
    for item in items:
        if not item.path.is_relative_to(TESTS):
            continue
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in ("integration", "e2e", "incidents"):
            item.add_marker("e2e" if folder == "incidents" else folder)
        elif folder in FENCED and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(UNIT_TIMEOUT_SECONDS))


def _refuse(what: str) -> Callable[..., NoReturn]:
    def refused(*arguments: object, **options: object) -> NoReturn:
        pytest.fail(f"a unit test must not {what}", pytrace=True)

    return refused


@pytest.fixture(autouse=True)
def unit_fence(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit tests touch no network and never sleep; a socket pair inside the process is no network."""
    if not any(request.path.is_relative_to(TESTS / folder) for folder in FENCED):
        return
    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, _refuse("use the network"), raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", _refuse("look up a name"))
    monkeypatch.setattr(time, "sleep", _refuse("sleep"))


class ForeignServer(LocalServer):
    """A server that the environment names: used as it is, never stopped; tests that would are skipped."""

    def __init__(self, name: str, uri: str) -> None:
        super().__init__(name, [], uri=uri, port=0, data=Path(os.devnull).parent)

    def start(self) -> None:
        self.label = ASK[self.name](self.uri)

    def stop(self) -> bool:
        """It goes on."""
        return True

    def _skip(self) -> NoReturn:
        pytest.skip(f"{self.name} is not the tests' own: it may not be stopped")

    kill = suspend = resume = _skip


def _server(name: str, make: Callable[[Path], LocalServer], folder: Path) -> LocalServer:
    uri = os.environ.get({"mongo": "MONGODB_URI", "redis": "REDIS_URL"}[name])
    return ForeignServer(name, uri) if uri else make(folder)


def _serve(name: str, make: Callable[[Path], LocalServer], folder: Path) -> Iterator[LocalServer]:
    with ExitStack() as stack:
        yield stack.enter_context(_server(name, make, folder))


@pytest.fixture(scope="session")
def _mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """The one MongoDB server of this test process: each takes more than two seconds to start and to end."""
    server = _server("mongo", mongo_server, tmp_path_factory.mktemp("mongo"))
    try:
        yield server
    finally:
        if not isinstance(server, ForeignServer):
            server.kill()  # its data go with the folder


@pytest.fixture(scope="module")
def mongo(_mongod: LocalServer) -> LocalServer:
    """A MongoDB server, running and empty, for this module's tests; one that kills it starts it again."""
    if isinstance(_mongod, ForeignServer):
        _mongod.start()
        return _mongod
    if _mongod.is_running:
        _mongod.resume()
    _mongod.start()
    with pymongo.MongoClient[dict[str, Any]](_mongod.uri, directConnection=True) as client:
        if _mongod.label.startswith("mongod "):
            client.admin.command("configureFailPoint", "failCommand", mode="off")
        for name in set(client.list_database_names()) - {"admin", "config", "local"}:
            client.drop_database(name)
    return _mongod


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A Redis server for this module's tests; a test that kills it starts it again."""
    yield from _serve("redis", redis_server, tmp_path_factory.mktemp("redis"))


VHOSTS = [f"t{number}" for number in range(40)]


@pytest.fixture(scope="session")
def rabbit_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rabbitmq.RabbitServer]:
    """The one RabbitMQ of this process's tests. Where there is none they are skipped, or fail where
    TESTS_NEED_RABBITMQ is set, as in CI.
    """
    if not rabbitmq.is_installed():
        reason = "no rabbitmq-server on the PATH: apt-get install rabbitmq-server"
        (pytest.fail if os.environ.get("TESTS_NEED_RABBITMQ") else pytest.skip)(reason)
    with rabbitmq.RabbitServer(tmp_path_factory.mktemp("rabbitmq"), vhosts=VHOSTS) as server:
        yield server


@pytest.fixture(scope="session")
def _unused_vhosts() -> list[str]:
    return list(VHOSTS)


@pytest.fixture
def rabbit(rabbit_node: rabbitmq.RabbitServer, _unused_vhosts: list[str]) -> str:
    """The URL of a virtual host that no test has used."""
    return rabbit_node.url(_unused_vhosts.pop())


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The environment without the variables that name servers, for processes that a test starts."""
    for name in ("MONGODB_URI", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    return dict(os.environ)
