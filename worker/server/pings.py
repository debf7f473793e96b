"""One ping under a deadline, and what it tells."""

import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import pymongo
from pymongo.errors import PyMongoError
from pymongo.topology_description import TOPOLOGY_TYPE

from ..mongo.classify import ErrorClass, classify
from ..mongo.holder import Client
from ..mongo.reasons import reason
from . import set_names, tls


class Verdict(StrEnum):
    """What a check concludes; the worst of several wins."""

    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"


_POLL_SECONDS = 0.02

_VERDICTS = {
    ErrorClass.OVERLOAD: Verdict.DEGRADED,
    ErrorClass.EXHAUSTED: Verdict.DEGRADED,
    ErrorClass.FAILOVER: Verdict.DEGRADED,
    ErrorClass.DEADLINE: Verdict.DEGRADED,
    ErrorClass.FOREIGN: Verdict.UNKNOWN,
}


@dataclass(frozen=True)
class Ping:
    """The outcome of a ping: round trip in milliseconds, or the class and text of the error."""

    verdict: Verdict
    latency_ms: float | None
    error_class: ErrorClass | None = None
    error: str | None = None

    @property
    def is_answered(self) -> bool:
        """True where the server answered within the deadline and refused nothing."""
        return self.verdict is Verdict.OK

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def ping(client: Client, *, timeout_seconds: float) -> Ping:
    """Ping the server; selection, checkout and round trip together may take `timeout_seconds`.

    An answer that took longer is one of a server that is too slow. Never raises for what MongoDB or the
    network does.
    """
    started = time.monotonic()
    try:
        with pymongo.timeout(timeout_seconds + _believed_round_trip(client)):
            client.admin.command("ping")
    except (PyMongoError, OSError) as error:
        return failed(error)
    seconds = time.monotonic() - started
    if seconds > timeout_seconds:
        return Ping(Verdict.DEGRADED, None, ErrorClass.DEADLINE, f"answered after {seconds:.1f} s")
    return Ping(Verdict.OK, round(seconds * 1000, 2))


def failed(error: BaseException) -> Ping:
    """Return what an error says of the server, in the place of an answer."""
    error_class = classify(error)
    return Ping(_VERDICTS.get(error_class, Verdict.DOWN), None, error_class, reason(error))


def explained(result: Ping, client: Client, *, seconds: float = tls.SECONDS) -> Ping:
    """Return a ping that failed as the mistake in the settings that it is, if it is one: the name of the
    replica set, or one of TLS; see `tls.mistake`.
    """
    if result.error_class not in (ErrorClass.OUTAGE, ErrorClass.CONFIG):
        return result
    found = set_names.mistake(client) or tls.mistake(client, seconds=min(seconds, tls.SECONDS))
    return result if found is None else Ping(Verdict.DOWN, None, ErrorClass.CONFIG, found)


def _believed_round_trip(client: Client) -> float:
    """Return the round trip in seconds that PyMongo reckons with, of the slowest server.

    It refuses at once what has less time left than that. After a hang that is the hang's, and stays so until
    a heartbeat or two later: 4 s by default, in which a server that answers would seem to be away.
    """
    servers = client.topology_description.server_descriptions().values()
    return max((server.min_round_trip_time or 0.0 for server in servers), default=0.0)


def warm(client: Client, database: str, *, timeout_seconds: float) -> None:
    """Read once, from a collection that need not exist and with nothing to find. Never raises.

    A process's first find costs it twice what the next ones do: it copies memory that it shares with its
    parent, and runs code that a ping does not.
    """
    with suppress(PyMongoError, OSError), pymongo.timeout(timeout_seconds):
        client[database]["celery_pymongo.warm"].find_one({"_id": 0})


