"""When the flight recorder is shown, and how."""

import logging
from typing import Any

import pytest

from worker.board import dumps
from worker.board.dumps import Dumps
from worker.events import Event


def records(count: int) -> list[dict[str, Any]]:
    return [
        {"at": 1.0 * n, "kind": "connection.created", "number": 0.0, "text": f"a:{n}"} for n in range(count)
    ]


def test_nothing_is_shown_where_nothing_is_wrong() -> None:
    kept = Dumps()
    assert kept.reason(0.0, timeouts=0, is_open=False) is None
    assert kept.reason(2.0, timeouts=0, is_open=False) is None


def test_a_wait_queue_timeout_shows_it_once_and_the_next_one_not_within_a_minute() -> None:
    kept = Dumps()
    assert kept.reason(0.0, timeouts=1, is_open=False) == "a wait-queue timeout"
    assert kept.reason(2.0, timeouts=1, is_open=False) is None
    assert kept.reason(59.0, timeouts=2, is_open=False) is None
    assert kept.reason(61.0, timeouts=2, is_open=False) is None
    assert kept.reason(62.0, timeouts=3, is_open=False) == "a wait-queue timeout"


def test_an_outage_shows_it_at_its_beginning_only() -> None:
    kept = Dumps()
    assert kept.reason(0.0, timeouts=0, is_open=True) == "an outage"
    assert kept.reason(70.0, timeouts=0, is_open=True) is None
    assert kept.reason(80.0, timeouts=0, is_open=False) is None
    assert kept.reason(90.0, timeouts=0, is_open=True) == "an outage"


def test_a_process_that_ends_in_trouble_shows_it_unless_it_just_did() -> None:
    kept = Dumps()
    assert kept.reason_at_end(0.0, has_failed=False, is_open=False) is None
    assert kept.reason_at_end(0.0, has_failed=False, is_open=True) == "the end of a process in trouble"
    assert Dumps().reason_at_end(0.0, has_failed=True, is_open=False) == "the end of a process in trouble"
    assert kept.reason_at_end(59.0, has_failed=True, is_open=True) is None


def test_counters_that_were_reset_are_no_timeouts() -> None:
    kept = Dumps()
    kept.reason(0.0, timeouts=5, is_open=False)
    assert kept.reason(70.0, timeouts=0, is_open=False) is None
    assert kept.reason(80.0, timeouts=1, is_open=False) == "a wait-queue timeout"


def test_the_log_says_in_one_line_where_the_records_are_and_a_json_log_has_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    dumps.say(records(30), "an outage")
    (record,) = caplog.records
    assert record.getMessage() == "flight.dumped: an outage; `mongo flight` shows the 30 records"
    assert (vars(record)["event"], record.levelno) == (Event.FLIGHT_DUMPED, logging.INFO)
    assert len(vars(record)["fields"]["records"]) == 30
