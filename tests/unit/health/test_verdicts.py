"""What the facts mean: each layer, the worst of them, and reasons that name names."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.fleet_reports import NOW, fleet, node, report, seen
from worker.broker.queues import Queue
from worker.fleet.fleet import Fleet
from worker.health.verdicts import Facts, Judgement, judge, settle, since
from worker.server.pings import Verdict

OK: dict[str, Any] = {"verdict": "ok", "reasons": []}
DOWN: dict[str, Any] = {"verdict": "down", "reasons": ["outage: AutoReconnect: refused"]}
EMPTY = fleet()


def judged(found: Fleet | None, ping: dict[str, Any] | None = OK, **facts: Any) -> Judgement:
    facts.setdefault("queues", {})
    facts.setdefault("beat", 1.0)
    facts.setdefault("topology", {"type": "Single", "primary": "a:1", "members": {"a:1": "Standalone"}})
    return judge(Facts(own="w1@h/0", ping=ping, fleet=found, **facts))


def lasting(found: Fleet, seconds: float) -> dict[str, dict[str, float]]:
    """What is so now, since so many seconds ago."""
    return {what: dict.fromkeys(members, NOW - seconds) for what, members in since(found, {}).items()}


def test_a_healthy_fleet_is_ok_for_no_reason() -> None:
    found = judged(fleet(*node(slots=3)))
    assert (found.verdict, found.reasons, found.unknown) == ("ok", [], [])
    assert set(found.layers) == {
        "liveness",
        "reachability",
        "members",
        "permissions",
        "pool",
        "consuming",
        "beat",
    }
    assert found.nodes["w1@h"].verdict is Verdict.OK


def test_what_is_unknown_is_listed_and_spoils_nothing() -> None:
    found = judged(None, queues=None, beat=None)
    assert found.verdict is Verdict.OK
    assert found.unknown == ["liveness", "permissions", "pool", "consuming", "beat"]
    assert judged(EMPTY, queues=None, beat=None).unknown == [
        "liveness",
        "permissions",
        "pool",
        "consuming",
        "beat",
    ]


# --- permissions ---


def test_what_mongodb_denies_degrades_and_names_the_tasks() -> None:
    denied = {"n": 4, "code": 13, "for": 30.0, "ago": 1.0, "tasks": {"shop.write": "insert on shop.sales"}}
    found = judged(fleet(*node(denied=denied)))
    assert (found.verdict, found.layers["permissions"]) == (Verdict.DEGRADED, Verdict.DEGRADED)
    [reason] = found.reasons
    assert reason.startswith("MongoDB denies operations of shop.write (code 13) in ")


# --- members ---

NO_PRIMARY = {"type": "ReplicaSetNoPrimary", "primary": None, "members": {"a:1": "RSSecondary"}, "errors": {}}


def test_what_this_very_process_has_just_used_proves_no_primary() -> None:
    """Its own report is of a moment ago, its topology is of now; another's may be in another network."""
    found = judged(fleet(*node(slots=1, ok=1.0)), topology=NO_PRIMARY)
    assert (found.verdict, found.layers["members"]) == ("down", "down")
    found = judged(fleet(*node(slots=2, ok=1.0)), topology=NO_PRIMARY)
    assert (found.verdict, found.layers["members"]) == ("degraded", "degraded")
    assert found.reasons[0].startswith("no primary is seen from w1@h/0, though another process has just")


def test_without_a_topology_the_members_are_unknown() -> None:
    assert judged(fleet(*node()), topology=None).unknown == ["members"]


# --- liveness ---


def test_a_lost_process_degrades_and_is_named() -> None:
    found = judged(fleet(*node(slots=3)[:2], seen(report(slot=2, slots=3), silent=20), alive=False))
    assert (found.verdict, found.reasons) == ("degraded", ["1 of 3 processes is lost: w1@h/2"])
    assert found.nodes["w1@h"].reasons == ["1 of 3 processes is lost: w1@h/2"]


