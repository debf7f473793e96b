"""What a process says of itself, and in how many bytes."""

import json
from pathlib import Path
from typing import Any

import pytest

from worker.board import memory, report
from worker.board.report import Moment, Origin

TIMES = {"n": 123456, "avg": 12.345, "p50": 10.0, "p99": 100.0, "max": 1234.567}
TOTALS: dict[str, Any] = {
    "pool": {"size": 50, "in_use": 12, "idle": 38, "waiting": 3, "min": 10, "max": 50},
    "count": dict.fromkeys(("created", "closed", "checked_out", "failed", "timeouts", "cleared"), 123456),
    "rate": dict.fromkeys(("created", "closed", "failed", "checked_out"), 1234.567),
    "wait": TIMES,
    "use": TIMES,
    "rtt": TIMES,
    "wait_buckets": [12345] * 16,
}


def origin(node: str = "w1@host") -> Origin:
    return Origin(node, 3, 12345, "0a1b2c3d", 123456789, 1.5, "0.1.0", "prefork", f"x/default/{node}/3/12345")


def moment(**changes: Any) -> Moment:
    usual: dict[str, Any] = {
        "at": 1700000000.123,
        "slots": 4,
        "queues": ["mongo.data", "mongo.health", "mongo.ops"],
        "task": {"name": "shop.tasks.reckon", "id": "0" * 36, "seconds": 12.3, "running": 1},
        "circuit": "closed",
        "outage": 0.0,
        "ok": 0.8,
        "error": None,
        "server": "MongoDB 8.0.4",
        "uss": 25_000_000,
        "totals": TOTALS,
        "counts": {"leaks": 1, "long_holds": 2, "false_alarms": 0},
    }
    return Moment(**usual | changes)


def test_a_report_says_who_when_and_how() -> None:
    told = report.build(origin(), moment())
    assert (told["v"], told["node"], told["slot"], told["pid"]) == (1, "w1@host", 3, 12345)
    assert told["pool"] == TOTALS["pool"]
    assert told["count"] == TOTALS["count"] | {"leaks": 1, "long_holds": 2, "false_alarms": 0}
    assert told["memory"] == {"uss": 25_000_000, "server": 50 * memory.SERVER_BYTES_PER_CONNECTION}
    assert not {"totals", "counts", "uss"} & set(told)


def test_a_usual_report_fits_as_a_whole() -> None:
    told = report.build(origin(), moment())
    text = report.encode(told)
    assert len(text) <= report.MAX_BYTES
    assert json.loads(text) == told


def test_a_process_that_is_well_says_nothing_of_trouble() -> None:
    trouble = {"held": None, "leak": None, "foreign": None, "overload": None, "cause": None}
    assert report.build(origin(), moment(trouble=trouble)) == report.build(origin(), moment())


def test_all_troubles_at_once_fit() -> None:
    trouble = {
        "cause": "outage",
        "held": {"n": 12, "seconds": 123.4, "task": "shop.tasks.reckon"},
        "leak": {"what": "a session in a transaction (3 times)", "task": "shop.tasks.reckon"},
        "foreign": "/" + "x" * 99,
        "overload": 12.3,
        "hung": 1234.5,
        "recovered": 59.9,
    }
    told = json.loads(report.encode(report.build(origin(), moment(trouble=trouble))))
    assert {name: told[name] for name in trouble} == trouble


def test_long_names_cost_what_is_missed_least_and_never_the_pool() -> None:
    names = [f"a.rather.long.name.of.a.queue.{number}" for number in range(60)]
    text = report.encode(report.build(origin("n" * 100), moment(queues=names)))
    told = json.loads(text)
    assert len(text) <= report.MAX_BYTES
    assert "queues" not in told
    assert told["pool"] == TOTALS["pool"]
    assert told["wait"] == TIMES


def test_a_member_is_a_slot_of_a_node() -> None:
    assert origin().member == "w1@host/3"


def test_the_unique_set_is_what_no_other_process_shares(tmp_path: Path) -> None:
    rollup = tmp_path / "smaps_rollup"
    rollup.write_text(
        "55d0-7ffe ---p 0 00:00 0  [rollup]\n"
        "Rss:   300 kB\nPrivate_Clean:   10 kB\nPrivate_Dirty:   20 kB\nShared_Dirty:   5 kB\n"
    )
    assert memory.unique_set_size(rollup) == 30 * 1024


def test_a_system_that_does_not_tell_is_no_error(tmp_path: Path) -> None:
    assert memory.unique_set_size(tmp_path / "none") is None


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells it")
def test_this_process_has_memory_of_its_own() -> None:
    assert (memory.unique_set_size() or 0) > 1_000_000
