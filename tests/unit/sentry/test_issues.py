"""What of the log is worth a person: titles, fingerprints, sections of the runbook, and how often."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from worker import events
from worker.events import Event, Said
from worker.sentry import deaths, issues
from worker.sentry.issues import ISSUES, issue_of
from worker.sentry.outbox import MOST, Letter, Outbox

RUNBOOK = Path(__file__).resolve().parents[3] / "docs" / "runbook.md"
DEAD = {"slot": 1, "node": "w1@h", "pid": 7, "task": {"name": "shop.sell", "id": "x", "seconds": 3.14}}
FIELDS: dict[Event, dict[str, Any]] = {
    Event.POOL_EXHAUSTED: {"count": 3, "in_use": 50, "max": 50, "tasks": ["shop.sell"]},
    Event.POOL_LEAK: {"task": "shop.sell", "what": "a session", "task_id": "x", "seconds": 1.0},
    Event.PROCESS_LOST: {"post_mortem": DEAD, "with_node": False},
    Event.NODE_LOST: {"node": "w1@h", "tasks": []},
    Event.CLIENT_REPLACED: {"why": "closed client"},
    Event.TASK_DEAD: {"task": "shop.charge", "task_id": "0b1", "reason": "poison"},
    Event.HEALTH_CHANGED: {"verdict": "degraded", "reasons": ["slow"], "layers": {"reachability": "ok"}},
    Event.CLIENT_FOREIGN: {"site": "shop/db.py:12 in connect", "is_before_fork": True},
}
TITLES = {
    Event.POOL_EXHAUSTED: "Let shop.sell hold connections for less long, or raise MONGODB_MAX_POOL_SIZE: "
    "the pool is exhausted",
    Event.POOL_LEAK: "End what task shop.sell leaves open: a session",
    Event.PROCESS_LOST: "Find what killed slot 1 of w1@h (pid 7), running shop.sell[x] for 3.1 s",
    Event.NODE_LOST: "Start w1@h again, or its host: all of its processes are lost",
    Event.CLIENT_REPLACED: "Find out why MongoDB clients had to be replaced: closed client",
    Event.TASK_DEAD: "Decide about a message of shop.charge (poison): celery -A … mongo dead show 0b1",
    Event.HEALTH_CHANGED: "See what is degraded: slow",
    Event.CLIENT_FOREIGN: "Open the MongoClient of shop/db.py:12 in connect after the fork: every child has "
    "a copy of it",
}


def said(event: Event, **fields: Any) -> Said:
    return Said(event, logging.ERROR, "text", FIELDS[event] | fields)


@pytest.mark.parametrize("event", ISSUES, ids=str)
def test_each_has_a_title_that_says_what_to_do(event: Event) -> None:
    issue = issue_of(said(event))
    assert issue is not None
    assert issue.title(FIELDS[event]) == TITLES[event]


@pytest.mark.parametrize("event", ISSUES, ids=str)
def test_what_tells_issues_apart_is_the_same_for_the_same_thing(event: Event) -> None:
    """Neither a process nor a moment nor a task's id is in a fingerprint."""
    by = ISSUES[event].by(FIELDS[event])
    assert all(isinstance(part, str) for part in by)
    assert not {"7", "x", "0b1", "3"} & set(by)


def test_every_section_is_in_the_runbook() -> None:
    text = RUNBOOK.read_text()
    anchors = {heading.strip().lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", text, re.M)}
    named = {issue.section for issue in ISSUES.values()} | {"outage", "outage-given-up", "time-limit"}
    assert named <= anchors


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (Event.CLIENT_REPLACED, {"why": "asked for"}),
        (Event.HEALTH_CHANGED, {"verdict": "ok"}),
        (Event.HEALTH_CHANGED, {"layers": {"reachability": "degraded"}}),
        (Event.PROCESS_LOST, {"with_node": True}),
    ],
)
def test_what_needs_nobody_is_not_told(event: Event, fields: dict[str, Any]) -> None:
    assert issue_of(said(event, **fields)) is None


def test_a_second_client_is_told_of_in_other_words() -> None:
    title = ISSUES[Event.CLIENT_FOREIGN].title(FIELDS[Event.CLIENT_FOREIGN] | {"is_before_fork": False})
    assert title.startswith("Use get_client() in place of the MongoClient of shop/db.py:12")


def test_what_the_log_says_of_an_outage_is_told_by_the_outage() -> None:
    assert {Event.CIRCUIT_OPENED, Event.RECONNECT_GIVEN_UP} == issues.OF_THE_OUTAGE
    assert not issues.OF_THE_OUTAGE & ISSUES.keys()


# -- how often -------------------------------------------------------------------------------------


