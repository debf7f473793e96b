"""The whole at one moment: what is concluded where something was not seen, and what the document says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.fleet_reports import NOW, fleet, node, report, seen
from worker.broker.queues import Queue, Waiting
from worker.fleet.beat_pulse import Pulse
from worker.health.overview import Found, survey
from worker.mongo.classify import ErrorClass
from worker.server.connections import Connections, Counted
from worker.server.info import Asked
from worker.server.pings import Ping, Verdict

TOPOLOGY = {"type": "Single", "primary": None, "members": {"db:27017": "Unknown"}, "errors": {}}
WHOLE = {"type": "Single", "primary": "db:27017", "members": {"db:27017": "Standalone"}, "errors": {}}
ANSWERED = Asked(
    Ping(Verdict.OK, 0.4), WHOLE, "MongoDB 8.0.4", Connections({"db:27017": Counted(9, by_appname={"a": 9})})
)
SILENT = Asked(Ping(Verdict.DOWN, None, ErrorClass.OUTAGE, "AutoReconnect: refused"), TOPOLOGY)
PULSE = Pulse(2.0, "h", 1, "Scheduler")


def told(**found: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "fleet": fleet(*node()),
        "before": {},
        "pulse": PULSE,
        "waiting": Waiting({}, 0),
        "mongodb": ANSWERED,
    }
    document = survey(Found(deployment="test", database="app", **(whole | found)), now=NOW)
    assert json.loads(json.dumps(document)) == document
    return document


def test_a_healthy_fleet_is_ok_and_all_of_it_is_told() -> None:
    found = told()
    assert (found["verdict"], found["reasons"], found["coverage"]["seen"]) == ("ok", [], 4)
    assert set(found["layers"].values()) == {"ok"}
    assert found["mongodb"]["connections"] == {
        "member": "db:27017",
        "current": 9,
        "available": None,
        "total_created": None,
        "source": None,
        "others": None,
    }
    assert found["nodes"]["rows"]["w1@h"]["verdict"] == "ok"
    assert found["beat"]["silence"] == 2.0


def test_a_machine_that_reaches_redis_alone_hears_of_mongodb_from_the_fleet() -> None:
    """Its own ping says nothing of the fleet, and that there was none is not a fault of the fleet's."""
    found = told(mongodb=SILENT, fleet=fleet(*node(server="MongoDB 8.0.4")))
    assert (found["verdict"], found["reasons"]) == ("ok", [])
    assert (found["mongodb"]["verdict"], found["mongodb"]["server"]) == ("down", "MongoDB 8.0.4")
    assert told(mongodb=None)["mongodb"]["verdict"] == "unknown"


def test_where_nobody_has_just_used_mongodb_the_ping_from_here_counts() -> None:
    """A server that hangs: circuits open once a heartbeat fails, which takes ten seconds and more."""
    refused = "this machine cannot use MongoDB: outage: AutoReconnect: refused"
    hanging = told(mongodb=SILENT, fleet=fleet(*node(ok=12.0)))
    assert (hanging["verdict"], hanging["reasons"]) == ("down", [refused])
    cut_off = told(mongodb=SILENT, fleet=fleet(*node(circuit="open", outage=7.0)))
    assert (cut_off["verdict"], cut_off["reasons"][0]) == ("down", refused)
    assert cut_off["reasons"][1].startswith("4 of 4 processes are cut off from MongoDB, for 7 s")


def test_a_ping_that_is_answered_shows_that_it_is_the_fleet_that_is_cut_off() -> None:
    found = told(fleet=fleet(*node(circuit="open", outage=7.0)))
    assert found["verdict"] == "degraded"


SECONDARIES = {
    "type": "ReplicaSetNoPrimary",
    "primary": None,
    "members": {"a:1": "RSSecondary", "b:1": "RSSecondary", "c:1": "Unknown"},
    "errors": {"c:1": "AutoReconnect: refused"},
}