def test_a_fleet_that_is_lost_as_a_whole_is_down() -> None:
    gone = [seen(report(slot=slot, slots=2), silent=20) for slot in range(2)]
    found = judged(fleet(*gone, alive=False))
    assert found.verdict is Verdict.DOWN
    assert found.layers["liveness"] is Verdict.DOWN


def test_busy_and_stale_processes_are_no_reason() -> None:
    silent = [seen(report(slot=1, slots=3), silent=100), seen(report(slot=2, slots=3), silent=10)]
    assert judged(fleet(*node(slots=3)[:1], *silent, alive=True)).verdict is Verdict.OK


def test_a_slot_that_is_being_filled_is_no_reason_and_one_that_stays_empty_is() -> None:
    found = fleet(*node(slots=3)[:2])
    assert judged(found, since=since(found, {})).verdict is Verdict.OK
    assert judged(found, since=lasting(found, 14)).verdict is Verdict.OK
    assert judged(found, since=lasting(found, 15)).reasons == ["1 of 3 processes is missing: w1@h/2"]


def test_at_most_ten_are_named() -> None:
    gone = [seen(report(slot=slot, slots=13), silent=20) for slot in range(1, 13)]
    reason = judged(fleet(*node(slots=1), *gone, alive=False)).reasons[0]
    assert reason.startswith("12 of 13 processes are lost: w1@h/1, w1@h/2, ")
    assert reason.endswith("w1@h/10 and 2 more")


# --- reachability ---


def test_a_ping_that_fails_is_down_where_nobody_vouches_for_mongodb() -> None:
    idle = node("w2@h", 1, ok=None)
    found = judged(fleet(*node(slots=1), *idle), DOWN)
    assert found.verdict is Verdict.DOWN
    assert found.reasons == ["w1@h/0 cannot use MongoDB: outage: AutoReconnect: refused"]
    assert judged(None, DOWN).verdict is Verdict.DOWN


@pytest.mark.parametrize(("ok", "verdict"), [(1.0, "degraded"), (11.4, "degraded"), (11.6, "down")])
def test_a_process_that_used_mongodb_a_moment_ago_proves_that_it_is_there(ok: float, verdict: str) -> None:
    """Its report is half a second old."""
    assert judged(fleet(*node(slots=1), *node("w2@h", 1, ok=ok)), DOWN).verdict == verdict


def test_open_circuits_somewhere_degrade_and_the_node_where_all_are_open_is_down() -> None:
    cut_off = node("w2@h", 2, circuit="open", outage=33.4)
    found = judged(fleet(*node(slots=2), *cut_off))
    assert found.verdict is Verdict.DEGRADED
    assert found.reasons == ["2 of 4 processes are cut off from MongoDB, for 33 s: w2@h/0, w2@h/1"]
    assert {name: layer.verdict for name, layer in found.nodes.items()} == {"w1@h": "ok", "w2@h": "down"}


def test_open_circuits_everywhere_are_down() -> None:
    found = judged(fleet(*node(slots=3, circuit="open", outage=5.0)), DOWN)
    assert found.verdict is Verdict.DOWN
    assert len(found.reasons) == 2
    assert found.layers["pool"] is Verdict.UNKNOWN


def test_a_server_that_hangs_for_all_is_called_so_first() -> None:
    hung: dict[str, Any] = {"circuit": "open", "outage": 32.0, "hung": 32.0}
    found = judged(fleet(*node(slots=2, **hung)), DOWN | {"reasons": ["outage: hung: no answer for 32 s"]})
    assert found.verdict is Verdict.DOWN
    assert found.reasons == [
        "MongoDB hangs: no answer for 32 s",
        "w1@h/0 cannot use MongoDB: outage: hung: no answer for 32 s",
        "1 of 2 processes is cut off from MongoDB, for 32 s: w1@h/1",
    ]
    assert found.nodes["w1@h"].reasons == [
        "MongoDB hangs: no answer for 32 s",
        "2 of 2 processes are cut off from MongoDB, for 32 s: w1@h/0, w1@h/1",
    ]
    # Without a ping of one's own, as from a machine that reaches Redis alone.
    assert judged(fleet(*node(slots=2, **hung)), None).reasons == found.nodes["w1@h"].reasons


