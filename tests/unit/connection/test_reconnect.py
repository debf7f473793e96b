"""When an attempt is due, and what one does."""

import json
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.connection.circuit import Circuit, CircuitState
from worker.connection.node_peers import Alone
from worker.connection.reconnect import NUDGE_SECONDS, SPREAD_SECONDS, STUCK, Attempt, Reconnector, Schedule
from worker.mongo.backoff import Backoff
from worker.mongo.classify import ErrorClass
from worker.server.pings import Ping, Verdict

# No deadline: a machine that is busy with other things is no fault.
QUICK = settings(max_examples=50, deadline=None)

OK = Ping(Verdict.OK, 1.0)
REFUSED = Ping(Verdict.DOWN, None, ErrorClass.OUTAGE, "AutoReconnect: refused")
BAD_AUTH = Ping(Verdict.DOWN, None, ErrorClass.AUTH, "OperationFailure: bad auth")


class Siblings(Alone):
    """The other processes of the node, as the test has them."""

    prober = returned = reaching = cut_off = False

    def is_prober(self) -> bool:
        return self.prober

    def has_returned(self) -> bool:
        returned, self.returned = self.returned, False
        return returned

    def reaches(self) -> bool:
        return self.reaching

    def is_cut_off(self) -> bool:
        return self.cut_off


class World:
    """A clock, a circuit and pings that end as they are told."""

    def __init__(self, *pings: Ping | Exception, can_replace: bool = False) -> None:
        self.now = 100.0
        self.pings = list(pings)
        self.can_replace = can_replace
        self.replaced: list[ErrorClass] = []
        self.renewed = 0
        self.company = Siblings()
        self.circuit = Circuit()
        self.reconnector = Reconnector(
            self.circuit,
            Backoff(base=1, cap=8),
            probe=self._probe,
            replace=self._replace,
            clock=lambda: self.now,
            renew=self._renew,
            company=self.company,
        )

    def _probe(self) -> Ping:
        ping = self.pings.pop(0)
        if isinstance(ping, Exception):
            raise ping
        if ping.is_answered:
            self.circuit.succeed(self.now, "ping")
        else:
            self.circuit.fail(self.now, "ping")
        return ping

    def _renew(self) -> bool:
        self.renewed += 1
        return True

    def _replace(self, error_class: ErrorClass) -> bool:
        self.replaced.append(error_class)
        return self.can_replace


def lost(*pings: Ping | Exception, can_replace: bool = False) -> World:
    world = World(*pings, can_replace=can_replace)
    world.circuit.fail(world.now, "refused")
    return world


@QUICK
@given(st.lists(st.floats(min_value=0, max_value=100), max_size=30))
def test_a_failure_is_due_again_within_the_ceiling(waits: list[float]) -> None:
    backoff = Backoff(base=0.5, cap=30)
    schedule, now = Schedule(backoff), 100.0
    for failures, wait in enumerate(waits):
        delay = schedule.failed(now)
        assert 0 <= delay <= backoff.ceiling(failures)
        assert schedule.is_due(now + delay)
        assert schedule.failures == failures + 1
        now += wait
    schedule.succeeded()
    assert schedule.failures == 0
    assert schedule.is_due(now)


def test_being_woken_makes_due_without_forgetting_the_failures() -> None:
    schedule = Schedule(Backoff(base=1e9, cap=1e9))
    schedule.failed(1.0)
    assert not schedule.is_due(1.0)
    schedule.wake()
    assert schedule.is_due(1.0)
    assert schedule.failures == 1


def test_nothing_is_done_while_the_circuit_is_closed() -> None:
    assert World().reconnector.run_if_due() is None


def test_the_first_attempt_is_due_at_once_and_closes_the_circuit() -> None:
    world = lost(OK)
    assert world.reconnector.due_in() == 0.0
    assert world.reconnector.run_if_due() == Attempt(connected=True, number=1, replaced_client=False)
    assert world.circuit.is_closed


def test_an_attempt_that_fails_says_when_the_next_is_due_and_none_is_made_before() -> None:
    world = lost(REFUSED, REFUSED, OK)
    attempt = world.reconnector.run_if_due()
    assert attempt is not None
    assert attempt.next_in_seconds is not None
    assert (attempt.connected, attempt.number, attempt.error_class) == (False, 1, ErrorClass.OUTAGE)
    assert world.circuit.state is CircuitState.OPEN
    assert world.reconnector.due_in() == pytest.approx(attempt.next_in_seconds, abs=0.001)
    if world.reconnector.due_in() > 0:
        assert world.reconnector.run_if_due() is None
    world.now += 1
    second = world.reconnector.run_if_due()
    assert second is not None
    assert second.number == 2


def test_being_woken_makes_the_next_attempt_due_now() -> None:
    world = lost(REFUSED, OK)
    world.reconnector.run_if_due()
    world.reconnector.wake()
    assert world.reconnector.due_in() == 0.0
    attempt = world.reconnector.run_if_due()
    assert attempt is not None
    assert attempt.connected


def test_a_recovery_that_somebody_else_saw_starts_the_next_outage_from_nothing() -> None:
    world = lost(*[REFUSED] * 6, REFUSED)
    for _ in range(6):
        world.reconnector.attempt()
    world.reconnector.reset()
    assert world.reconnector.due_in() == 0.0
    attempt = world.reconnector.attempt()
    assert attempt is not None
    assert attempt.number == 1
    assert attempt.next_in_seconds is not None
    assert attempt.next_in_seconds <= 1


