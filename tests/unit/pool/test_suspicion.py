"""Long holds and leaks: what is found, when, how often it is told, and what is counted."""

import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from worker.pool.monitor import PoolMonitor
from worker.pool.suspicion import Suspicion, long_holds
from worker.process.findings import say
from worker.tracking.checkouts import Holder
from worker.tracking.findings import Finding, Leak, LeakReturned, LongHold, Returned
from worker.tracking.flight import Kind
from worker.tracking.work import Work

LIMIT = 5.0


class Session:
    """What PyMongo tells of a session."""

    def __init__(self, *, in_transaction: bool = False) -> None:
        self.has_ended = False
        self.in_transaction = in_transaction


class World:
    """A suspicion over holders and works that the test makes; `at` is now."""

    def __init__(self) -> None:
        self.monitor = PoolMonitor()
        self.records: list[tuple[Kind, float, str]] = []
        self.suspicion = Suspicion(self.monitor, limit=LIMIT, record=self._record)

    def _record(self, kind: Kind, number: float, text: str) -> None:
        self.records.append((kind, number, text))

    def borrow(self, work: Work | None, *, at: float, stack: Any = None) -> int:
        key = len(self.monitor.holders) + 1
        holder = self.monitor.holders[key] = Holder()
        holder.work, holder.since, holder.server = work, at, "h:1"
        holder.thread, holder.greenlet = threading.get_ident(), None
        holder.stack, holder.flagged = stack, False
        return key

    def end(self, name: str, *sessions: Session, at: float) -> Work:
        """End a task that leaves these sessions."""
        work = Work(name, f"{name}-{at:g}", at)
        work.sessions = dict.fromkeys(sessions, ())  # type: ignore[assignment] # as good as the weak one
        return self.finish(work, at=at)

    def finish(self, work: Work, *, at: float) -> Work:
        work.ended_at = at
        self.suspicion.watch(work)
        return work

    def tick(self, now: float) -> list[Finding]:
        return self.suspicion.tick(now)

    @property
    def counts(self) -> tuple[int, int, int]:
        suspicion = self.suspicion
        return suspicion.long_holds, suspicion.leaks, suspicion.false_alarms


@pytest.fixture
def world() -> World:
    return World()


class TestLongHolds:
    def test_only_what_is_longer_than_the_limit_and_not_flagged_is_long(self) -> None:
        holders: list[Any] = [
            SimpleNamespace(since=since, flagged=flagged)
            for since, flagged in [(0.0, False), (0.0, True), (5.0, False), (6.0, False)]
        ]
        assert long_holds(holders, 10.0, LIMIT) == [holders[0]]

    def test_one_is_told_once_with_its_task_and_where_it_is(self, world: World) -> None:
        world.borrow(Work("t", "1", 0.0), at=1.0)
        assert world.tick(6.0) == []
        (found,) = world.tick(7.0)
        assert isinstance(found, LongHold)
        assert (found.task, found.id, found.seconds, found.server) == ("t", "1", 6.0, "h:1")
        assert any(line.startswith(f"{__file__}:") for line in found.stack)
        assert world.tick(9.0) == []

    def test_its_task_is_a_suspect_from_then_on_whose_borrowing_is_shown(self, world: World) -> None:
        world.borrow(Work("t", "1", 0.0), at=1.0)
        assert not world.suspicion.is_suspect("t")
        world.tick(7.0)
        assert world.suspicion.is_suspect("t")
        world.borrow(Work("t", "2", 0.0), at=70.0, stack=("a.py:1 in f",))
        (found,) = world.tick(76.0)
        assert isinstance(found, LongHold)
        assert found.borrowed == ("a.py:1 in f",)

    def test_it_is_told_when_it_comes_back(self, world: World) -> None:
        key = world.borrow(Work("t", "1", 0.0), at=1.0)
        world.tick(7.0)
        del world.monitor.holders[key]
        assert world.tick(9.0) == [Returned("t", "1", 8.0, "h:1")]
        assert world.tick(11.0) == []
        assert world.counts == (1, 0, 0)

    def test_a_short_hold_that_comes_back_is_not_told(self, world: World) -> None:
        key = world.borrow(Work("t", "1", 0.0), at=1.0)
        world.tick(3.0)
        del world.monitor.holders[key]
        assert world.tick(5.0) == []

    def test_the_same_task_is_warned_of_once_a_minute_and_counted_always(self, world: World) -> None:
        keys = [world.borrow(Work("t", str(number), 0.0), at=0.0) for number in range(3)]
        assert len(world.tick(6.0)) == 1
        world.borrow(Work("u", "1", 0.0), at=0.0)
        assert [found.task for found in world.tick(8.0)] == ["u"]
        assert world.counts == (4, 0, 0)
        for key in keys:
            del world.monitor.holders[key]
        # Of the two that no warning told of, no info tells either.
        assert len(world.tick(10.0)) == 1
        world.borrow(Work("t", "8", 0.0), at=10.0)
        assert world.tick(40.0) == []
        world.borrow(Work("t", "9", 0.0), at=50.0)
        assert len(world.tick(70.0)) == 1

    def test_a_hold_outside_a_task_is_told_without_a_name(self, world: World) -> None:
        world.borrow(None, at=0.0)
        (found,) = world.tick(6.0)
        assert (found.task, found.id) == (None, None)
        assert world.monitor.suspects == set()

    def test_a_hold_and_its_return_are_recorded(self, world: World) -> None:
        key = world.borrow(Work("t", "1", 0.0), at=0.0)
        world.tick(6.0)
        del world.monitor.holders[key]
        world.tick(8.0)
        assert world.records == [(Kind.LONG_HOLD, 6.0, "t"), (Kind.RETURNED, 8.0, "t")]


