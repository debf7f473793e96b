"""Which replica set a server says that it is of, where the client was told another name.

The driver then takes the server for none of its own, and forgets what it said: its error has the client's
name of the set alone. The heartbeat has the server's.
"""

from typing import Any

from pymongo import monitoring

from ..mongo.holder import Client

# Of a client's seeds; more would be a wrong list, too.
_MOST = 10


class SetNames(monitoring.ServerHeartbeatListener):
    """Remembers the name of the set by server, as heartbeats say it. For one client."""

    def __init__(self) -> None:
        self.by_server: dict[str, str] = {}

    def started(self, event: monitoring.ServerHeartbeatStartedEvent) -> None:
        """Nothing is known yet."""

    def succeeded(self, event: monitoring.ServerHeartbeatSucceededEvent) -> None:
        """Note the name."""
        name, (host, port) = event.reply.replica_set_name, event.connection_id
        if name and len(self.by_server) < _MOST:
            self.by_server[f"{host}:{port}"] = name

    def failed(self, event: monitoring.ServerHeartbeatFailedEvent) -> None:
        """What it said before still holds."""


def mistake(client: Client) -> str | None:
    """Return that a server is of another set than the client was told; None where none said so."""
    wanted: Any = client.options.replica_set_name
    known = [each for each in client.options.event_listeners if isinstance(each, SetNames)]
    others = {
        server: name
        for each in known
        for server, name in list(each.by_server.items())
        if wanted and name != wanted
    }
    for server, name in sorted(others.items()):
        return f"{server}: the replica set is named '{name}', and the settings say '{wanted}'"
    return None