class Leases:
    """Takes the place of the registry: a lease is granted once."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.is_away = False

    def lead(self, name: str, _seconds: float) -> bool:
        if self.is_away:
            raise RedisConnectionError("away")
        is_free = name not in self.taken
        self.taken.add(name)
        return is_free


@pytest.fixture
def leases() -> Leases:
    return Leases()


def letter(fingerprint: str = "a", every: float = 900.0) -> Letter:
    return Letter({"fingerprint": ["celery-pymongo", fingerprint]}, every)


def outbox(leases: Leases) -> tuple[Outbox, list[Any]]:
    sent: list[Any] = []
    return Outbox(cast("Any", leases), sent.append), sent


def test_a_fleet_sends_one_of_many(leases: Leases) -> None:
    boxes = [outbox(leases) for _ in range(5)]
    for box, _ in boxes:
        box.put(letter())
        box.put(letter("b"))
        box.empty(0, may_ask=True)
    assert sum(len(sent) for _, sent in boxes) == 2


def test_without_redis_each_process_sends_its_own_and_no_more(leases: Leases) -> None:
    leases.is_away = True
    box, sent = outbox(leases)
    for now in (0, 10, 899, 901):
        box.put(letter())
        box.empty(now, may_ask=True)
    assert len(sent) == 2


def test_what_has_no_limit_is_sent_each_time(leases: Leases) -> None:
    box, sent = outbox(leases)
    for _ in range(3):
        box.put(letter(every=0.0))
    box.empty(0, may_ask=True)
    assert len(sent) == 3
    assert leases.taken == set()


def test_the_oldest_goes_where_there_is_no_room(leases: Leases) -> None:
    box, sent = outbox(leases)
    for number in range(MOST + 5):
        box.put(letter(str(number)))
    box.empty(0, may_ask=False)
    assert [event["fingerprint"][1] for event in sent] == [str(number) for number in range(5, MOST + 5)]


# -- who hears it ----------------------------------------------------------------------------------


@pytest.fixture
def heard() -> Iterator[list[Said]]:
    found: list[Said] = []
    events.tell(found.append)
    yield found
    events.tell(None)


def test_what_is_said_is_heard_whatever_the_level_of_the_log(heard: list[Said]) -> None:
    logger = logging.getLogger("celery_pymongo.test")
    logger.setLevel(logging.CRITICAL)
    try:
        events.say(logger, logging.WARNING, Event.POOL_DRIFT, "%d of %s", 3, "them", n=1)
        events.say(logger, logging.INFO, Event.POOL_DRIFT, "100 %")
    finally:
        logger.setLevel(logging.NOTSET)
    assert [(one.text, one.fields) for one in heard] == [("3 of them", {"n": 1}), ("100 %", {})]


# -- Celery's own words ----------------------------------------------------------------------------


def record(
    message: str, *args: Any, error: BaseException | None = None, name: str = "celery.worker.request"
) -> Any:
    exc_info = None if error is None else (type(error), error, None)
    return logging.LogRecord(name, logging.ERROR, "x.py", 1, message, args, exc_info)


class WorkerLostError(Exception):
    """Named as billiard's."""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (record("Process %r pid:%r exited with %r", "n", 7, "signal 9", name="multiprocessing"), True),
        (record("Task handler raised error: %r", "x", error=WorkerLostError("gone")), True),
        (record("Task handler raised error: %r", "x", error=ValueError("a bug of ours")), False),
        (record("Failed: %r", "x", error=WorkerLostError("gone"), name="shop"), False),
        (record("Hard time limit (%ss) exceeded for %s[%s]", 3, "shop.sell", "x"), False),
    ],
)
def test_what_a_post_mortem_tells_is_not_told_by_celery(line: Any, expected: bool) -> None:
    assert deaths.is_duplicate(line) is expected


def test_a_hard_time_limit_is_told_with_what_the_board_has_of_the_process() -> None:
    line = record("Hard time limit (%ss) exceeded for %s[%s]", 3, "shop.sell", "x")
    assert deaths.is_time_limit(line)
    ran = SimpleNamespace(
        read=lambda: SimpleNamespace(
            work=SimpleNamespace(id="x"), pid=7, report={"circuit": "closed", "pool": {"size": 1}}
        ),
        recorder=SimpleNamespace(
            read=lambda: [{"at": 1.0, "kind": "pool.ready", "number": 0.0, "text": "db:1"}]
        ),
    )
    idle = SimpleNamespace(read=lambda: SimpleNamespace(work=None))
    board = cast("Any", SimpleNamespace(rows=[idle, ran]))
    event = deaths.of_time_limit(
        {"logentry": {}, "tags": {"celery.node": "n"}, "level": "error"}, line, board, "d"
    )
    assert event["message"] == "Split task shop.sell, or raise its time limit: it was killed after 3 s"
    assert event["fingerprint"] == ["celery-pymongo", "d", "task.time_limit", "shop.sell"]
    assert event["tags"]["celery.node"] == "n"
    assert event["contexts"]["celery_pymongo"]["slot"] == 1
    assert event["breadcrumbs"]["values"][0]["message"] == "pool.ready 0 db:1"
    assert "logentry" not in event
