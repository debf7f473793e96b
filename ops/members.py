"""The members of MongoDB as `status` and `snapshot` tell of them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLUMNS = {
    "size": "SIZE",
    "in_use": "IN USE",
    "waiting": "WAITING",
    "reported": "BY REPORTS",
    "counted": "AT SERVER",
    "strays": "STRAYS",
    "others": "OTHERS",
    "current": "USED",
    "available": "AVAILABLE",
}


def why_unseen(servers: Mapping[str, Any]) -> str | None:
    """Return why the count of no member is known; None where one is."""
    unknown = [row["why"] for row in servers.values() if row["why"]]
    return unknown[0] if unknown and len(unknown) == len(servers) else None


def table(servers: Mapping[str, Any]) -> "RenderableType":
    """Return a row for each member: what the processes have open to it, and what it counts itself."""
    from rich.console import Group

    from . import tables

    rows = [(name, *(row[column] for column in _COLUMNS)) for name, row in servers.items()]
    made = tables.table(("MEMBER", *_COLUMNS.values()), rows, spare=("WAITING", "IN USE", "SIZE", "STRAYS"))
    why = [f"{name}: {row['why']}" for name, row in servers.items() if row["why"]]
    return Group(made, tables.bullets(why)) if why else made
