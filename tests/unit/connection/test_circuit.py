"""The circuit: any order of events, from any thread."""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.connection.circuit import Change, Circuit, CircuitState

# No deadline: a machine that is busy with other things is no fault.
QUICK = settings(max_examples=50, deadline=None)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

STEPS = st.lists(
    st.tuples(st.sampled_from(["fail", "probe", "succeed"]), st.floats(min_value=0, max_value=100)),
    max_size=20,
)


def act(circuit: Circuit, step: str, now: float) -> Change | None:
    if step == "probe":
        return circuit.probe(now)
    return circuit.fail(now, "why") if step == "fail" else circuit.succeed(now, "why")


@QUICK
@given(STEPS)
def test_each_real_change_is_returned_once_and_nothing_else_is(steps: list[tuple[str, float]]) -> None:
    circuit, now = Circuit(), 0.0
    for step, wait in steps:
        now += wait
        before = circuit.state
        change = act(circuit, step, now)
        if change is None:
            assert circuit.state is before
        else:
            assert (change.before, change.after) == (before, circuit.state)
            assert change.before is not change.after
            assert change.lasted >= 0


@QUICK
@given(STEPS)
def test_only_an_open_circuit_becomes_half_open(steps: list[tuple[str, float]]) -> None:
    circuit, now = Circuit(), 0.0
    for step, wait in steps:
        now += wait
        change = act(circuit, step, now)
        assert change is None or change.after is not HALF_OPEN or change.before is OPEN


@QUICK
@given(STEPS)
def test_the_outage_grows_until_the_circuit_is_closed(steps: list[tuple[str, float]]) -> None:
    circuit, now, before = Circuit(), 0.0, 0.0
    for step, wait in steps:
        now += wait
        act(circuit, step, now)
        outage = circuit.outage_seconds(now)
        if circuit.is_closed:
            assert outage == 0
        else:
            assert outage >= before
        before = outage


def test_a_change_says_how_long_the_outage_has_lasted() -> None:
    """From the first failure: a failed probe in between does not start it anew."""
    circuit = Circuit()
    assert circuit.fail(10.0, "refused") == Change(CLOSED, OPEN, 0.0, "refused")
    assert circuit.fail(11.0, "refused") is None
    assert circuit.probe(12.0) == Change(OPEN, HALF_OPEN, 2.0, "probe")
    assert circuit.fail(13.0, "refused") == Change(HALF_OPEN, OPEN, 3.0, "refused")
    assert circuit.outage_seconds(15.0) == 5.0
    assert circuit.succeed(17.0, "ping") == Change(OPEN, CLOSED, 7.0, "ping")
    assert circuit.outage_seconds(20.0) == 0.0


def test_an_outage_is_never_negative_where_two_threads_read_the_clock() -> None:
    circuit = Circuit()
    circuit.fail(10.0, "refused")
    assert circuit.outage_seconds(9.9) == 0.0
    change = circuit.succeed(9.9, "ping")
    assert change is not None
    assert change.lasted == 0.0


def test_a_probe_that_loses_the_race_against_recovery_leaves_the_circuit_closed() -> None:
    """The question whether it is open and the move to half-open are one step."""
    circuit = Circuit()
    circuit.fail(1.0, "refused")
    lock = circuit._lock

    class Overtaken:
        """The lock, which another thread had first: it found the server."""

        def __enter__(self) -> None:
            circuit._lock = lock
            circuit.succeed(2.0, "ping")

        def __exit__(self, *_error: object) -> None:
            """Nothing is held."""

    circuit._lock = Overtaken()  # type: ignore[assignment] # stands in for one step
    assert circuit.probe(2.0) is None
    assert circuit.is_closed
    assert circuit.outage_seconds(3.0) == 0.0


def test_threads_that_fail_and_succeed_at_once_see_as_many_openings_as_closings() -> None:
    circuit, changes = Circuit(), []
    start = threading.Barrier(4)

    def run(step: str) -> None:
        start.wait()
        for now in range(300):
            changes.append(act(circuit, step, float(now)))
            circuit.outage_seconds(float(now))

    threads = [threading.Thread(target=run, args=(step,)) for step in ("fail", "succeed", "probe", "fail")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = [change for change in changes if change is not None]
    opened = sum(change.before is CLOSED for change in made)
    closed = sum(change.after is CLOSED for change in made)
    assert opened - closed == (not circuit.is_closed)


def test_an_outage_is_remembered_after_its_end() -> None:
    circuit = Circuit()
    assert not circuit.was_open_since(0.0)
    circuit.fail(10.0, "x")
    assert circuit.was_open_since(99.0)
    circuit.probe(11.0)
    assert circuit.was_open_since(99.0)
    circuit.succeed(12.0, "ping")
    assert [circuit.was_open_since(moment) for moment in (9.0, 11.0, 12.0, 12.1)] == [True, True, True, False]


def test_an_open_circuit_is_waited_for() -> None:
    circuit = Circuit()
    assert not circuit.wait_open(0.0)
    circuit.fail(10.0, "x")
    assert circuit.wait_open(0.0)
    circuit.probe(11.0)
    assert circuit.wait_open(0.0)
    circuit.succeed(12.0, "ping")
    assert not circuit.wait_open(0.0)


def test_an_outage_that_was_noticed_late_lasts_from_its_beginning() -> None:
    circuit = Circuit()
    circuit.fail(104.0, "hung", since=100.0)
    assert circuit.outage_seconds(110.0) == 10.0


def test_how_long_ago_an_outage_ended_is_known_until_the_next() -> None:
    circuit = Circuit()
    assert circuit.closed_seconds(1.0) is None
    circuit.fail(1.0, "x")
    assert circuit.closed_seconds(2.0) is None
    circuit.succeed(3.0, "ping")
    assert circuit.closed_seconds(5.0) == 2.0
    circuit.fail(6.0, "x")
    assert circuit.closed_seconds(7.0) is None


def test_what_opened_the_circuit_may_learn_later_that_it_had_begun_before() -> None:
    circuit = Circuit()
    circuit.fail(102.0, "ping")
    assert circuit.fail(104.0, "hung", since=100.0) is None
    circuit.probe(105.0)
    circuit.fail(106.0, "hung", since=103.0)
    assert circuit.outage_seconds(110.0) == 10.0
    change = circuit.succeed(112.0, "ping")
    assert change is not None
    assert change.lasted == 12.0
    circuit.fail(120.0, "ping")
    assert circuit.outage_seconds(121.0) == 1.0
