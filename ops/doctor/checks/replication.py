"""Do the secondaries keep up with the primary, and does a majority?"""

from collections.abc import Iterator

from ..facts import Facts
from ..finding import Check, Finding, Severity
from ..words import names, seconds

BEHIND_SECONDS = 10.0
"""An idle primary writes a sign of life every 10 s, and what a member has is told in whole seconds."""

_STALENESS = "maxStalenessSeconds=90 in MONGODB_URI  # keeps reads off a member that is so far behind"
_FROM_PRIMARY = ("primary", "primaryPreferred", None)


def majority_behind(facts: Facts) -> Iterator[Finding]:
    """Secondaries that are up and do not replicate: no write of w=majority is confirmed."""
    told = facts.replication or {}
    late = told.get("majority") or 0.0
    if late <= BEHIND_SECONDS:
        return
    concerns = {_option(facts, "w")} if _option(facts, "w") else set()
    yield Finding(
        "majority-behind",
        Severity.DEGRADED,
        "Writes wait for a majority of the replica set, which is behind: "
        f"{names(_late(facts)) or 'the secondaries'}.",
        (
            f"a majority has nothing newer than the primary's writes of {seconds(late)} ago",
            *_lags(facts),
            f"the write concern is w={', '.join(map(str, concerns)) or 'majority'}",
        ),
        "The members answer, and what is written on the primary does not reach enough of them. With "
        "w=majority each write waits until it does, or its task's time is over; an election may undo writes.",
        (
            "rs.status() on the primary: syncSourceHost, lastHeartbeatMessage and optimeDate of the members "
            "that are behind; their logs, disks and networks",
            "celery -A APP mongo pause  # lets messages wait in the broker meanwhile",
        ),
    )


def member_behind(facts: Facts) -> Iterator[Finding]:
    """A secondary that is seconds behind: what is read from it is as old."""
    late = _late(facts)
    if not late:
        return
    preference = _option(facts, "readPreference")
    is_read = preference not in _FROM_PRIMARY
    yield Finding(
        "member-behind",
        Severity.DEGRADED if is_read else Severity.NOTE,
        f"{names(late)} {'is' if len(late) == 1 else 'are'} behind the primary by up to "
        f"{seconds(max(late.values()))}.",
        (*_lags(facts), f"the read preference is {preference or 'primary'}"),
        "Tasks read from secondaries: they read what was so much earlier."
        if is_read
        else "Nothing reads from it. It cannot take over without losing, or waiting for, these writes.",
        (
            "rs.printSecondaryReplicationInfo() on the primary; then the member's disk, load and network",
            *([_STALENESS] if is_read else []),
        ),
    )


def _late(facts: Facts) -> dict[str, float]:
    behind: dict[str, float] = (facts.replication or {}).get("behind") or {}
    return {name: late for name, late in behind.items() if late > BEHIND_SECONDS}


def _lags(facts: Facts) -> Iterator[str]:
    behind: dict[str, float] = (facts.replication or {}).get("behind") or {}
    for name, late in sorted(behind.items(), key=lambda pair: -pair[1])[:5]:
        yield f"{name}: {seconds(late)} behind {(facts.replication or {}).get('primary')}"


def _option(facts: Facts, name: str) -> str | None:
    """Return what the processes' clients have of an option; the first that is not the primary's."""
    told = {(node.record.get("options") or {}).get(name) for node in facts.living} - {None}
    return next((str(value) for value in sorted(map(str, told), key=lambda v: v in _FROM_PRIMARY)), None)


CHECKS = (
    Check(
        "majority-behind",
        "Does a majority have what is written?",
        majority_behind,
        explains=("member-behind", "slots-busy", "backlog", "long-holds", "pool-too-small", "pool-exhausted"),
    ),
    Check("member-behind", "Do the secondaries keep up?", member_behind),
)