def test_what_one_process_reaches_or_is_refused_by_does_not_hang() -> None:
    hung: dict[str, Any] = {"circuit": "open", "outage": 32.0, "hung": 32.0}
    others: tuple[dict[str, Any], ...] = ({"circuit": "open", "outage": 30.0}, {})
    for other in others:
        found = judged(fleet(*node(slots=1, **hung), *node("w2@h", 1, **other)), DOWN)
        assert not any("hangs" in reason for reason in found.reasons)


def test_a_circuit_that_is_being_tried_is_not_closed() -> None:
    assert judged(fleet(*node(slots=1), *node("w2@h", 1, circuit="half-open"))).verdict is Verdict.DEGRADED


@pytest.mark.parametrize("verdict", ["degraded", "unknown"])
def test_a_ping_that_fails_for_another_cause_degrades(verdict: str) -> None:
    ping = {"verdict": verdict, "reasons": ["overload: WaitQueueTimeoutError: no connection"]}
    found = judged(None, ping)
    assert (found.verdict, len(found.reasons)) == ("degraded", 1)


# --- pool ---


def test_operations_that_wait_for_ten_seconds_degrade() -> None:
    found = fleet(*node(slots=2, pool={"waiting": 3}))
    assert judged(found, since=since(found, {})).verdict is Verdict.OK
    assert judged(found, since=lasting(found, 9)).verdict is Verdict.OK
    assert judged(found, since=lasting(found, 12)).reasons == [
        "operations have waited for a connection for 12 s in 2 processes: w1@h/0, w1@h/1"
    ]


def test_a_pool_that_stays_nearly_full_degrades_but_for_a_pool_of_one() -> None:
    full = fleet(*node(slots=1, pool={"in_use": 9, "max": 10}))
    assert judged(full, since=lasting(full, 20)).reasons == [
        "more than 80% of the pool in use for 20 s in 1 process: w1@h/0"
    ]
    for pool in ({"in_use": 8, "max": 10}, {"in_use": 1, "max": 1}, {"in_use": 99, "max": None}):
        assert since(fleet(*node(slots=1, pool=pool)), {})["full"] == {}


def test_slow_checkouts_degrade_but_not_those_few_that_had_to_connect() -> None:
    assert judged(fleet(*node(slots=1, wait={"n": 20, "p99": 140.0}))).reasons == [
        "checkouts waited up to 140 ms (p99) in 1 process: w1@h/0"
    ]
    assert judged(fleet(*node(slots=1, wait={"n": 19, "p99": 140.0}))).verdict is Verdict.OK
    assert judged(fleet(*node(slots=1, wait={"n": 99, "p99": 99.0}))).verdict is Verdict.OK
    slow: dict[str, Any] = {"wait": {"n": 40, "p99": 300.0}, "wait_buckets": [30, *[0] * 11, 10]}
    assert judged(fleet(*node(slots=1, **slow, rate={"created": 6 / 60}))).verdict is Verdict.OK
    assert judged(fleet(*node(slots=1, **slow, rate={"created": 4 / 60}))).verdict is Verdict.DEGRADED


def timed_out(count: int, *, at: float = NOW) -> Fleet:
    found = fleet(*node(slots=1, count={"timeouts": count}))
    return Fleet(at, found.nodes)


def test_operations_that_got_no_connection_degrade_for_a_minute() -> None:
    first = since(timed_out(5), {})
    assert judged(timed_out(5), since=first).verdict is Verdict.OK, "nobody knows when that was"
    grown = since(timed_out(6, at=NOW + 10), first)
    assert judged(timed_out(6, at=NOW + 10), since=grown).reasons == [
        "operations got no connection in time, in the last minute, in 1 process: w1@h/0"
    ]
    same = since(timed_out(6, at=NOW + 70), grown)
    assert judged(timed_out(6, at=NOW + 70), since=same).verdict is Verdict.DEGRADED
    over = since(timed_out(6, at=NOW + 71), same)
    assert judged(timed_out(6, at=NOW + 71), since=over).verdict is Verdict.OK
    assert over["timeouts"] == {}


