"""What is said of a process that ended without a goodbye."""

import logging
from typing import Any

import pytest

from worker.board import post_mortem
from worker.events import Event

REPORT: dict[str, Any] = {
    "node": "w1@host",
    "slot": 2,
    "pid": 123,
    "started": 1.0,
    "at": 5.0,
    "circuit": "closed",
    "task": {"name": "shop.reckon", "id": "abc", "seconds": 3.21, "running": 1},
    "pool": {"in_use": 1, "size": 3},
}
RECORD = {"at": 4.5, "kind": "connection.closed", "number": 0.0, "text": "a:27017 error"}


def test_it_names_the_task_the_pool_and_the_last_records(caplog: pytest.LogCaptureFixture) -> None:
    found = post_mortem.of_report(REPORT, flight=[RECORD])
    post_mortem.say(found)
    (record,) = caplog.records
    assert (record.levelno, vars(record)["event"]) == (logging.ERROR, Event.PROCESS_LOST)
    first, last = record.getMessage().splitlines()
    assert "w1@host slot 2 (pid 123)" in first
    assert "running shop.reckon[abc] for 3.2 s" in first
    assert "1 of 3 connections in use" in first
    assert last == "  4.500 connection.closed 0 a:27017 error"
    assert vars(record)["fields"] == {"post_mortem": found.to_dict(), "with_node": False}


def test_of_little_it_says_little(caplog: pytest.LogCaptureFixture) -> None:
    """A process may die before its first report."""
    post_mortem.say(post_mortem.PostMortem("n", 0, 1, 1.0, None, None, None))
    assert "idle; circuit unknown, ? of ? connections" in caplog.text


def test_it_is_kept_under_the_name_of_the_report() -> None:
    assert post_mortem.of_report(REPORT).to_dict()["member"] == "w1@host/2"
