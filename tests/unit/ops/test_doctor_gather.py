"""Gathering: everybody is asked at once, and what does not answer is unseen with its reason."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ops.deadline import Deadline
from ops.doctor.gather import gather
from ops.doctor.judging import diagnose
from tests.unit import told_errors
from tests.unit.doctor_facts import RECORD, REDIS
from tests.unit.fleet_reports import NOW, fleet, node
from worker.broker.queues import Queue, Waiting
from worker.fleet.beat_pulse import Pulse
from worker.mongo.classify import ErrorClass
from worker.server.connections import Connections, Counted
from worker.server.info import Asked
from worker.server.members import MemberProblem
from worker.server.pings import Ping, Verdict
from worker.settings.fields import load_settings
from worker.store.records import Read, Unreadable

TOPOLOGY = {"type": "Single", "primary": "m:1", "members": {"m:1": "Standalone"}}
CONF = SimpleNamespace(broker_url="redis://user:s3cret@b:6379/1")
APPNAME, OWN = "celery-pymongo/default/w1@h/0/1", "celery-pymongo/default/h/0/7"


class View:
    """Answers as the real one does; `broken` makes a source raise, or wait for ever."""

    def __init__(self, **broken: BaseException | None) -> None:
        self._broken = broken
        self.asked: list[str] = []
        self.hang = threading.Event()
        self.processes = node(slots=2, at=NOW - 0.5, kind="prefork", appname=APPNAME)
        self.queues = {"celery": Queue(0, None), "mongo.health": Queue(0, None)}
        self.unreadable_records = [Unreadable("a process's report", "cp:report:w1@h/0")]
        self.ping = Ping(Verdict.OK, 1.0)
        self.others: dict[str, Any] = {}
        self.mains: set[str] = set()
        self.refused: Asked | None = None
        self.problems: list[MemberProblem] = []
        self.broker = "redis"

    def _answer(self, name: str, value: Any) -> Any:
        self.asked.append(name)
        if name in self._broken:
            error = self._broken[name]
            if error is None:
                self.hang.wait(5)
                return None
            raise error
        return value

    def look(self) -> Any:
        return self._answer(
            "look",
            SimpleNamespace(
                buried=[],
                before={"lasting": {"missing": {"w1@h/1": 5.0}}, "arrived_at": NOW - 4},
                unreadable=self.unreadable_records,
                refusal=None,
                pulse=None,
            ),
        )

    def assess(self, _sight: Any) -> Any:
        return self._answer("assess", fleet(*self.processes))

    def records(self, names: list[str]) -> Any:
        return self._answer("records", Read(dict.fromkeys(names, RECORD)))

    def waiting(self, _fleet: Any, *, bound: bool = False) -> Any:
        return self._answer("waiting" if bound else "named queues", Waiting(self.queues, 0))

    def survey(self, **_seen: Any) -> dict[str, Any]:
        return {"verdict": "ok", "reasons": []}

    def ask(self, command: str, *, nodes: Any, seconds: float) -> Any:
        if command == "ping":
            return {name: {"ok": "pong"} for name in nodes if name in self.mains}
        assert (command, tuple(nodes)) == ("active_queues", ())
        return self._answer("ask", self.others)

    def beats(self) -> Any:
        return self._answer("beats", Read([Pulse(1.0, "h", 7, "Scheduler", 300.0)]))

    def unreadable(self, _nodes: list[str]) -> Any:
        return self._answer("unreadable", (Unreadable("a dead letter", "cp:dead-letter:7"),))

    def redis(self) -> Any:
        return self._answer("redis", REDIS)

    def last_counts(self) -> Any:
        return {}

    def queues_of_others(self) -> Any:
        return {}

    def dead_letters(self) -> Any:
        return self._answer("dead_letters", 2)

    def collections(self, _seconds: float) -> Any:
        return self._answer("collections", {"refused": [], "without_ttl": {}})

    def member_problems(self, asked: Asked, _fleet: Any) -> list[MemberProblem]:
        assert asked.topology == TOPOLOGY
        return self.problems

    def mongodb(self, _seconds: float) -> Any:
        by_name = {APPNAME: 4, "celery-pymongo/default/x/0/2": 1, OWN: 3}
        counted = Connections({"m:1": Counted(10, 90, 100, "$currentOp", by_name, 5)}, own=OWN)
        answered = self.ping.verdict is Verdict.OK
        usual = Asked(self.ping, TOPOLOGY, "MongoDB 8", counted if answered else None)
        return self._answer("mongodb", self.refused or usual)


def gathered(view: View, seconds: float = 5.0) -> Any:
    settings = load_settings({}, env_file=None)
    known = {"settings": settings, "redis_settings": settings}
    mongo = told_errors.mongo(view=view, **known, has_redis=True, is_redis_the_broker=True)
    try:
        return gather(SimpleNamespace(mongo=mongo, conf=CONF), Deadline(seconds))
    finally:
        view.hang.set()


def test_what_is_told_becomes_facts() -> None:
    found = gathered(View())
    assert (found.at, found.deployment, found.dead_letters) == (NOW, "default", 2)
    assert found.members == ()
    assert found.redis_places == {"registry": "localhost:6379/0", "broker": "b:6379/1"}
    assert [process.member for process in found.present] == ["w1@h/0", "w1@h/1"]
    assert found.present[0].record == RECORD
    assert found.queues["celery"].consumers == ("w1@h",)
    assert found.beats[0].age == 300.0
    assert found.lasting == {"missing": {"w1@h/1": 5.0}}
    assert (found.server["limit"], found.server["counted"], found.server["strays"]) == (100, 4, 1)
    assert found.unseen == {"limit": "the server does not say"}
    assert found.unreadable == {
        "a dead letter": ("cp:dead-letter:7",),
        "a process's report": ("cp:report:w1@h/0",),
    }
    assert [one.id for one in diagnose(found).findings] == ["records-unreadable", "dead-letters"]


def test_what_is_wrong_with_members_is_found_by_the_rule_that_status_has() -> None:
    view = View()
    view.problems = [MemberProblem("member-away", Verdict.DEGRADED, "1 of 2 cannot be used", "m:2 (refused)")]
    found = diagnose(gathered(view)).findings[0]
    assert (found.id, found.severity, found.title) == ("member-away", "degraded", "1 of 2 cannot be used.")
    assert found.evidence == ("m:2 (refused)",)


@pytest.mark.parametrize(
    ("source", "unseen"),
    [
        ("look", {"nodes", "queues", "post_mortems"}),
        ("assess", {"nodes", "queues"}),
        ("waiting", {"queues"}),
        ("beats", {"beats"}),
        ("redis", {"redis"}),
        ("dead_letters", {"dead_letters"}),
        ("collections", {"indexes"}),
        ("mongodb", {"ping", "server", "indexes"}),
    ],
)
@pytest.mark.parametrize("error", [ConnectionError("secret-host:1"), OSError("no route")])
def test_what_fails_is_unseen_and_all_else_is_seen(source: str, unseen: set[str], error: Exception) -> None:
    found = gathered(View(**{source: error}))
    assert set(found.unseen) - {"limit"} == unseen
    assert {found.unseen[name] for name in unseen} == {type(error).__name__}
    assert all(getattr(found, name) is None for name in unseen)


def test_whoever_hangs_costs_the_deadline_once_and_nothing_else() -> None:
    started = time.monotonic()
    found = gathered(View(look=None, mongodb=None, redis=None), seconds=0.4)
    assert time.monotonic() - started < 4
    assert found.unseen["nodes"] == found.unseen["ping"] == found.unseen["redis"] == "no answer within 0.4 s"
    assert found.beats is not None


def test_a_server_that_does_not_answer_a_ping_is_asked_nothing_else() -> None:
    view = View()
    view.ping = Ping(
        Verdict.DOWN, None, ErrorClass.OUTAGE, "ServerSelectionTimeoutError: m:1 (configured x: 1)"
    )
    found = gathered(view)
    assert "collections" not in view.asked
    assert found.ping["reasons"] == ["outage: ServerSelectionTimeoutError: m:1"]
    assert found.server is None
    assert found.unseen["server"] == found.unseen["indexes"] == "MongoDB does not answer here"


def test_a_role_that_is_missing_is_no_answer_that_is_missing() -> None:
    view = View()
    view.refused = Asked(
        view.ping, TOPOLOGY, "MongoDB 8", Connections({"m:1": Counted(source="not permitted")})
    )
    found = gathered(view)
    assert found.server["source"] == "not permitted"
    assert found.unseen == {"limit": "not permitted"}


def test_workers_are_asked_who_consumes_what_nobody_reports_to_consume() -> None:
    view = View()
    gathered(view)
    assert "ask" not in view.asked
    view.queues = {"theirs": Queue(3, 60.0), "nobodys": Queue(2, 60.0), "empty": Queue(0, None)}
    view.others = {"other@h": [{"name": "theirs"}], "broken@h": {"error": "?"}}
    found = gathered(view)
    assert {name: queue.consumers for name, queue in found.queues.items()} == {
        "theirs": ("other@h",),
        "nobodys": (),
        "empty": (),
    }
    assert "nobodys" in {place for one in diagnose(found).findings for place in one.where}


def test_a_broker_that_is_no_redis_has_queues_that_nobody_sees() -> None:
    view = View()
    view.waiting = lambda _fleet, **_asked: None  # type: ignore[method-assign] # in place of a method
    view.broker = "filesystem"
    assert gathered(view).unseen["queues"] == "filesystem does not say"


@pytest.mark.parametrize(
    ("mains", "finding"), [({"w1@h"}, "process-lost"), (set(), "node-lost")], ids=["answers", "silent"]
)
def test_a_node_is_lost_only_where_its_main_process_does_not_answer(mains: set[str], finding: str) -> None:
    """Its children may end one after the other by what their tasks do."""
    view = View()
    view.assess = lambda _sight: fleet(  # type: ignore[method-assign] # a fake
        *(replace(seen, at=NOW - 40) for seen in view.processes), alive=False
    )
    view.mains = mains
    found = gathered(view)
    assert [one.answers for one in found.nodes] == [bool(mains)]
    assert diagnose(found).findings[0].id == finding
