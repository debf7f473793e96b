"""What this PyMongo does not have of the private names that are read: what goes unseen, in words.

The pool's gauges say it themselves, see `Event.POOL_DRIFT`.
"""

from typing import Any

from pymongo import MongoClient
from pymongo.synchronous.monitor import Monitor
from pymongo.synchronous.topology import Topology

_OF_A_HANG = ((Topology, "_create_pool_for_monitor"), (Topology, "on_change"), (Monitor, "cancel_check"))


def lacking(client: Any) -> list[str]:
    """Return what cannot be seen, or done, beside this client; nothing where all is there."""
    found = []
    if not hasattr(MongoClient, "_clients") or not {"_opened", "_closed"} <= vars(client).keys():
        found.append("other clients of the process, before a fork or beside ours, are not seen")
    if not all(hasattr(kind, name) for kind, name in _OF_A_HANG):
        found.append("a server that hangs is given up by the driver alone, after its own limits")
    return found


def looks_up_when_made() -> bool:
    """Say whether making a client of a mongodb+srv URI asks the DNS, as it does before PyMongo 4.12."""
    return not hasattr(MongoClient, "_resolve_srv")
