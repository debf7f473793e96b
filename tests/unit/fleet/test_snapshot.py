"""The snapshot: sums, percentiles of what was merged, outliers, and a bound on its size."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fleet_reports import fleet, node, report, seen
from worker.fleet import totals
from worker.fleet.fleet import Fleet
from worker.fleet.snapshot import MAX_BYTES, aggregate, snapshot
from worker.pool.histogram import BOUNDS, BUCKETS, Histogram
from worker.server.connections import Connections, Counted

OWN = "cp/test/cli/0/9"


def taken(found: Fleet, connections: Connections | None = None) -> dict[str, Any]:
    document = snapshot(found, deployment="test", connections=connections)
    assert json.loads(json.dumps(document)) == document
    return document


def waited(*seconds: float, slot: int = 0) -> dict[str, Any]:
    """A report of these waits."""
    histogram = Histogram()
    for wait in seconds:
        histogram.observe(wait)
    times = histogram.read()
    return report(slot=slot, wait=times.to_dict(), wait_buckets=list(times.counts))


def test_totals_are_sums_over_those_who_are_not_lost() -> None:
    busy = {"size": 3, "in_use": 2, "idle": 1, "waiting": 4}
    processes = [
        seen(report(slot=0, slots=3, pool=busy, count={"timeouts": 2})),
        seen(report(slot=1, slots=3, pool=busy, count={"timeouts": 1}), silent=10),
        seen(report(slot=2, slots=3, pool=busy), silent=20),
    ]
    document = taken(fleet(*processes, alive=False))
    added = document["totals"]
    assert added["processes"] == 2
    pool = {"size": 6, "in_use": 4, "idle": 2, "waiting": 8, "min": 2, "max": 200}
    assert added["pool"] == pool | {"max_each": 100, "usage": 0.02}
    assert (added["count"]["timeouts"], added["count"]["created"]) == (3, 2)
    assert added["rate"]["checked_out"] == 3.0
    assert added["memory"] == {"server": 2 << 20}
    assert document["circuits"] == {"closed": 2}
    assert document["outage"] == {"seconds": None, "ended": None}


def test_an_outage_is_as_long_as_the_longest_and_over_when_the_last_is_back() -> None:
    away: dict[str, Any] = {"circuit": "open", "outage": 4.0}
    longer = seen(report(slot=1, circuit="half-open", outage=9.0))
    document = taken(fleet(seen(report(slot=0, **away)), longer, seen(report(slot=2))))
    assert document["outage"] == {"seconds": 9.5, "ended": None}
    document = taken(fleet(seen(report(slot=0, recovered=8.0)), seen(report(slot=1, recovered=3.0))))
    assert document["outage"] == {"seconds": None, "ended": 3.5}
    document = taken(fleet(seen(report(slot=0, recovered=8.0)), seen(report(slot=1, **away))))
    assert document["outage"] == {"seconds": 4.5, "ended": None}


def test_a_pool_without_a_maximum_leaves_the_fleet_without_one() -> None:
    unbounded = report(slot=1, pool={"max": None})
    pool = totals.add_up([report(), unbounded])["pool"]
    assert (pool["max"], pool["max_each"]) == (None, None)
    assert totals.usage(unbounded) == 0.0


def test_percentiles_are_of_all_waits_together_and_no_average_of_percentiles() -> None:
    """99 fast waits in one process and one slow one in another: the average of their p99 would be 1 s."""
    added = totals.add_up([waited(*[0.0002] * 99), waited(2.0, slot=1)])["wait"]
    assert added["n"] == 100
    assert added["p50"] < 0.25
    assert added["p99"] < 0.3
    assert added["max"] == 2000.0
    assert abs(added["avg"] - 20.198) < 0.01


@given(st.lists(st.lists(st.floats(0, 20), max_size=20), max_size=5))
def test_the_percentiles_of_processes_are_those_of_one_that_saw_it_all(waits: list[list[float]]) -> None:
    together = totals.add_up([waited(*seconds) for seconds in waits])["wait"]
    one = waited(*[wait for seconds in waits for wait in seconds])["wait"]
    assert together["n"] == one["n"]
    for name in ("avg", "p50", "p99", "max"):
        if one[name] is None:
            assert together[name] is None
        else:
            assert abs(together[name] - one[name]) < 0.01 + one[name] / 1000


def test_reports_whose_buckets_were_left_out_or_are_anothers_do_not_count_in_percentiles() -> None:
    short = waited(5.0, slot=1) | {"wait_buckets": [1, 2]}
    left_out = waited(5.0, slot=2)
    del left_out["wait_buckets"]
    added = totals.add_up([waited(0.001), short, left_out])["wait"]
    assert (added["n"], added["max"]) == (1, 1.0)
    assert len(BOUNDS) + 1 == BUCKETS


def test_outliers_are_the_ten_worst_and_never_those_with_nothing() -> None:
    task = {"name": "shop.bill", "id": "1"}
    processes = [
        seen(report(slot=slot, slots=20, pool={"in_use": slot, "max": 20}, task=task)) for slot in range(20)
    ]
    found = taken(fleet(*processes))["outliers"]
    assert [row["process"] for row in found["in_use"]] == [f"w1@h/{slot}" for slot in range(19, 9, -1)]
    assert found["in_use"][0] == {"process": "w1@h/19", "value": 0.95, "task": "shop.bill"}
    assert (found["wait_p99_ms"], found["timeouts"]) == ([], [])


def test_coverage_names_everyone_who_is_not_live() -> None:
    processes = [
        *node("a@h", 2),
        seen(report("b@h", 0, slots=4), silent=10),
        seen(report("b@h", 1, slots=4), silent=61),
        seen(report("b@h", 2, slots=4)),
    ]
    assert taken(fleet(*processes))["coverage"] == {
        "seen": 4,
        "expected": 6,
        "counts": {"live": 3, "stale": 1, "busy": 0, "lost": 1, "missing": 1},
        "stale": ["b@h/0"],
        "busy": [],
        "lost": ["b@h/1"],
        "missing": ["b@h/3"],
    }


def test_there_is_a_row_per_node_and_those_in_trouble_come_first() -> None:
    cut_off = [seen(report("z@h", slot, slots=2, circuit="open")) for slot in range(2)]
    nodes = taken(fleet(*node("a@h", 1), *node("b@h", 1, pool={"in_use": 1}), *cut_off))["nodes"]
    assert (nodes["count"], nodes["left_out"]) == (3, 0)
    assert list(nodes["rows"]) == ["z@h", "b@h", "a@h"]
    assert nodes["rows"]["z@h"] == {
        "slots": 2,
        "live": 2,
        "missing": 0,
        "not_closed": 2,
        "kind": "prefork",
        "size": 2,
        "in_use": 0,
        "waiting": 0,
    }


# --- the server's side ---


def test_what_the_server_counts_stands_beside_what_the_processes_report() -> None:
    counts = {"cp/test/w1@h/0/100": 3, "cp/test/w1@h/1/101": 4, "cp/test/script/0/9": 2, OWN: 3}
    connections = Connections({"a:1": Counted(12, 800, 40, "$currentOp", counts, 3)}, own=OWN)
    found = taken(fleet(*node(slots=2, servers={"a:1": [2, 0, 0]})), connections)["server"]
    assert found == {
        "member": "a:1",
        "current": 12,
        "available": 800,
        "total_created": 40,
        "source": "$currentOp",
        "ours": {"w1@h": {"counted": 7, "reported": 8}},
        "strays": 2,
        "others": 3,
    }


def test_members_are_told_apart_and_the_one_with_the_least_room_left_stands_for_the_limit() -> None:
    """Each counts its own: where one of them is asked, 12 would stand beside 20 by reports."""
    reports = node(slots=2, servers={"a:1": [3, 2, 1], "b:1": [0, 0, 0], "c:1": [1, 0, 0]})
    first, second = "cp/test/w1@h/0/100", "cp/test/w1@h/1/101"
    members = {
        "a:1": Counted(20, 80, 40, "$currentOp", {first: 5, second: 5, OWN: 3}, 7),
        "b:1": Counted(10, 20, 9, "$currentOp", {first: 2, second: 2, "cp/test/script/0/9": 1}, 5),
    }
    found = taken(fleet(*reports), Connections(members, {"c:1": "Connection refused"}, OWN))
    assert found["servers"] == {
        "a:1": {
            **{"size": 6, "in_use": 4, "waiting": 2, "reported": 10, "counted": 10, "strays": 0, "others": 7},
            **{"current": 20, "available": 80, "total_created": 40, "source": "$currentOp", "why": None},
        },
        "b:1": {
            **{"size": 0, "in_use": 0, "waiting": 0, "reported": 4, "counted": 4, "strays": 1, "others": 5},
            **{"current": 10, "available": 20, "total_created": 9, "source": "$currentOp", "why": None},
        },
        "c:1": {
            **{"size": 2, "in_use": 0, "waiting": 0, "reported": 6, "counted": None, "strays": None},
            **{"current": None, "available": None, "total_created": None, "source": None, "others": None},
            "why": "Connection refused",
        },
    }
    server = found["server"]
    assert (server["member"], server["current"], server["available"]) == ("b:1", 10, 20)
    assert server["ours"] == {"w1@h": {"counted": 14, "reported": 14}}
    assert (server["strays"], server["others"]) == (1, 12)
    kept = aggregate(found)["server"]
    assert kept == {"member": "b:1", "current": 10, "available": 20, "total_created": 9, "others": 12}


def test_what_a_process_does_not_say_of_its_members_is_unknown_and_no_zero() -> None:
    """A report that is too long leaves it out."""
    reports = [seen(report(slots=2, servers={"a:1": [1, 0, 0]})), seen(report(slot=1, slots=2))]
    counted = Counted(9, 9, 9, "$currentOp", {"cp/test/w1@h/0/100": 3}, 0)
    found = taken(fleet(*reports), Connections({"a:1": counted}))
    assert (found["servers"]["a:1"]["size"], found["servers"]["a:1"]["reported"]) == (1, None)
    assert found["server"]["ours"] == {"w1@h": {"counted": 3, "reported": None}}


def test_without_the_servers_count_the_members_are_those_of_the_reports() -> None:
    found = taken(fleet(*node(servers={"a:1": [1, 0, 0]})))
    assert (found["server"], found["servers"]["a:1"]["reported"]) == (None, 12)


def test_what_the_server_does_not_tell_is_unknown_and_no_zero() -> None:
    refused = Connections({"a:1": Counted(source="not permitted")})
    found = taken(fleet(*node(slots=1)), refused)["server"]
    assert found["source"] == "not permitted"
    assert taken(fleet(*node(slots=1)), refused)["servers"]["a:1"]["why"] == "not permitted"
    assert {found[name] for name in ("current", "available", "ours", "strays", "others")} == {None}
    assert taken(fleet())["server"] is None


# --- size ---


def large(nodes: int, slots: int, name: str) -> Fleet:
    return fleet(
        *[
            seen(
                report(f"w{number}@{name}", slot, slots=slots + 1, count={"timeouts": 1}), silent=number % 80
            )
            for number in range(nodes)
            for slot in range(slots)
        ]
    )


def test_the_document_is_bounded_whatever_the_fleet_and_its_names() -> None:
    connections = Connections({"ä" * 300 + str(n): Counted(1, 1, 1, "currentOp", {}, 0) for n in range(50)})
    document = taken(large(1000, 1, "ä" * 300), connections)
    assert len(json.dumps(document)) <= MAX_BYTES
    rows = document["nodes"]["rows"]
    assert len(rows) + document["nodes"]["left_out"] == document["nodes"]["count"] == 1000