def test_a_client_that_cannot_come_back_is_replaced_and_probed_again() -> None:
    world = lost(BAD_AUTH, OK, can_replace=True)
    assert world.reconnector.attempt() == Attempt(connected=True, number=1, replaced_client=True)
    assert world.replaced == [ErrorClass.AUTH]


def test_a_client_that_no_replacement_helps_is_probed_once() -> None:
    world = lost(BAD_AUTH)
    attempt = world.reconnector.attempt()
    assert attempt is not None
    assert (attempt.connected, attempt.replaced_client, attempt.error) == (False, False, BAD_AUTH.error)


@pytest.mark.parametrize("error", [TimeoutError("soft time limit"), ValueError("settings")])
def test_an_attempt_that_breaks_off_is_counted_and_not_due_again_at_once(error: Exception) -> None:
    """Otherwise the reporter would try again every 10 ms."""
    world = lost(error)
    world.reconnector._schedule = Schedule(Backoff(base=1e9, cap=1e9))
    with pytest.raises(type(error)):
        world.reconnector.run_if_due()
    assert world.reconnector.due_in() > 0
    assert world.circuit.state is CircuitState.OPEN
    assert world.reconnector.run_if_due() is None


def test_a_forced_attempt_that_breaks_off_leaves_a_closed_circuit_closed() -> None:
    world = World(ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        world.reconnector.attempt()
    assert world.circuit.is_closed


def test_one_attempt_is_made_at_a_time() -> None:
    world = lost(OK)
    inner: list[Any] = []

    def probe() -> Ping:
        thread = threading.Thread(target=lambda: inner.append(world.reconnector.attempt()))
        thread.start()
        thread.join()
        return OK

    world.reconnector._probe = probe
    assert world.reconnector.attempt() is not None
    assert inner == [None]
    assert world.reconnector.attempt() is not None


def test_a_probe_is_seen_as_half_open() -> None:
    world = lost()
    seen: list[CircuitState] = []

    def probe() -> Ping:
        seen.append(world.circuit.state)
        return REFUSED

    world.reconnector._probe = probe
    world.reconnector.attempt()
    assert seen == [CircuitState.HALF_OPEN]


def test_an_attempt_is_plain_json() -> None:
    attempt = lost(REFUSED).reconnector.attempt()
    assert attempt is not None
    told = json.loads(json.dumps(attempt.to_dict()))
    assert told["error_class"] == "outage"
    assert told["connected"] is False


# --- the other processes of the node ---


def slow(*pings: Ping | Exception) -> World:
    """A world whose own backoff is as good as for ever."""
    world = lost(*pings)
    world.reconnector._schedule = Schedule(Backoff(base=1e9, cap=1e9))
    return world


def test_the_prober_keeps_nudging_however_often_it_failed() -> None:
    world = slow(*[REFUSED] * 50)
    world.company.prober = True
    pauses = []
    for _ in range(50):
        attempt = world.reconnector.run_if_due()
        assert attempt is not None
        pauses.append(world.reconnector.due_in())
        world.now += pauses[-1]
    assert all(NUDGE_SECONDS / 2 <= pause <= NUDGE_SECONDS for pause in pauses)
    assert len(set(pauses)) > 40


def test_others_wait_their_backoff_out() -> None:
    world = slow(REFUSED)
    world.reconnector.run_if_due()
    assert world.reconnector.due_in() > 10
    assert world.reconnector.run_if_due() is None


def test_whoever_becomes_the_prober_begins_at_once() -> None:
    world = slow(REFUSED)
    world.reconnector.run_if_due()
    world.company.prober = True
    assert world.reconnector.run_if_due() is None
    assert world.reconnector.due_in() <= NUDGE_SECONDS


def test_the_success_of_another_process_wakes_this_one_within_two_seconds() -> None:
    dues = []
    for _ in range(30):
        world = slow(REFUSED, OK)
        world.reconnector.run_if_due()
        world.company.returned = True
        assert world.reconnector.run_if_due() is None
        dues.append(world.reconnector.due_in())
        world.now += SPREAD_SECONDS
        attempt = world.reconnector.run_if_due()
        assert attempt is not None
        assert attempt.connected
    assert max(dues) <= SPREAD_SECONDS
    assert max(dues) - min(dues) > SPREAD_SECONDS / 4


def test_a_client_that_fails_where_another_succeeds_is_replaced_less_and_less_often() -> None:
    world = lost(*[REFUSED] * 100)
    world.company.reaching = True
    at: list[int] = []
    for number in range(1, 1 + 4 * STUCK):
        before = world.renewed
        world.reconnector.attempt()
        at += [number] * (world.renewed - before)
    assert at == [STUCK, 2 * STUCK, 4 * STUCK]


def test_a_client_that_fails_like_all_others_is_not_replaced() -> None:
    world = lost(*[REFUSED] * 4 * STUCK)
    for _ in range(4 * STUCK):
        world.reconnector.attempt()
    assert world.renewed == 0


def test_a_success_makes_a_stuck_client_an_ordinary_one_again() -> None:
    world = lost(*[REFUSED] * (STUCK + 1), OK, *[REFUSED] * (STUCK + 1))
    world.company.reaching = True
    for _ in range(STUCK + 1):
        world.reconnector.attempt()
    assert world.renewed == 1
    for _ in range(STUCK):
        world.reconnector.attempt()
    assert world.renewed == 2