class TestLeaks:
    def test_a_session_that_is_open_after_the_grace_is_told_once(self, world: World) -> None:
        session = Session()
        world.end("t", session, at=10.0)
        assert world.tick(11.9) == []
        assert world.tick(12.5) == [Leak("t", "t-10", 2.5, "a session", ())]
        assert world.tick(14.5) == []
        assert world.counts == (0, 1, 0)
        assert world.records == [(Kind.LEAK, 2.5, "a session: t")]

    def test_what_ends_within_the_grace_is_no_leak(self, world: World) -> None:
        session = Session()
        world.end("t", session, at=10.0)
        session.has_ended = True
        assert world.tick(13.0) == []
        assert world.counts == (0, 0, 0)

    def test_a_task_that_left_nothing_is_not_even_remembered(self, world: World) -> None:
        session = Session()
        session.has_ended = True
        world.borrow(Work("other", "1", 0.0), at=9.0)
        world.end("t", session, at=10.0)
        world.end("t", at=10.0)
        session.has_ended = False
        assert world.tick(13.0) == []

    def test_several_of_one_task_are_one_warning_and_counted_each(self, world: World) -> None:
        sessions = [Session(), Session(), Session(in_transaction=True)]
        world.end("t", *sessions, at=10.0)
        (found,) = world.tick(12.0)
        assert isinstance(found, Leak)
        assert found.what == "a session (2 times), a session in a transaction"
        assert world.counts == (0, 3, 0)

    def test_one_that_goes_away_later_was_a_false_alarm(self, world: World) -> None:
        sessions = [Session(), Session()]
        world.end("t", *sessions, at=10.0)
        world.tick(12.0)
        sessions[0].has_ended = True
        assert world.tick(14.0) == [LeakReturned("t", "t-10", 4.0, "a session")]
        assert world.tick(16.0) == []
        sessions[1].has_ended = True
        assert len(world.tick(18.0)) == 1
        assert world.counts == (0, 2, 2)

    def test_the_same_task_is_warned_of_once_a_minute_and_its_return_only_if_it_was(
        self, world: World
    ) -> None:
        sessions = [Session(), Session()]
        world.end("t", sessions[0], at=10.0)
        world.end("t", sessions[1], at=11.0)
        assert [found.id for found in world.tick(14.0)] == ["t-10"]
        sessions[1].has_ended = True
        assert world.tick(16.0) == []
        assert world.counts == (0, 2, 1)

    def test_its_task_is_a_suspect_from_then_on(self, world: World) -> None:
        session = Session()
        world.end("t", session, at=10.0)
        world.tick(12.0)
        assert world.monitor.suspects == {"t"}

    def test_where_it_was_opened_is_told_if_it_was_recorded(self, world: World) -> None:
        session, work = Session(), Work("t", "1", 0.0)
        work.sessions = {session: ("a.py:1 in f",)}  # type: ignore[assignment] # as good as the weak one
        world.finish(work, at=10.0)
        (found,) = world.tick(12.0)
        assert isinstance(found, Leak)
        assert found.borrowed == ("a.py:1 in f",)

    def test_a_connection_that_its_task_did_not_return_is_a_leak_and_no_long_hold(self, world: World) -> None:
        work = Work("t", "1", 0.0)
        key = world.borrow(work, at=9.0)
        world.finish(work, at=10.0)
        assert world.tick(12.0) == [Leak("t", "1", 2.0, "a connection to h:1", ())]
        assert world.tick(20.0) == []
        del world.monitor.holders[key]
        assert world.tick(22.0) == [LeakReturned("t", "1", 12.0, "a connection to h:1")]
        assert world.counts == (0, 1, 1)

    def test_what_leaks_at_every_run_is_kept_in_bounds(self, world: World) -> None:
        sessions = [[Session() for _ in range(60)] for _ in range(60)]
        for run in sessions:
            world.end("t", *run, at=10.0)
        world.tick(12.0)
        assert world.counts == (0, 3600, 0)
        for run in sessions:
            for session in run:
                session.has_ended = True
        world.tick(14.0)
        assert world.counts == (0, 3600, 2500)


