"""Does a silent process live? Asked of this host's kernel, or of its node's MAIN."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..board import process_identity
from ..broker import kind
from ..fleet.fleet import STALE_SECONDS, node_of, silence_of
from ..store import records

if TYPE_CHECKING:
    from celery import Celery

    from ..fleet.registry import Reading, Seen

NODES_ASKED = 5
"""How many nodes are asked in one run, all at once."""

ASK_SECONDS = 1.0
"""How long they may take to answer."""

Rows = Mapping[str, Iterable[Mapping[str, Any]]]


def inquire(
    reading: "Reading",
    ask: Callable[[list[str]], Rows],
    *,
    here: str,
    lives: Callable[[int, int | None], bool] = process_identity.is_alive,
) -> Callable[["Seen"], bool | None]:
    """Return a function that tells of a silent process whether it lives, or None where nobody can tell.

    `here` names this host; `ask` returns the rows of the boards of these nodes, and is called only if
    processes of other hosts are silent: at most once, for a few nodes.
    """
    silent = [seen for seen in reading.processes if silence_of(reading, seen) > STALE_SECONDS]
    elsewhere = sorted({node_of(seen.member) for seen in silent if seen.report.get("host") != here})
    rows = ask(elsewhere[:NODES_ASKED]) if elsewhere else {}

    def is_alive(seen: "Seen") -> bool | None:
        report = seen.report
        if report.get("host") == here:
            return lives(report["pid"], report.get("born"))
        return _by_row(report, rows.get(node_of(seen.member), ()))

    return is_alive


def _by_row(report: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> bool | None:
    row = next((row for row in rows if row.get("slot") == report.get("slot")), None)
    if row is None:
        return None
    return row.get("pid") == report.get("pid") and bool(row.get("alive"))


def ask_mains(app: "Celery", nodes: Sequence[str]) -> Rows:
    """Ask these nodes' MAINs for the rows of their boards, which they read from memory.

    Raises what the broker raises.
    """
    replies = ask(app, "mongo_pools", nodes, seconds=ASK_SECONDS)
    # Without a board, or of another version, a node answers with an error and no slots.
    return {node: told.get("slots", ()) for node, told in replies.items()}


def ask(
    app: "Celery",
    command: str,
    nodes: Sequence[str],
    *,
    seconds: float,
    arguments: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what these nodes' MAINs answer to a command of remote control, within `seconds`, by node.

    It ends as soon as all have. Raises what the broker raises; over Redis each of its answers is waited for
    as long as theirs.
    """
    # Redis' transport alone knows these; the other connections of an app may wait for ever.
    is_redis = kind.kind(app) == kind.REDIS
    timeouts = {"socket_timeout": seconds, "socket_connect_timeout": seconds} if is_redis else {}
    with app.connection_for_write(transport_options=timeouts, connect_timeout=seconds) as connection:
        replies = app.control.broadcast(
            command,
            arguments=dict(arguments or {}),
            destination=list(nodes),
            reply=True,
            timeout=seconds,
            connection=connection,
        )
    found = (
        (node, told) for reply in replies or [] if isinstance(reply, dict) for node, told in reply.items()
    )
    return {str(node): records.answer(command, told) for node, told in found}