def topology(client: Client | None) -> dict[str, Any]:
    """Return what the driver knows of the deployment now: type, primary, members, and why it does not know
    more of some (`errors`). No I/O. One that is Unknown and has no error was not checked yet.
    """
    if client is None:
        return {"type": "Unknown", "primary": None, "members": {}, "errors": {}}
    description = client.topology_description
    servers = description.server_descriptions()
    primary = next((a for a, s in servers.items() if s.is_writable), None)
    return {
        "type": TOPOLOGY_TYPE._fields[description.topology_type],
        "primary": host_and_port(primary) if primary else None,
        "members": {host_and_port(address): server.server_type_name for address, server in servers.items()},
        "errors": {
            host_and_port(a): _without(host_and_port(a), server.error)
            for a, server in servers.items()
            if server.error
        },
    }


def cluster(client: Client | None) -> str | None:
    """Return which replica set a client uses, as `name/host:port,…` by the set's own words, whatever the URI
    calls its members. No I/O. None where it is unknown, or no set.
    """
    servers = client.topology_description.server_descriptions().values() if client else ()
    known = sorted(
        f"{server.replica_set_name}/{','.join(sorted(map(host_and_port, server.all_hosts)))}"
        for server in servers
        if server.replica_set_name and server.all_hosts
    )
    # What is cut off in a host's name would make two of one.
    return known[0] if known and len(known[0]) <= _LONGEST_CLUSTER else None


_LONGEST_CLUSTER = 300


def _without(host: str, error: BaseException) -> str:
    # It is told beside the host's name.
    return reason(error).replace(f"{host}: ", "")


def checked_topology(client: Client, *, waited: float, timeout_seconds: float) -> dict[str, Any]:
    """Return `topology`, once each member was checked. The driver uses a primary before it knows the rest.

    Of one that does not answer by the timeout, of which `waited` seconds are over, that is the error.
    """
    ends_at = time.monotonic() + timeout_seconds - waited
    while (unchecked := _unchecked(found := topology(client))) and time.monotonic() < ends_at:
        time.sleep(_POLL_SECONDS)
    why = f"no answer within {timeout_seconds:g} s"
    return found | {"errors": found["errors"] | dict.fromkeys(unchecked, why)}


def _unchecked(found: dict[str, Any]) -> list[str]:
    unknown = [host for host, kind in found["members"].items() if kind == "Unknown"]
    return [host for host in unknown if host not in found["errors"]]


def server_label(client: Client, *, timeout_seconds: float) -> str | None:
    """Return which server answers and its version, e.g. 'MongoDB 8.0.4'; None where it does not say.

    Servers that speak MongoDB's wire protocol but are not MongoDB say so in `buildInfo`.
    """
    try:
        with pymongo.timeout(timeout_seconds):
            info = client.admin.command("buildInfo")
    except (PyMongoError, OSError):
        return None
    if "secantusVersion" in info:
        return f"SecantusDB {info['secantusVersion']} (speaks MongoDB {info.get('version')}; not mongod)"
    if "ferretdb" in info:
        return (
            f"FerretDB {info['ferretdb'].get('version')} (speaks MongoDB {info.get('version')}; not mongod)"
        )
    return f"MongoDB {info.get('version')}"


def server_connections(client: Client, *, at: Any = None) -> dict[str, int] | None:
    """Return serverStatus.connections (current, available, totalCreated), as far as it is known; `at` is a
    read preference. Under the deadline of whoever asks.

    None where the user may not ask (it takes clusterMonitor): unknown is not an error. A zero for
    `available` is what some servers say that do not know, so it is left out.
    """
    try:
        status = client.admin.command("serverStatus", read_preference=at)
    except (PyMongoError, OSError):
        return None
    connections = status.get("connections", {})
    names = {"current": "current", "available": "available", "totalCreated": "total_created"}
    return {
        ours: int(connections[theirs]) for theirs, ours in names.items() if connections.get(theirs)
    } or None


def host_and_port(address: tuple[str, int | None]) -> str:
    """Return an address of the driver's as text."""
    host, port = address
    # A name that is yet to be looked up, as of mongodb+srv, has none, and neither has a socket's file.
    return host if port is None else f"{host}:{port}"
