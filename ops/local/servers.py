"""A MongoDB server and a Redis server of our own, each one process on a loopback port."""

from __future__ import annotations

import platform
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from . import programs
from .child import Child
from .identify import ASK

LAUNCHER = Path(__file__).with_name("secantus_launcher.py")

START_SECONDS = 90.0
"""mongod listens after a second; on a busy machine, or a slow disk, after half a minute."""
STOP_SECONDS = 20.0

PORTS = range(20_000, 32_000)
"""Below the kernels' range for outgoing connections (32768 on Linux, 49152 elsewhere): while a server is
away no client is given its port, nor connects to itself on it, so it can always come back."""


class ServerError(RuntimeError):
    """A server did not start; the sentence says what to do."""


def port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: without it a port stays busy for a minute after its last connection.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A loopback port that nothing listens on."""
    for port in random.sample(PORTS, 200):
        if port_is_free(port):
            return port
    raise ServerError(f"no free port between {PORTS.start} and {PORTS.stop} on 127.0.0.1")


class LocalServer:
    """One server process on a loopback port, its data and its log in a folder.

    `label` says which server answered: tests and people must know when it is not mongod. `ask` finds that out
    from the URI, unless `name` is a key of ASK.
    """

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        name: str,
        argv: Sequence[str],
        *,
        uri: str,
        port: int,
        data: Path,
        ask: Callable[[str], str] | None = None,
    ) -> None:
        self._ask = ask
        self.name = name
        self.port = port
        self.uri = uri
        self.label = ""
        self.child = Child(name, argv, log=data / f"{name}.log")

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def log(self) -> Path:
        return self.child.log

    @property
    def is_running(self) -> bool:
        return self.child.is_running

    def start(self) -> None:
        """Start unless running, and return once it answers.

        Raises:
            ServerError: it ended, did not answer in START_SECONDS, or the port is another program's.
        """
        if self.child.is_running:
            return
        self.launch()
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.child.kill()
            raise

    def launch(self) -> None:
        """Start the process and return at once, for a supervisor that must not wait."""
        if not port_is_free(self.port):
            raise ServerError(f"{self.name}: port {self.port} on 127.0.0.1 is used by another program")
        self.child.start()

    def stop(self) -> bool:
        """SIGTERM, then SIGKILL after STOP_SECONDS; say whether the first was enough."""
        return self.child.stop(STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL; `start()` comes back on the same port with the same data."""
        self.child.kill()

    def suspend(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self.child.suspend()

    def resume(self) -> None:
        self.child.signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{self.name} {self.label or 'not started'} port={self.port} pid={self.pid}>"

    def listens(self) -> bool:
        """Whether it takes connections now."""
        return _listens(self.port)

    def answers(self) -> bool:
        """Whether it takes requests now; the first time it does, `label` says which server it is.

        Raises:
            ServerError: its process has ended.
        """
        if not self.child.is_running:
            raise ServerError(f"{self.name} ended at its start, see {self.log}")
        if not self.listens():
            return False
        with suppress(PyMongoError, RedisError, OSError):
            self.label = (self._ask or ASK[self.name])(self.uri)
            return True
        return False

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} did not answer in {START_SECONDS:.0f} s, see {self.log}")
            time.sleep(0.02)


def _listens(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def mongo_server(data: Path, *, port: int | None = None, options: Sequence[str] = ()) -> LocalServer:
    """A mongod as a replica set of one; SecantusDB where this machine runs none.

    `options` are further arguments of mongod, e.g. `["--auth", "--keyFile", …]`.

    Raises:
        ServerError: there is no server to start; with `options`, no mongod.
    """
    if programs.mongod() is None and not options:
        return secantus_server(data, port=port)
    data, port = _folder(data), port or free_port()
    argv = [*mongod_command(data, port), *options]
    return LocalServer("mongo", argv, uri=f"mongodb://127.0.0.1:{port}/", port=port, data=data)


def secantus_server(data: Path, *, port: int | None = None) -> LocalServer:
    """SecantusDB, which speaks MongoDB's wire protocol and is not mongod.

    Raises:
        ServerError: it is not installed.
    """
    python = programs.secantus()
    if python is None:
        raise ServerError(_missing("MongoDB", "mongod", "MONGODB_URI"))
    data, port = _folder(data), port or free_port()
    argv = [python, str(LAUNCHER), "--port", str(port), "--data", str(data / "secantus")]
    return LocalServer("mongo", argv, uri=f"mongodb://127.0.0.1:{port}/", port=port, data=data)


def redis_server(data: Path, *, port: int | None = None, options: Sequence[str] = ()) -> LocalServer:
    """The Valkey out of its wheel, else a `valkey-server` or `redis-server` from the PATH.

    `options` are further arguments of the server, e.g. `["--maxmemory", "64mb"]`.
    """
    data = _folder(data)
    port = port or free_port()
    settings = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(data), *_REDIS_SETTINGS]
    argv = [_redis_binary(), *settings, *options]
    return LocalServer("redis", argv, uri=f"redis://127.0.0.1:{port}/0", port=port, data=data)


# Every write is in the log before its reply; no key is ever evicted; nothing waits at a shutdown.
_REDIS_SETTINGS = [
    *("--appendonly", "yes"),
    *("--appendfsync", "everysec"),
    *("--save", ""),
    *("--maxmemory-policy", "noeviction"),
    *("--shutdown-timeout", "0"),
]


def _folder(data: Path) -> Path:
    data = data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    return data


def _redis_binary() -> str:
    found = programs.redis_server_program()
    if not found:
        raise ServerError(_missing("Redis", "redis-server", "REDIS_URL"))
    return found


def _missing(server: str, program: str, variable: str) -> str:
    return f"no {server} server here ({platform.machine()}): install {program} or set {variable}"


def mongod_command(data: Path, port: int) -> list[str]:
    """Return the command of a member of the replica set "local", which has to be initiated.

    Raises:
        ServerError: there is no mongod.
    """
    mongod = programs.mongod()
    if mongod is None:
        raise ServerError("no mongod runs here: install one")
    folder = _folder(data / "mongod")
    place = ["--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
    return [mongod, *place, "--replSet", "local", "--wiredTigerCacheSizeGB", "0.25", *_MONGOD_PARAMETERS]


# Fail points for tests; no file of diagnostics; expired documents go within a second, not a minute; nothing
# waits at a shutdown.
_MONGOD_PARAMETERS = [
    *("--setParameter", "enableTestCommands=1"),
    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    *("--setParameter", "ttlMonitorSleepSecs=1"),
    *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"),
]
