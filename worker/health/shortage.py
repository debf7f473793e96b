"""The layer of the pools: which processes are short of connections, since when, and how badly."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

from ..fleet import totals
from ..fleet.fleet import Fleet, Process
from ..server.pings import Verdict
from .layers import Layer, Since, processes

SUSTAINED_SECONDS = 10.0
"""A queue for connections, or a full pool, counts after this (MongoDB's alert levels: queue > 0 for 10 s)."""

WAIT_P99_MS = 100.0
"""A checkout that waits longer calls for action (MongoDB's alert levels: > 50 ms warn, > 100 ms act)."""

USAGE = 0.8
"""A pool that is in use above this, sustained, is nearly exhausted (MongoDB's alert levels: > 80 %)."""

TIMEOUT_SECONDS = 60.0
"""How long a timeout in the queue for connections is a reason: an operation failed for want of one."""

_SETTLED_SECONDS = 60.0

# Where in a report's histogram of waits those above 100 ms begin, and how many wait for one that is made.
_LONG_WAITS, _BEHIND_ONE = 10, 2

# A percentile of fewer checkouts is the one that had to connect first.
_ENOUGH = 20


def is_waiting(report: Mapping[str, Any]) -> bool:
    """Say whether operations wait for a connection."""
    return bool(report.get("pool", {}).get("waiting"))


def is_full(report: dict[str, Any]) -> bool:
    """Say whether the pool is nearly exhausted."""
    # A pool of one is full whenever it works.
    return bool((report.get("pool", {}).get("max") or 0) > 1 and totals.usage(report) > USAGE)


def judge(fleet: Fleet | None, since: Since) -> Layer:
    """Do operations get their connections? `since` says since when they wait and pools are nearly full."""
    # In an outage the pools have nothing to say that the circuits do not.
    closed = [p for p in fleet.present if p.report.get("circuit") == "closed"] if fleet else []
    if fleet is None or not closed:
        return Layer(Verdict.UNKNOWN)
    # A minute's times tell of the outage that has just ended, not of now.
    settled = [p for p in closed if (p.report.get("recovered") or _SETTLED_SECONDS) >= _SETTLED_SECONDS]
    found = [
        *_sustained(fleet, settled, since),
        *_measured(settled, "checkouts waited up to {:.0f} ms (p99)", _wait_p99, above=WAIT_P99_MS),
        *_starved(fleet, settled, since),
    ]
    return Layer(Verdict.DEGRADED if found else Verdict.OK, found)


def _sustained(fleet: Fleet, among: Iterable[Process], since: Since) -> list[str]:
    sentences = {
        "waiting": "operations have waited for a connection for {:.0f} s in {}",
        "full": f"more than {USAGE:.0%} of the pool in use for {{:.0f}} s in {{}}",
    }
    found = []
    for kind, sentence in sentences.items():
        began = since.get(kind, {})
        lasted = {p.member: fleet.at - began[p.member] for p in among if p.member in began}
        worst = {name: s for name, s in lasted.items() if s >= SUSTAINED_SECONDS}
        if worst:
            found.append(sentence.format(max(worst.values()), processes(worst)))
    return found


def _measured(
    among: Iterable[Process], sentence: str, measure: Callable[[dict[str, Any]], float], *, above: float
) -> list[str]:
    worst = {p.member: value for p in among if (value := measure(p.report)) > above}
    return [f"{sentence.format(max(worst.values()))} in {processes(worst)}"] if worst else []


def _wait_p99(report: dict[str, Any]) -> float:
    is_told = (report.get("wait", {}).get("n") or 0) >= _ENOUGH and not _is_of_new_connections(report)
    return totals.wait_p99(report) if is_told else 0.0


def _is_of_new_connections(report: dict[str, Any]) -> bool:
    """Say whether as few checkouts waited for long as connections that were made explain: two for each."""
    buckets: list[int] = report.get("wait_buckets") or []
    made = 60 * (report.get("rate", {}).get("created") or 0.0)
    return 0 < sum(buckets[_LONG_WAITS:]) <= _BEHIND_ONE * made


def timeouts(fleet: Fleet, before: Since, *, limit: int) -> dict[str, dict[str, float]]:
    """Return how many timeouts in the queue each process has counted by now, and when that last grew.

    Of at most `limit` processes. Without `before` nobody knows when they were.
    """
    told = ((p.member, p.report.get("count", {}).get("timeouts")) for p in fleet.present)
    counted = dict(islice(((member, float(count)) for member, count in told if count), limit))
    known = before.get("counted", counted)
    grown = {member: fleet.at for member, count in counted.items() if count > known.get(member, 0.0)}
    recent = {m: at for m, at in before.get("timeouts", {}).items() if fleet.at - at <= TIMEOUT_SECONDS}
    return {"counted": counted, "timeouts": recent | grown}


def _starved(fleet: Fleet, among: Iterable[Process], since: Since) -> list[str]:
    at = since.get("timeouts", {})
    found = [p.member for p in among if fleet.at - at.get(p.member, float("-inf")) <= TIMEOUT_SECONDS]
    return (
        [f"operations got no connection in time, in the last minute, in {processes(found)}"] if found else []
    )
