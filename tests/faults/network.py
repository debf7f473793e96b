"""The network of MongoDB: a route to each server, for its clients and for the other members."""

from __future__ import annotations

from ops.local.replica_set import ReplicaSet
from ops.local.servers import LocalServer
from tests.faults.proxy import FaultProxy
from tests.faults.route import Route


class Network:
    """Made before the servers start, since the members of a replica set know each other by their routes.

    What it does it does to every route, and takes back by `clear`.
    """

    def __init__(self, proxy: FaultProxy, mongo: LocalServer | ReplicaSet) -> None:
        self._routes: dict[LocalServer, Route] = {}
        if isinstance(mongo, ReplicaSet):
            self._routes = {member: proxy.route(member.uri) for member in mongo.members}
            mongo.hosts = [f"127.0.0.1:{route.port}" for route in self._routes.values()]
            self.uri = mongo.uri
        else:
            self._routes = {mongo: proxy.route(mongo.uri)}
            self.uri = self._routes[mongo].uri

    def refuse(self) -> None:
        """Take no new connection: nobody listens. Those that are open stay."""
        for route in self._routes.values():
            route.refuse()

    def reset(self) -> None:
        """End every open connection by RST."""
        for route in self._routes.values():
            route.reset()

    def blackhole(self) -> None:
        """Deliver nothing until `clear`."""
        for route in self._routes.values():
            route.blackhole()

    def half_open(self) -> None:
        """Let requests pass and hold their replies."""
        for route in self._routes.values():
            route.half_open()

    def isolate(self, pid: int) -> None:
        """Reset the connections of one client process, now and whenever it comes again."""
        for route in self._routes.values():
            route.isolate(pid)

    def partition(self, member: LocalServer, *, silently: bool = False) -> None:
        """Reset, or silently drop, what a member and the others send to each other; clients reach all."""
        others = [other for other in self._routes if other is not member]
        for other in others:
            self._routes[other].isolate(member.pid, silently=silently)
        self._routes[member].isolate(*(other.pid for other in others), silently=silently)

    def clear(self) -> None:
        """Take all faults back."""
        for route in self._routes.values():
            route.clear()
