"""Where an incident happens: servers that all share, and deployments, proxies and servers of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pymongo
import redis as redis_py

from ops.local.child import Child
from ops.local.replica_set import ReplicaSet
from ops.local.servers import LocalServer, mongo_server, port_is_free, redis_server
from tests.certificates import Authority
from tests.e2e.apps.service import Beat
from tests.e2e.clinic import Clinic, clinic
from tests.e2e.workers import ROOT, Worker, wait_until
from tests.faults.proxy import FaultProxy
from tests.faults.route import Route

_FRONT = ROOT / "tests/e2e/apps/tls_front.py"


@dataclass
class Stage:
    """The servers that all incidents share; a replica set of three is started by the first that asks."""

    mongo: LocalServer
    redis: LocalServer
    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def proxy(self) -> FaultProxy:
        """A proxy whose routes are the scenes'."""
        return self.stack.enter_context(FaultProxy())

    @cached_property
    def replica_set(self) -> ReplicaSet:
        """A replica set of three members, all of them there."""
        found = self.stack.enter_context(ReplicaSet(self.folder / "set", election_timeout=2.0))
        found.wait_for_members()
        return found

    @cached_property
    def authority(self) -> Authority:
        """Signs certificates."""
        return Authority(self.folder / "authority")

    @contextmanager
    def scene(self, name: str) -> Iterator[Scene]:
        """A scene of this name; what it started has ended afterwards."""
        folder = self.folder / name
        folder.mkdir()
        with ExitStack() as stack:
            yield Scene(self, name, folder, stack)


@dataclass
class Scene:
    """What one incident is made of."""

    stage: Stage
    name: str
    folder: Path
    stack: ExitStack
    _made: int = 0

    @property
    def mongo(self) -> LocalServer:
        """The server that all incidents share: whoever hurts it must mend it."""
        return self.stage.mongo

    # -- deployments -------------------------------------------------------------------------------

    def ward(self, *, name: str | None = None, redis: str | None = None, **env: str) -> Clinic:
        """A deployment on the shared servers, or on those that `env` names."""
        uri = env.pop("MONGODB_URI", self.mongo.uri)
        redis = redis or self.stage.redis.uri
        return self.stack.enter_context(clinic((name or self.name)[:20], uri, redis, self.folder, **env))

    def fleet(self, ward: Clinic, name: str = "w1", **options: Any) -> Worker:
        """A worker that is ready, and a beat: nothing is wrong with such a deployment."""
        self.beat(ward, f"beat-of-{name}")
        return self.worker(ward, name, **options)

    def beat(self, ward: Clinic, name: str = "beat") -> Beat:
        """A beat that was started."""
        found: Beat = self.stack.enter_context(ward.beat(name))
        return found

    def worker(self, ward: Clinic, name: str = "w1", **options: Any) -> Worker:
        """A worker that is ready."""
        node = self.stack.enter_context(ward.worker(name, **options))
        return node.wait_ready()

    def start(self, ward: Clinic, name: str = "w1", **options: Any) -> Worker:
        """A worker that was started, and may never be ready."""
        return self.stack.enter_context(ward.worker(name, **options))

    def again(self, ward: Clinic, node: Worker) -> Worker:
        """End a worker well and start another of its name: what the first remembers is gone."""
        node.terminate()
        return self.worker(ward, node.name)

    # -- servers and ways --------------------------------------------------------------------------

    def route(self, uri: str | None = None) -> Route:
        """A way of its own to a server, which can be hurt."""
        return self.stage.proxy.route(uri or self.mongo.uri)

    def mongod(self, *options: str, name: str = "mongod") -> LocalServer:
        """A mongod of its own, running; it is killed at the end."""
        server = mongo_server(self.folder / name, options=options)
        server.start()
        self.stack.callback(server.kill)
        return server

    @contextmanager
    def tls_front(self, certificate: Path, *, port: int) -> Iterator[None]:
        """Serve TLS with this certificate and key on the port, in front of the shared server."""
        wait_until(lambda: port_is_free(port), what="a free port")
        both = str(certificate)
        argv = [sys.executable, str(_FRONT), str(port), both, both, str(self.mongo.port)]
        child = Child("front", argv, log=self.folder / "front.log")
        child.start()
        try:
            wait_until(lambda: not port_is_free(port), what="the TLS front", seconds=20)
            yield
        finally:
            child.kill()

    def redis_server(self, name: str = "redis", *, options: Sequence[str] = ()) -> LocalServer:
        """A Redis of its own, running."""
        server = redis_server(self.folder / name, options=options)
        server.start()
        self.stack.callback(server.kill)
        return server

    def client(self, uri: str | None = None, **options: Any) -> pymongo.MongoClient[Any]:
        """A client of the test's own."""
        return self.stack.enter_context(pymongo.MongoClient[Any](uri or self.mongo.uri, **options))

    def redis_client(self, uri: str | None = None) -> redis_py.Redis:
        """A client of a Redis, else of the shared one."""
        found: redis_py.Redis = redis_py.Redis.from_url(uri or self.stage.redis.uri)
        self.stack.callback(found.close)
        return found

    @contextmanager
    def failing(
        self, data: Mapping[str, Any], *, uri: str | None = None, mode: Any = "alwaysOn"
    ) -> Iterator[None]:
        """Have a server fail or delay commands meanwhile."""
        with pymongo.MongoClient[Any](uri or self.mongo.uri) as client:
            client.admin.command("configureFailPoint", "failCommand", mode=mode, data=dict(data))
            try:
                yield
            finally:
                client.admin.command("configureFailPoint", "failCommand", mode="off")
