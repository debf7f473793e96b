"""What MongoDB says of itself to whoever asks once, under a deadline."""

import time
from dataclasses import dataclass
from typing import Any

from ..mongo.holder import Client
from . import connections as server_connections
from . import pings as health
from . import replication
from .connections import Connections
from .replication import Replication
from .security import Login, login_of


@dataclass(frozen=True)
class Asked:
    """A ping, and where it was answered the server's name, and its connections; None is unknown. `login` is
    what the server was asked with.
    """

    ping: health.Ping
    topology: dict[str, Any]
    server: str | None = None
    connections: Connections | None = None
    login: Login | None = None
    replication: Replication | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; of the connections what the member with the least room left says."""
        counted = ("current", "available", "total_created", "source", "others")
        member, fullest = self.connections.fullest if self.connections else (None, None)
        connections = fullest and {"member": member} | {name: getattr(fullest, name) for name in counted}
        return self.ping.to_dict() | {
            "topology": self.topology,
            "server": self.server,
            "connections": connections,
        }


def ask(client: Client, *, prefix: str, own: str, ping_seconds: float, seconds: float) -> Asked:
    """Ask for all of it in at most `seconds`; the ping has `ping_seconds`. Never raises for MongoDB.

    `prefix` and `own` are those of `server_connections.read`.
    """
    began = time.monotonic()
    ends_at, ping_seconds = began + seconds, min(ping_seconds, seconds)
    ping = health.ping(client, timeout_seconds=ping_seconds)
    waited = time.monotonic() - began
    topology = health.checked_topology(client, waited=waited, timeout_seconds=ping_seconds)
    login = login_of(client)
    if not ping.is_answered:
        ping = health.explained(ping, client, seconds=max(0.01, ends_at - time.monotonic()))
        return Asked(ping, topology, login=login)
    server = health.server_label(client, timeout_seconds=max(0.01, ends_at - time.monotonic()))
    left = max(0.01, ends_at - time.monotonic())
    connections = server_connections.read(
        client, prefix=prefix, own=own, timeout_seconds=left, everywhere=True
    )
    left = max(0.01, ends_at - time.monotonic())
    return Asked(ping, topology, server, connections, login, replication.read(client, timeout_seconds=left))
