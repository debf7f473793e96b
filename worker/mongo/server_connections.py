"""Who is connected to the server, as the server counts: by application name, where it may be asked."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pymongo
from pymongo import ReadPreference
from pymongo.errors import OperationFailure, PyMongoError

from . import health
from .holder import Client

MONITORING_SOCKETS = 2
"""Sockets beside the pool that a client holds to each member: its monitor's and the round-trip timer's."""

NOT_PERMITTED = "not permitted"
_UNAUTHORIZED = 13

_Counts = Counter[str]


@dataclass(frozen=True)
class Connections:
    """What the server says of its connections; None is unknown.

    `by_appname` counts those whose application name begins as ours do, `others` those with another name or
    none. `source` is the command that told both, or "not permitted".
    """

    current: int | None = None
    available: int | None = None
    total_created: int | None = None
    source: str | None = None
    by_appname: dict[str, int] | None = None
    others: int | None = None


def read(client: Client, *, prefix: str, own: str, timeout_seconds: float) -> Connections:
    """Ask the server, all questions within the timeout. Never raises for what MongoDB does.

    `prefix` begins our application names and `own` is this client's. What the user may not ask (it takes
    clusterMonitor) and what the server does not tell is unknown.
    """
    with pymongo.timeout(timeout_seconds):
        numbers = health.server_connections(client, timeout_seconds=timeout_seconds) or {}
        source, counts = _first_that_tells(client, own)
    known = Connections(
        current=numbers.get("current"),
        available=numbers.get("available"),
        total_created=numbers.get("total_created"),
        source=source,
    )
    if counts is None:
        return known
    ours = {name: count for name, count in counts.items() if name.startswith(prefix)}
    return replace(known, by_appname=ours, others=counts.total() - sum(ours.values()))


def _first_that_tells(client: Client, own: str) -> tuple[str | None, _Counts | None]:
    is_refused = False
    for source, ask in _SOURCES.items():
        try:
            counts = ask(client)
        except OperationFailure as error:
            is_refused = is_refused or error.code == _UNAUTHORIZED
        except (PyMongoError, OSError):
            break
        else:
            # This very client is connected: a server that does not list it does not list everybody.
            if own in counts:
                return source, counts
    return (NOT_PERMITTED if is_refused else None), None


def _aggregated(client: Client) -> _Counts:
    # Without localOps a mongos tells of its shards' connections and not of its own.
    is_sharded = client.topology_description.topology_type_name == "Sharded"
    stage = {"allUsers": True, "idleConnections": True} | ({"localOps": True} if is_sharded else {})
    pipeline: list[dict[str, Any]] = [
        {"$currentOp": stage},
        {"$match": {"connectionId": {"$exists": True}}},
        {"$group": {"_id": {"$ifNull": ["$appName", "$clientMetadata.application.name"]}, "n": {"$sum": 1}}},
    ]
    admin = client.get_database("admin", read_preference=ReadPreference.PRIMARY)
    with admin.aggregate(pipeline) as rows:
        return Counter({str(row["_id"] or ""): int(row["n"]) for row in rows})


def _listed(client: Client) -> _Counts:
    reply = client.admin.command({"currentOp": 1, "$all": True})
    return Counter(_appname(row) for row in reply["inprog"] if "connectionId" in row)


def _appname(row: dict[str, Any]) -> str:
    metadata = row.get("clientMetadata") or {}
    return str(row.get("appName") or metadata.get("application", {}).get("name") or "")


_SOURCES: dict[str, Callable[[Client], _Counts]] = {"$currentOp": _aggregated, "currentOp": _listed}
