"""Who is connected to MongoDB, as each member counts: by application name, where it may be asked."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pymongo
from pymongo import ReadPreference
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_preferences import Nearest
from pymongo.server_selectors import Selection

from ..mongo.holder import Client
from . import pings

MONITORING_SOCKETS = 2
"""Sockets beside the pool that a client holds to each member: its monitor's and the round-trip timer's."""

NOT_PERMITTED = "not permitted"
NOT_ASKED = "not asked"
ONE_MONGOS = "one of the mongos"

_UNAUTHORIZED = 13
# An arbiter lets nobody log in, and what is in no set does not know its users.
_ASKED = ("RSPrimary", "RSSecondary", "RSOther", "Standalone", "LoadBalancer")

_Counts = Counter[str]


@dataclass(frozen=True)
class Counted:
    """What one member says of its connections; None is unknown.

    `by_appname` counts those whose application name begins as ours do, `others` those with another name or
    none. `source` is the command that told both, or "not permitted".
    """

    current: int | None = None
    available: int | None = None
    total_created: int | None = None
    source: str | None = None
    by_appname: dict[str, int] | None = None
    others: int | None = None

    @property
    def limit(self) -> int | None:
        """How many connections it takes; None where it does not say."""
        return self.current + self.available if self.current and self.available else None

    @property
    def share(self) -> float:
        """How much of what it takes is in use, 0.0 to 1.0; 0.0 where it does not say."""
        return (self.current or 0) / self.limit if self.limit else 0.0

    @property
    def why_unknown(self) -> str | None:
        """Why nothing is known of it; None where something is."""
        if self.current is not None or self.by_appname is not None:
            return None
        return self.source or "no answer, or it does not say"


@dataclass(frozen=True)
class Connections:
    """What the members say of their connections, by member, and why nothing is known of the others.

    `own` is the application name of whoever asked.
    """

    members: Mapping[str, Counted] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    own: str | None = None

    @cached_property
    def fullest(self) -> tuple[str | None, Counted]:
        """The name of the member with the least room left, and what it says: a limit is one member's."""
        found = sorted(self.members.items(), key=lambda member: (member[1].share, member[1].current or 0))
        return found[-1] if found else (None, Counted())

    @cached_property
    def by_appname(self) -> dict[str, int] | None:
        """Connections by application name, to all members that tell together; None where none does."""
        told = [member.by_appname for member in self.members.values() if member.by_appname is not None]
        return dict(sum(map(Counter, told), Counter())) if told else None

    @property
    def others(self) -> int | None:
        """Connections of others, to all members that tell together; None where none does."""
        told = [member.others for member in self.members.values() if member.others is not None]
        return sum(told) if told else None


def read(
    client: Client, *, prefix: str, own: str, timeout_seconds: float, everywhere: bool = False
) -> Connections:
    """Ask the primary, or `everywhere` each member that can be asked, all questions within the timeout.

    A secondary that is asked costs this client a connection to it. Never raises for what MongoDB does.
    `prefix` begins our application names and `own` is this client's. What the user may not ask (it takes
    clusterMonitor) and what a member does not say is unknown.
    """
    ends_at = time.monotonic() + timeout_seconds
    topology = pings.topology(client)
    if not everywhere or topology["type"] == "Sharded":
        found = _counted(client, ReadPreference.PRIMARY, prefix=prefix, own=own, seconds=timeout_seconds)
        return _of_one(found, pings.topology(client), own)
    kinds, errors = topology["members"], topology["errors"]
    asked = [name for name in kinds if kinds[name] in _ASKED]
    asked.sort(key=lambda name: (name != topology["primary"], name))
    members = {}
    for number, name in enumerate(asked):
        # One that hangs leaves those that come after it their share of the time.
        seconds = max(0.01, ends_at - time.monotonic()) / (len(asked) - number)
        members[name] = _counted(client, Member(name), prefix=prefix, own=own, seconds=seconds)
    unknown = {name: errors.get(name, kinds[name]) for name in sorted(kinds) if name not in members}
    return Connections(members, unknown, own)


def _of_one(found: Counted, topology: dict[str, Any], own: str) -> Connections:
    """Return what one member says: the primary, or one of the mongos, as the driver chose."""
    names = list(topology["members"])
    if topology["type"] == "Sharded" and len(names) > 1:
        return Connections({ONE_MONGOS: found}, {}, own)
    primary = topology["primary"] or next(iter(names), "")
    return Connections({primary: found}, {name: NOT_ASKED for name in sorted(names) if name != primary}, own)


class Member(Nearest):
    """The read preference for one member, `host:port`, whichever it is."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __call__(self, selection: Selection) -> Selection:
        """Return the one member, where the driver knows it."""
        servers = selection.server_descriptions
        return selection.with_server_descriptions(
            [server for server in servers if pings.host_and_port(server.address) == self._name]
        )


def _counted(client: Client, at: Any, *, prefix: str, own: str, seconds: float) -> Counted:
    with pymongo.timeout(seconds):
        numbers = pings.server_connections(client, at=at) or {}
        source, counts = _first_that_tells(client, at, own)
    known = Counted(
        current=numbers.get("current"),
        available=numbers.get("available"),
        total_created=numbers.get("total_created"),
        source=source,
    )
    if counts is None:
        return known
    ours = {name: count for name, count in counts.items() if name.startswith(prefix)}
    return replace(known, by_appname=ours, others=counts.total() - sum(ours.values()))


def _first_that_tells(client: Client, at: Any, own: str) -> tuple[str | None, _Counts | None]:
    is_refused = False
    for source, ask in _SOURCES.items():
        try:
            counts = ask(client, at)
        except OperationFailure as error:
            is_refused = is_refused or error.code == _UNAUTHORIZED
        except (PyMongoError, OSError):
            break
        else:
            # This very client is connected: a server that does not list it does not list everybody.
            if own in counts:
                return source, counts
    return (NOT_PERMITTED if is_refused else None), None


def _aggregated(client: Client, at: Any) -> _Counts:
    # Without localOps a mongos tells of its shards' connections and not of its own.
    is_sharded = client.topology_description.topology_type_name == "Sharded"
    stage = {"allUsers": True, "idleConnections": True} | ({"localOps": True} if is_sharded else {})
    pipeline: list[dict[str, Any]] = [
        {"$currentOp": stage},
        {"$match": {"connectionId": {"$exists": True}}},
        {"$group": {"_id": {"$ifNull": ["$appName", "$clientMetadata.application.name"]}, "n": {"$sum": 1}}},
    ]
    admin = client.get_database("admin", read_preference=at)
    with admin.aggregate(pipeline) as rows:
        return Counter({str(row["_id"] or ""): int(row["n"]) for row in rows})


def _listed(client: Client, at: Any) -> _Counts:
    reply = client.admin.command({"currentOp": 1, "$all": True}, read_preference=at)
    return Counter(_appname(row) for row in reply["inprog"] if "connectionId" in row)


def _appname(row: dict[str, Any]) -> str:
    metadata = row.get("clientMetadata") or {}
    return str(row.get("appName") or metadata.get("application", {}).get("name") or "")


_SOURCES: dict[str, Callable[[Client, Any], _Counts]] = {"$currentOp": _aggregated, "currentOp": _listed}
