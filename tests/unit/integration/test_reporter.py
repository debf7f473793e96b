"""The one thread of a process."""

import logging
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from worker.connection.link import Done
from worker.events import Event
from worker.integration.reporter import Reporter


class Process:
    """What a reporter needs of a process; its steps are counted and may fail."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.report: dict[str, Any] = {"verdict": "ok", "server": "MongoDB 8.0", "latency_ms": 1.5}
        self.fails: set[str] = set()
        self.happened = threading.Condition()
        self.holder = SimpleNamespace(state="open")
        self.answers = True
        self.watch = SimpleNamespace(run_if_stale=lambda: self._step("watch"))
        self.settings = SimpleNamespace(ping_timeout_seconds=2.0, mongodb_database="app")
        self.due_in: float | None = None
        self.is_redis_away = False
        self.link = SimpleNamespace(
            wake=threading.Event(),
            settle=lambda: self.answers,
            reconnect=lambda: self._step("reconnect"),
            due_in=lambda: self.due_in,
            circuit=SimpleNamespace(state="closed"),
            reconnected=None,
            look=self._look,
        )
        self.looks = 0
        self.look_in: float | None = None

    def _look(self) -> float | None:
        with self.happened:
            self.looks += 1
            self.happened.notify_all()
        if "look" in self.fails:
            raise ValueError("look")
        return self.look_in

    def keep_open(self) -> float:
        self._step("keep")
        return 10.0

    def tick(self, _now: float) -> None:
        self._step("show")

    def check(self) -> dict[str, Any]:
        self._step("check")
        return self.report

    def get_client(self) -> Any:
        collection = SimpleNamespace(find_one=lambda _filter: self._step("read"))
        return {"app": {"celery_pymongo.warm": collection}}

    def warn_of_foreign(self) -> None:
        self._step("foreign")

    def _step(self, name: str) -> None:
        with self.happened:
            self.steps.append(name)
            self.happened.notify_all()
        if name in self.fails:
            raise ValueError(name)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.happened:
            assert self.happened.wait_for(condition, timeout=5)


@pytest.fixture
def process(caplog: pytest.LogCaptureFixture) -> Process:
    caplog.set_level(logging.DEBUG, logger="celery_pymongo")
    return Process()


@pytest.fixture
def reporter(process: Process) -> Iterator[Reporter]:
    agent: Any = SimpleNamespace(tick=lambda _now, *, is_redis_away: process._step(f"tell {is_redis_away}"))
    made = Reporter(process, process, agent)  # type: ignore[arg-type] # all that it needs of these
    yield made
    made.stop()
    if made._thread.ident is not None:
        made.join(5)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.event for record in caplog.records if hasattr(record, "event")]


def test_it_warms_the_pool_first_and_then_looks_after_the_client(
    process: Process, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    reporter.start()
    process.wait_for(lambda: "foreign" in process.steps)
    assert process.steps[:5] == ["show", "check", "read", "reconnect", "foreign"]
    assert said(caplog) == [Event.CLIENT_WARM]
    assert "MongoDB 8.0 answered in 1.5 ms" in caplog.text


def test_it_says_nothing_warm_of_a_server_that_does_not_answer(
    process: Process, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    process.report = {"verdict": "down"}
    reporter.start()
    process.wait_for(lambda: "foreign" in process.steps)
    assert said(caplog) == []


def test_it_ends_at_once_when_asked_to(process: Process, reporter: Reporter) -> None:
    reporter.start()
    process.wait_for(lambda: "foreign" in process.steps)
    reporter.stop()
    assert reporter.join(1.5)


def test_it_says_where_it_did_not_end_in_time(process: Process, reporter: Reporter) -> None:
    go_on = threading.Event()
    process.check = lambda: go_on.wait(5) and process.report  # type: ignore[method-assign,assignment,return-value] # hangs
    reporter.start()
    reporter.stop()
    assert not reporter.join(0.0)
    go_on.set()
    assert reporter.join(5)


def test_it_goes_on_after_errors_and_says_them(
    process: Process, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    process.fails = {"check", "reconnect"}
    reporter.start()
    process.wait_for(lambda: "reconnect" in process.steps)
    process.fails = set()
    process.link.wake.set()
    process.wait_for(lambda: "foreign" in process.steps)
    assert said(caplog) == [Event.REPORTER_ERROR, Event.REPORTER_ERROR]
    assert "warm: ValueError: check" in caplog.text


def test_an_error_that_stays_is_said_once_until_it_went_and_came_back(
    process: Process, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    process.fails = {"show"}
    for _ in range(3):
        reporter._show_at = 0.0
        reporter._survive(reporter._show)
    assert said(caplog) == [Event.REPORTER_ERROR]
    process.fails = set()
    reporter._show_at = 0.0
    reporter._survive(reporter._show)
    process.fails = {"show"}
    reporter._show_at = 0.0
    reporter._survive(reporter._show)
    assert said(caplog) == [Event.REPORTER_ERROR] * 2


def test_a_change_of_the_circuit_is_shown_at_once_and_all_else_with_the_tick(
    process: Process, reporter: Reporter
) -> None:
    reporter._show()
    reporter._show()
    assert process.steps == ["show"]
    process.link.circuit.state = "open"
    reporter._show()
    assert process.steps == ["show", "show"]


def test_what_came_of_an_operators_order_is_shown_at_once(process: Process, reporter: Reporter) -> None:
    """Somebody waits for it."""
    reporter._show()
    process.link.reconnected = Done(1, 5.0)
    reporter._show()
    reporter._show()
    assert process.steps == ["show", "show"]


def test_it_judges_the_fleet_where_nobody_else_does(process: Process, reporter: Reporter) -> None:
    reporter._watch()
    assert process.steps == ["watch"]


@pytest.mark.parametrize(("due_in", "pause"), [(None, 2.0), (0.0, 0.01), (0.5, 0.5), (30.0, 2.0)])
def test_it_looks_again_when_an_attempt_is_due_and_at_each_tick(
    process: Process, reporter: Reporter, due_in: float | None, pause: float
) -> None:
    reporter._show()
    process.due_in = due_in
    assert reporter._pause() == pytest.approx(pause, rel=0.11)


def test_an_outage_that_an_error_led_to_is_shown_before_the_first_attempt(
    process: Process, reporter: Reporter
) -> None:
    process.answers = False
    reporter._reconnect()
    assert process.steps == ["foreign"]
    process.answers = True
    reporter._reconnect()
    assert process.steps == ["foreign", "reconnect", "foreign"]


def test_it_looks_after_a_client_that_could_not_be_made_yet(process: Process, reporter: Reporter) -> None:
    process.holder.state = "not open"
    reporter._reconnect()
    assert process.steps == ["reconnect", "foreign"]


def test_it_rests_where_the_client_was_closed(process: Process, reporter: Reporter) -> None:
    process.holder.state = "closed"
    process.due_in = 0.0
    reporter._reconnect()
    assert process.steps == []
    reporter._show()
    assert reporter._pause() == pytest.approx(2.0, rel=0.11)


def test_it_never_keeps_a_process_from_ending(process: Process, reporter: Reporter) -> None:
    assert reporter._thread.daemon
    assert reporter._thread.name == "celery-pymongo-reporter"
    assert reporter._watchman.daemon


def test_it_watches_for_a_server_that_hangs_while_its_first_thread_waits(
    process: Process, reporter: Reporter
) -> None:
    go_on = threading.Event()
    process.check = lambda: go_on.wait(5) and process.report  # type: ignore[method-assign,assignment,return-value] # hangs
    process.look_in = 0.0
    reporter.start()
    process.wait_for(lambda: process.looks >= 3)
    go_on.set()


def test_its_watch_survives_an_error_and_ends_when_it_is_asked_to(
    process: Process, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    process.fails = {"look"}
    process.look_in = 0.0
    reporter._look_in = 0.0
    reporter.start()
    process.wait_for(lambda: process.looks >= 2)
    assert "look: ValueError: look" in caplog.text
    reporter.stop()
    reporter._watchman.join(5)
    assert not reporter._watchman.is_alive()
