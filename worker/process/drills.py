"""What drills need of a process: clients beside its own, and a process of their own that fills a pool."""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymongo
from pymongo.errors import PyMongoError

from ..connection.client import Identity, build_client
from ..mongo.classify import ErrorClass, classify
from ..mongo.holder import Client
from ..pool.adapter import PoolGauges, read_gauges
from ..pool.monitor import NO_POOL
from ..server import pings
from .process import current_slot

if TYPE_CHECKING:
    from ..settings.fields import Settings
    from .process import Mongo

_CLOSE_SECONDS = 1.0

# No operation of a drill hangs for longer, whatever its pool's own limits are.
_PATIENCE_MS = {"serverSelectionTimeoutMS": 5000, "connectTimeoutMS": 5000, "socketTimeoutMS": 10_000}


@dataclass(frozen=True)
class Order:
    """What a stand-in is told: to hold as many of a collection's connections as it gets, in `threads` at
    once, each for `hold_ms`, for `seconds` at most.
    """

    settings: "Settings"
    node: str
    options: dict[str, Any]
    database: str
    collection: str
    threads: int
    hold_ms: int
    seconds: float


class Drills:
    """Of one process: `app.mongo.drills`."""

    def __init__(self, mongo: "Mongo") -> None:
        self._mongo = mongo

    @property
    def node(self) -> str:
        """The name under which drills of this process are seen: by the server, and in the fleet."""
        return f"drill-{os.getpid()}@{socket.gethostname()}"

    @contextmanager
    def client(
        self, options: Mapping[str, Any], *, concurrency: int, listeners: Sequence[Any] = ()
    ) -> Iterator[Client]:
        """Hand out a client beside the process's own; `options` win over all others but a drill's patience.

        It is closed in the end, and no fork guard takes it for a stranger. No I/O before it is used.
        """
        settings = self._mongo.settings
        identity = Identity(settings.deployment, self.node, current_slot(), os.getpid())
        with self._mongo.guard.expected():
            client = build_client(
                settings,
                identity,
                concurrency=concurrency,
                listeners=listeners,
                options={**options, **self._patience()},
            )
        try:
            yield client
        finally:
            # A server that hangs does not hear that the sessions end.
            with suppress(PyMongoError), pymongo.timeout(_CLOSE_SECONDS):
                client.close()

    def own_pool(self, concurrency: int) -> dict[str, Any]:
        """Return the sizes of the pool and the limit of its queue that the settings give a process."""
        options = {name: value for name, value, _ in self._mongo.settings.effective_options(concurrency)}
        names = ("maxPoolSize", "minPoolSize", "waitQueueTimeoutMS", "maxIdleTimeMS", "maxConnecting")
        return {name: options[name] for name in names if name in options}

    def _patience(self) -> dict[str, Any]:
        options = {name: value for name, value, _ in self._mongo.settings.effective_options(1)}
        # A deadline of the whole operation would take the place of these, and of the queue's.
        return {name: min(options[name], most) for name, most in _PATIENCE_MS.items()} | {"timeoutMS": None}

    @staticmethod
    def gauges(client: Client) -> PoolGauges:
        """Return the fullest pool of a client now: it has one for each server."""
        pools = (read_gauges(client) or {}).values()
        return max(pools, key=lambda pool: (pool.in_use, pool.waiting, pool.size), default=NO_POOL)

    def reason(self, error: Exception) -> str:
        """Return what a person may be told of an error of the driver's."""
        return self._mongo.reason(error)

    @staticmethod
    def classify(error: Exception) -> ErrorClass:
        """Return the class of an error of the driver's."""
        return classify(error)

    def server(self, client: Client) -> str | None:
        """Return which server answers, and its version."""
        return pings.server_label(client, timeout_seconds=self._mongo.settings.ping_timeout_seconds)

    def stand_in(self, options: Mapping[str, Any], **order: Any) -> "subprocess.Popen[bytes]":
        """Start a process that is seen in the fleet as one of its own; see `stand_in` and `Order`.

        It says one line of JSON on its stdout once it is there, and ends with its stdin, in any case.
        """
        package = __package__ or ""
        home = str(Path(__file__).parents[package.count(".") + 1])
        path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
        child = subprocess.Popen(  # noqa: S603 - our own module, by the interpreter that runs this
            [sys.executable, "-m", f"{package}.drill_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            # Ctrl-C is for whoever drills: it tells the process to end, in order.
            start_new_session=True,
        )
        told = Order(self._mongo.redis_settings, self.node, {**options, **self._patience()}, **order)
        if child.stdin is not None:
            child.stdin.write(pickle.dumps(told))
            child.stdin.flush()
        return child
