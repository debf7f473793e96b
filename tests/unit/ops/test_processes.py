"""`mongo processes`: what a row says, which rows are asked for, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from ops import output
from ops.commands import processes
from tests.unit.fleet_reports import NOW, fleet, report, seen

TASK = {"name": "shop.sell", "id": "1", "seconds": 3.0, "running": 1}


def rows(*reports: dict[str, Any], silent: float = 0.5) -> list[dict[str, Any]]:
    found = fleet(*(seen(one, silent=silent) for one in reports))
    return [processes.row_of(process, found.at) for process in found.processes]


THREE = [
    report("w1@h", 0, slots=2, wait={"p99": 3.0}),
    report("w1@h", 1, slots=2, task=TASK, circuit="open"),
    report("w2@h", 0, wait={"p99": 9.0}),
]


def test_a_row_says_what_the_last_report_did() -> None:
    (row,) = rows(report(task=TASK, memory={"uss": 30_000_000}, ok=1.0))
    assert (row["node"], row["slot"]) == ("w1@h", 0)
    assert (row["age"], row["success_age"], row["memory"]) == (500.0, 1.5, 30_000_000)
    assert (row["task"], row["task_id"], row["task_seconds"], row["running"]) == ("shop.sell", "1", 3.0, 1)
    assert (row["size"], row["in_use"], row["waiting"], row["circuit"]) == (1, 0, 0, "closed")


def test_what_an_old_or_short_report_leaves_out_is_unknown() -> None:
    (row,) = rows({"node": "w1@h", "slot": 0})
    known = {"node", "slot", "state", "silence", "running"}
    assert {name for name, value in row.items() if value is not None} == known


@pytest.mark.parametrize(
    ("wanted", "slots"),
    [
        ({}, 3),
        ({"node": "w1*"}, 2),
        ({"node": "w1"}, 0),
        ({"task": "shop.*"}, 1),
        ({"circuit": ("open", "half-open")}, 1),
        ({"state": ("lost",)}, 0),
        ({"state": ("live",), "node": "w2@h"}, 1),
    ],
)
def test_rows_that_are_asked_for(wanted: dict[str, Any], slots: int) -> None:
    every = {"node": None, "task": None, "state": (), "circuit": ()}
    assert sum(processes.is_wanted(row, **(every | wanted)) for row in rows(*THREE)) == slots


@pytest.mark.parametrize(
    ("column", "reverse", "members"),
    [
        ("node", False, ["w1@h/0", "w1@h/1", "w2@h/0"]),
        ("node", True, ["w2@h/0", "w1@h/0", "w1@h/1"]),
        ("wait_p99_ms", False, ["w2@h/0", "w1@h/0", "w1@h/1"]),
        ("wait_p99_ms", True, ["w1@h/0", "w2@h/0", "w1@h/1"]),
        ("task", False, ["w1@h/1", "w1@h/0", "w2@h/0"]),
    ],
)
def test_numbers_fall_texts_rise_and_the_unknown_comes_last(
    column: str, reverse: bool, members: list[str]
) -> None:
    found = processes.ordered(rows(*THREE), column, reverse=reverse)
    assert [f"{row['node']}/{row['slot']}" for row in found] == members


def test_a_person_gets_a_line_each_and_how_many_there_are_more() -> None:
    told = {"at": NOW, "total": 9, "matching": 5, "processes": rows(*THREE)}
    lines = output.render(processes.render(told), on_terminal=False, has_color=False).splitlines()
    assert len(lines) == 5
    assert lines[-1] == "and 2 processes more"
    assert "shop.sell" in lines[2]


def test_nobody_is_said_in_words() -> None:
    assert processes.render({"total": 0, "processes": []}) == "no process reports"
    assert processes.render({"total": 9, "processes": []}) == "none of 9 processes is like that"
