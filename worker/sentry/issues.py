"""Which of the log's events are worth a person, and what Sentry is told of them. One table.

A title says what to do, a fingerprint is the same for whatever needs the same done, and `section` is
where the runbook goes on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..board import post_mortem
from ..events import Event, Said

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Issue:
    """How one event is told. `by` tells its issues apart; of one issue the fleet sends one event in `every`
    seconds, all of them where it is 0. `applies` leaves out what needs nobody; what `follows` from an outage
    is not told beside it.
    """

    section: str
    title: Callable[[Fields], str]
    level: str = "error"
    by: Callable[[Fields], tuple[str, ...]] = lambda _fields: ()
    every: float = 0.0
    applies: Callable[[Fields], bool] = lambda _fields: True
    follows: bool = False


def issue_of(said: Said) -> Issue | None:
    """Return how this is told; None for what is not worth a person."""
    issue = ISSUES.get(said.event)
    return issue if issue is not None and issue.applies(said.fields) else None


def _exhausted(fields: Fields) -> str:
    tasks = ", ".join(fields["tasks"]) or "code outside tasks"
    return (
        f"Let {tasks} hold connections for less long, or raise MONGODB_MAX_POOL_SIZE: the pool is exhausted"
    )


def _lost(fields: Fields) -> str:
    dead = fields["post_mortem"]
    who = f"slot {dead['slot']} of {dead['node']} (pid {dead['pid']})"
    return f"Find what killed {who}, {post_mortem.doing(dead['task'])}"


def _task_of_the_lost(fields: Fields) -> tuple[str, ...]:
    return ((fields["post_mortem"]["task"] or {}).get("name") or "idle",)


def _foreign(fields: Fields) -> str:
    if fields["is_before_fork"]:
        return f"Open the MongoClient of {fields['site']} after the fork: every child has a copy of it"
    return f"Use get_client() in place of the MongoClient of {fields['site']}: it doubles the connections"


def _dead(fields: Fields) -> str:
    command = f"celery -A … mongo dead show {fields['task_id']}"
    return f"Decide about a message of {fields['task']} ({fields['reason']}): {command}"


def _is_degraded(fields: Fields) -> bool:
    # That MongoDB cannot be reached is told as an outage.
    return bool(fields["verdict"] == "degraded" and fields["layers"].get("reachability") == "ok")


QUARTER_HOUR, HOUR = 900.0, 3600.0

ISSUES: dict[Event, Issue] = {
    Event.POOL_EXHAUSTED: Issue("pool-exhausted", _exhausted, every=QUARTER_HOUR, follows=True),
    Event.POOL_LEAK: Issue(
        "leak",
        lambda told: f"End what task {told['task']} leaves open: {told['what']}",
        by=lambda told: (told["task"], told["what"]),
        every=QUARTER_HOUR,
    ),
    Event.PROCESS_LOST: Issue(
        "process-lost", _lost, by=_task_of_the_lost, applies=lambda told: not told.get("with_node")
    ),
    Event.NODE_LOST: Issue(
        "node-lost",
        lambda told: f"Start {told['node']} again, or its host: all of its processes are lost",
        by=lambda told: (told["node"],),
    ),
    Event.CLIENT_REPLACED: Issue(
        "client-replaced",
        lambda told: f"Find out why MongoDB clients had to be replaced: {told['why']}",
        level="warning",
        by=lambda told: (told["why"],),
        every=QUARTER_HOUR,
        applies=lambda told: told["why"] != "asked for",
        follows=True,
    ),
    Event.TASK_DEAD: Issue("dead-letter", _dead, by=lambda told: (told["task"], told["reason"])),
    Event.HEALTH_CHANGED: Issue(
        "degraded",
        lambda told: f"See what is degraded: {'; '.join(told['reasons'])}",
        level="warning",
        every=QUARTER_HOUR,
        applies=_is_degraded,
        follows=True,
    ),
    Event.CLIENT_FOREIGN: Issue(
        "foreign-client", _foreign, level="warning", by=lambda told: (told["site"],), every=HOUR
    ),
}

# Each process says these of itself; the outage's own events say them once for all.
OF_THE_OUTAGE = frozenset([Event.CIRCUIT_OPENED, Event.RECONNECT_GIVEN_UP])
