"""Post-mortems: of whom, with what, and once."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.fleet_reports import NOW, fleet, node, report, seen
from worker.health.silent_nodes import bury

TASK = {"name": "shop.bill", "id": "1", "seconds": 12.0, "running": 1}


def lost(name: str, slot: int, *, slots: int = 2, **changes: Any) -> Any:
    return seen(report(name, slot, slots=slots, **changes), silent=20)


def leftover(name: str, *pids: int) -> Any:
    """A board of a dead node, whose rows are of processes with these pids."""

    def row(pid: int) -> Any:
        records = [{"at": NOW, "kind": "circuit", "number": 0.0, "text": "open"}]
        return SimpleNamespace(
            read=lambda: SimpleNamespace(pid=pid), recorder=SimpleNamespace(read=lambda: records)
        )

    return SimpleNamespace(node=name, rows=[row(pid) for pid in pids])


def nothing() -> list[Any]:
    return []


def events_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.event for record in caplog.records]  # type: ignore[attr-defined] # set by events.say


@pytest.fixture
def claims() -> list[dict[str, Any]]:
    return []


def test_a_process_is_told_of_with_the_last_that_was_heard_of_it(
    claims: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    found = fleet(*node(slots=2)[:1], lost("w1@h", 1, task=TASK), alive=False)

    def claim(mortem: dict[str, Any]) -> bool:
        claims.append(mortem)
        return True

    told = bury(found, claim, nothing)
    assert [(mortem.member, mortem.seen) for mortem in told] == [("w1@h/1", NOW - 20)]
    assert claims[0]["report"]["pid"] == 101
    assert claims[0]["member"] == "w1@h/1"
    assert events_of(caplog) == ["process.lost"]
    assert "shop.bill" in caplog.text


def test_a_node_that_is_lost_as_a_whole_is_told_of_first(caplog: pytest.LogCaptureFixture) -> None:
    processes = [lost("w2@h", 0), lost("w2@h", 1, task=TASK)]
    bury(fleet(*node(slots=1), *processes, alive=False), lambda _: True, nothing)
    assert events_of(caplog) == ["node.lost", "process.lost", "process.lost"]
    first = caplog.records[0].getMessage()
    assert first == (
        "node.lost: w2@h: all of its 2 processes are lost, the last was heard 20 s ago; running: shop.bill"
    )
    assert caplog.records[0].levelno == logging.ERROR


def test_what_another_has_told_is_not_told_again(caplog: pytest.LogCaptureFixture) -> None:
    assert bury(fleet(lost("w1@h", 0), alive=False), lambda _: False, nothing) == []
    assert caplog.records == []


def test_the_ring_that_it_left_on_this_host_comes_with_it_but_no_successors() -> None:
    boards = [leftover("w1@h", 100, 555), leftover("w9@h", 1)]
    found = fleet(lost("w1@h", 0), lost("w1@h", 1), lost("w1@h", 2), alive=False)
    told = bury(found, lambda _: True, lambda: boards)
    assert [len(mortem.flight) for mortem in told] == [1, 0, 0]


def test_boards_are_looked_for_only_where_somebody_is_lost() -> None:
    def refuse() -> list[Any]:
        raise AssertionError

    assert bury(fleet(*node(slots=2)), lambda _: True, refuse) == []


def test_the_buried_are_not_buried_again() -> None:
    mortem = {"node": "w2@h", "slot": 0, "seen": NOW - 30, "report": report("w2@h", 0)}
    found = fleet(*node(slots=1), buried=[mortem])
    assert len(found.processes) == 2
    assert bury(found, lambda _: True, nothing) == []


def test_a_report_that_does_not_say_whose_it_is_cannot_be_buried() -> None:
    broken = lost("w1@h", 0)
    del broken.report["pid"]
    assert bury(fleet(broken, alive=False), lambda _: True, nothing) == []
