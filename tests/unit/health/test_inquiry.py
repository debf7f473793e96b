"""Whether a silent process lives: asked of this host, or of its node's MAIN."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.fleet_reports import reading, report, seen
from worker.health.inquiry import inquire

ROWS = {
    "w2@h": [{"slot": 0, "pid": 100, "alive": True}, {"slot": 1, "pid": 999, "alive": True}],
    "w3@h": [{"slot": 0, "pid": 100, "alive": False}],
}


class Asked:
    def __init__(self) -> None:
        self.nodes: list[list[str]] = []

    def __call__(self, nodes: list[str]) -> Any:
        self.nodes.append(nodes)
        return ROWS


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_a_process_of_this_host_is_looked_up_by_pid_and_birth(asked: Asked) -> None:
    looked_up: list[Any] = []

    def lives(pid: int, born: int | None) -> bool:
        looked_up.append((pid, born))
        return False

    silent = seen(report(host="here", born=7), silent=20)
    assert inquire(reading(silent), asked, here="here", lives=lives)(silent) is False
    assert (looked_up, asked.nodes) == ([(100, 7)], [])


@pytest.mark.parametrize(
    ("name", "slot", "lives"),
    [
        ("w2@h", 0, True),
        # Another process has its slot now.
        ("w2@h", 1, False),
        ("w3@h", 0, False),
        # Its MAIN knows of no such slot, or did not answer.
        ("w3@h", 1, None),
        ("w4@h", 0, None),
    ],
)
def test_a_process_of_another_host_is_asked_after_at_its_main(
    asked: Asked, name: str, slot: int, lives: bool | None
) -> None:
    silent = seen(report(name, slot, host="there"), silent=20)
    assert inquire(reading(silent), asked, here="here")(silent) is lives


def test_nobody_is_asked_where_nobody_is_silent_for_long(asked: Asked) -> None:
    inquire(reading(seen(report(host="there"), silent=14)), asked, here="here")
    assert asked.nodes == []


def test_at_most_five_nodes_are_asked_and_all_at_once(asked: Asked) -> None:
    silent = [
        seen(report(f"w{number}@h", slot, host="there"), silent=20) for number in range(9) for slot in (0, 1)
    ]
    inquire(reading(*silent), asked, here="here")
    assert asked.nodes == [["w0@h", "w1@h", "w2@h", "w3@h", "w4@h"]]