def test_a_first_timeout_counts_and_a_counter_that_was_reset_does_not() -> None:
    none = since(timed_out(0), {})
    assert since(timed_out(1, at=NOW + 5), none)["timeouts"] == {"w1@h/0": NOW + 5}
    assert since(timed_out(2, at=NOW + 5), since(timed_out(9), {}))["timeouts"] == {}


def test_checkouts_that_failed_because_mongodb_was_away_are_no_reason_once_it_is_back() -> None:
    assert judged(fleet(*node(slots=1, rate={"failed": 3.0}))).verdict is Verdict.OK


def test_in_an_outage_the_pools_of_those_cut_off_are_no_further_reason() -> None:
    cut_off = node("w2@h", 1, circuit="open", wait={"n": 99, "p99": 900.0})
    assert judged(fleet(*node(slots=1), *cut_off)).layers["pool"] is Verdict.OK


def test_what_lasts_is_remembered_from_check_to_check_and_forgotten_when_it_ends() -> None:
    found = fleet(*node(slots=2, pool={"waiting": 1}))
    first = since(found, {"waiting": {"w1@h/0": NOW - 30, "gone@h/0": 1.0}})
    assert first["waiting"] == {"w1@h/0": NOW - 30, "w1@h/1": NOW}
    assert since(fleet(*node(slots=2)), first)["waiting"] == {}


# --- consuming ---


@pytest.mark.parametrize(
    ("name", "queue", "reasons"),
    [
        ("celery", Queue(0, None), []),
        ("celery", Queue(9, None), []),
        ("celery", Queue(9, 60.0), []),
        ("celery", Queue(9, 75.2), ["9 messages in celery, the oldest for 75 s"]),
        ("bills", Queue(1, 0.1), ["nobody consumes the 1 message in bills"]),
        ("bills", Queue(0, None), []),
    ],
)
def test_a_queue_that_is_not_worked_off_degrades(name: str, queue: Queue, reasons: list[str]) -> None:
    assert judged(fleet(*node(slots=2)), queues={name: queue}).reasons == reasons


def test_messages_behind_a_closed_gate_are_told_with_the_reason() -> None:
    found = judged(fleet(*node(gate={"bills": "operator"})), queues={"bills": Queue(2, 0.1)})
    assert found.reasons == ["nobody consumes the 2 messages in bills: the gate is closed (operator)"]


def test_whether_anybody_consumes_is_unknown_where_not_everybody_tells() -> None:
    older = fleet(*node(slots=1), *node("w2@h", 1, queues=None))
    starting = fleet(*node(slots=1), *node("w2@h", 1, queues=[]))
    for found in (older, starting, EMPTY, None):
        assert judged(found, queues={"bills": Queue(1, None)}).layers["consuming"] is Verdict.OK


# --- beat ---


def test_a_beat_that_stopped_degrades() -> None:
    assert judged(None, beat=30.0).verdict is Verdict.OK
    assert judged(None, beat=31.0).reasons == ["beat has not ticked for 31 s: nothing is sent on schedule"]


# --- together ---


def test_the_worst_wins_and_comes_first() -> None:
    found = judged(fleet(*node(slots=3)[:2], seen(report(slot=2, slots=3), silent=20), alive=False), DOWN)
    assert found.verdict is Verdict.DEGRADED, "w1@h/1 vouches"
    alone = judged(fleet(*node(slots=1), seen(report(slot=1), silent=20), alive=False), DOWN, beat=99.0)
    assert alone.verdict is Verdict.DOWN
    assert [reason.split()[0] for reason in alone.reasons] == ["w1@h/0", "1", "beat"]


def test_a_verdict_holds_since_it_last_changed() -> None:
    assert settle(None, Verdict.OK, 5.0) == 5.0
    before = {"verdict": "ok", "since": 3.0}
    assert settle(before, Verdict.OK, 5.0) == 3.0
    assert settle(before, Verdict.DOWN, 5.0) == 5.0