class TestLog:
    STACK = ("a.py:1 in f", "b.py:2 in g")

    @pytest.mark.parametrize(
        ("finding", "level", "line"),
        [
            (
                LongHold("t", "1", 7.25, "h:1", STACK, ()),
                "WARNING",
                "pool.long_hold: task t[1] has held the connection to h:1 for 7.2 s\n"
                "  it is at a.py:1 in f\n  from b.py:2 in g",
            ),
            (
                LongHold(None, None, 7.0, "h:1", (), STACK[:1]),
                "WARNING",
                "pool.long_hold: no task: has held the connection to h:1 for 7.0 s\n"
                "  it borrowed it at a.py:1 in f",
            ),
            (
                Returned("t", "1", 8.0, "h:1"),
                "INFO",
                "pool.returned: task t[1] has returned what it held, the connection to h:1 for 8.0 s",
            ),
            (
                Leak("t", "1", 2.0, "a session", STACK[:1]),
                "WARNING",
                "pool.leak: task t[1] ended 2.0 s ago and left open: a session\n  opened at a.py:1 in f",
            ),
            (
                LeakReturned("t", "1", 9.0, "a session"),
                "INFO",
                "pool.returned: task t[1] left open what is gone now, 9.0 s after its end: a session",
            ),
        ],
    )
    def test_a_finding_is_one_line_and_its_stacks(
        self, caplog: pytest.LogCaptureFixture, finding: Finding, level: str, line: str
    ) -> None:
        caplog.set_level(logging.INFO)
        say([finding], logging.getLogger("x"))
        (record,) = caplog.records
        assert (record.levelname, record.getMessage()) == (level, line)
        assert record.__dict__["fields"]["task_id"] == finding.id


def test_what_is_held_beyond_the_limit_now_is_told_by_its_longest() -> None:
    world = World()
    world.borrow(Work("short", "1", 0.0), at=96.0)
    assert world.suspicion.held(100.0) is None
    world.borrow(Work("long", "2", 0.0), at=60.0)
    key = world.borrow(None, at=40.0)
    assert world.suspicion.held(100.0) == {"n": 2, "seconds": 60.0, "task": None}
    del world.monitor.holders[key]
    assert world.suspicion.held(100.0) == {"n": 1, "seconds": 40.0, "task": "long"}


def test_what_was_left_open_is_told_while_it_is_open() -> None:
    world, session = World(), Session()
    world.end("leaks", session, Session(in_transaction=True), at=10.0)
    assert world.suspicion.left() is None
    world.tick(13.0)
    assert world.suspicion.left() is not None
    session.has_ended = True
    world.tick(15.0)
    left = world.suspicion.left()
    assert left is not None
    assert left["task"] == "leaks"
    assert "(" not in left["what"]