@pytest.mark.parametrize(("used", "verdict"), [(1.0, "degraded"), (60.0, "down")])
def test_a_set_without_a_primary_is_not_ok_however_lately_a_process_has_used_it(
    used: float, verdict: str
) -> None:
    """A ping without an answer does not count while processes vouch for MongoDB; what members say does."""
    found = told(mongodb=Asked(SILENT.ping, SECONDARIES), fleet=fleet(*node(ok=used)))
    assert (found["verdict"], found["layers"]["members"]) == (verdict, verdict)
    assert any("no primary" in reason for reason in found["reasons"])
    assert any(
        "1 of 3 members of the replica set cannot be used from this machine" in r for r in found["reasons"]
    )


def test_a_member_away_is_no_reason_to_be_ok() -> None:
    members = {"a:1": "RSPrimary", "b:1": "Unknown", "c:1": "Unknown"}
    errors = {"b:1": "refused", "c:1": "refused"}
    topology = {"type": "ReplicaSetWithPrimary", "primary": "a:1", "members": members, "errors": errors}
    found = told(mongodb=Asked(ANSWERED.ping, topology))
    assert (found["verdict"], found["layers"]["reachability"]) == ("degraded", "ok")
    (reason,) = found["reasons"]
    assert "writes with w=majority wait" in reason
    assert "w=" not in told(mongodb=Asked(ANSWERED.ping, topology), write_concern=1)["reasons"][0]


@pytest.mark.parametrize("mongodb", [ANSWERED, SILENT, None])
def test_without_redis_it_is_unknown_and_said_so_first(mongodb: Asked | None) -> None:
    found = told(
        fleet=None,
        before=None,
        pulse=None,
        waiting=None,
        mongodb=mongodb,
        why="does not answer (ConnectionError)",
    )
    assert (found["verdict"], found["since"], found["at"]) == ("unknown", None, NOW)
    assert found["reasons"][0] == "Redis does not answer (ConnectionError): nothing is known of the fleet"
    assert (len(found["reasons"]) == 2) is (mongodb is SILENT)
    assert {found[name] for name in ("coverage", "totals", "queues", "unacked", "beat")} == {None}


def test_a_fleet_without_processes_is_unknown_where_mongodb_is_well_and_down_where_it_is_not() -> None:
    found = told(fleet=fleet())
    assert (found["verdict"], found["reasons"]) == ("unknown", ["no process reports in the deployment test"])
    assert told(fleet=fleet(), mongodb=SILENT)["verdict"] == "down"


def test_it_is_so_since_the_watch_found_it_or_since_now() -> None:
    assert told(before={"verdict": "ok", "since": 5.0})["since"] == 5.0
    assert told(before={"verdict": "down", "since": 5.0})["since"] == NOW
    slow = told(before={"lasting": {"missing": {"w1@h/3": NOW - 60}}}, fleet=fleet(*node(slots=4)[:3]))
    assert slow["reasons"] == ["1 of 4 processes is missing: w1@h/3"]


def test_queues_are_told_the_deepest_first_with_their_gates() -> None:
    waiting = Waiting({"a": Queue(0, None), "b": Queue(5, 3.0), "mongo.data": Queue(7, None)}, 2)
    found = told(waiting=waiting, fleet=fleet(*node(gate={"mongo.data": "operator"})))
    assert list(found["queues"]) == ["mongo.data", "b", "a"]
    assert found["queues"]["mongo.data"] == {"depth": 7, "age": None, "gate": "operator"}
    assert found["unacked"] == 2


def test_a_node_in_trouble_stands_first_with_its_own_verdict() -> None:
    found = told(fleet=fleet(*node("w1@h"), seen(report("w2@h", circuit="open", outage=3.0))))
    assert [(n, r["verdict"]) for n, r in found["nodes"]["rows"].items()] == [
        ("w2@h", "down"),
        ("w1@h", "ok"),
    ]
