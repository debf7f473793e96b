"""The cases of the Connection Monitoring and Pooling specification, replayed; see tests/spec/README.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo import monitoring as driver

from worker.pool.monitor import PoolMonitor

CASES = sorted((Path(__file__).parents[2] / "spec" / "connection_monitoring").glob("*.json"))
ADDRESS = ("a", 27017)
# In the cases this stands for any value.
ANY = 42
COUNTERS = {
    "ConnectionCreated": "created",
    "ConnectionClosed": "closed",
    "ConnectionCheckedOut": "checked_out",
    "ConnectionCheckOutFailed": "failed",
    "ConnectionPoolCleared": "cleared",
}


class Replay:
    """Sends PyMongo's events for those of a case, with connection ids where the case leaves them open."""

    def __init__(self, monitor: PoolMonitor) -> None:
        self.listener = monitor.listeners()[0]
        self.last_id = 0
        self.held: list[int] = []

    def send(self, event: dict[str, Any]) -> None:
        make: dict[str, Callable[[], None]] = {
            "ConnectionPoolCreated": lambda: self.listener.pool_created(
                driver.PoolCreatedEvent(ADDRESS, self._options(event))
            ),
            "ConnectionPoolReady": lambda: self.listener.pool_ready(driver.PoolReadyEvent(ADDRESS)),
            "ConnectionPoolCleared": lambda: self.listener.pool_cleared(driver.PoolClearedEvent(ADDRESS)),
            "ConnectionPoolClosed": lambda: self.listener.pool_closed(driver.PoolClosedEvent(ADDRESS)),
            "ConnectionCreated": lambda: self.listener.connection_created(
                driver.ConnectionCreatedEvent(ADDRESS, self._id(event))
            ),
            "ConnectionReady": lambda: self.listener.connection_ready(
                driver.ConnectionReadyEvent(ADDRESS, self._id(event), 0.01)
            ),
            "ConnectionClosed": lambda: self.listener.connection_closed(
                driver.ConnectionClosedEvent(ADDRESS, self._id(event), event.get("reason", "error"))
            ),
            "ConnectionCheckOutStarted": lambda: self.listener.connection_check_out_started(
                driver.ConnectionCheckOutStartedEvent(ADDRESS)
            ),
            "ConnectionCheckOutFailed": lambda: self.listener.connection_check_out_failed(
                driver.ConnectionCheckOutFailedEvent(ADDRESS, event.get("reason", "timeout"), 0.01)
            ),
            "ConnectionCheckedOut": lambda: self.listener.connection_checked_out(
                driver.ConnectionCheckedOutEvent(ADDRESS, self._out(event), 0.01)
            ),
            "ConnectionCheckedIn": lambda: self.listener.connection_checked_in(
                driver.ConnectionCheckedInEvent(ADDRESS, self._in(event))
            ),
        }
        make[event["type"]]()

    def _options(self, event: dict[str, Any]) -> dict[str, Any]:
        options = event.get("options", ANY)
        return {} if options == ANY else dict(options)

    def _id(self, event: dict[str, Any]) -> int:
        number: int = event.get("connectionId", ANY)
        if number == ANY:
            self.last_id += event["type"] == "ConnectionCreated"
            return self.last_id
        self.last_id = max(self.last_id, number)
        return number

    def _out(self, event: dict[str, Any]) -> int:
        number: int = event.get("connectionId", ANY)
        found = number if number != ANY else max([*self.held, 0]) + 1
        self.held.append(found)
        return found

    def _in(self, event: dict[str, Any]) -> int:
        number: int = event.get("connectionId", ANY)
        found = number if number != ANY else next(iter(self.held), 1)
        self.held = [held for held in self.held if held != found]
        return found


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_gauges_make_sense_after_each_event_of_the_specification(path: Path) -> None:
    """A case tells part of the events only, as if others were lost."""
    monitor, case = PoolMonitor(), json.loads(path.read_text())
    replay = Replay(monitor)
    for event in case["events"]:
        replay.send(event)
        for gauges in monitor.gauges().values():
            assert 0 <= gauges.in_use <= gauges.size, event
            assert gauges.waiting >= 0, event
            assert gauges.idle == gauges.size - gauges.in_use, event
    assert monitor.errors == 0
    counted = monitor.totals(0.0).count
    for kind, counter in COUNTERS.items():
        assert counted[counter] == sum(event["type"] == kind for event in case["events"]), counter


def test_all_the_cases_are_there() -> None:
    assert len(CASES) == 32
