"""What the supervisor of `ops/up` starts again, and when."""

from ops.local.supervision import (
    LONGEST_DELAY_SECONDS,
    STABLE_SECONDS,
    Act,
    Watch,
    delay_seconds,
    failed,
    started,
    step,
)


def test_a_service_never_seen_is_started_at_once():
    assert step(Watch(), running=False, now=100.0)[1] is Act.START


def test_a_running_service_is_left_alone():
    up = started(Watch(), 100.0)
    assert step(up, running=True, now=1000.0) == (up, Act.REST)


def test_an_end_is_said_once_and_the_start_waits_for_its_time():
    watch, act = step(started(Watch(), 100.0), running=False, now=101.0)
    assert act is Act.ENDED
    assert step(watch, running=False, now=101.4)[1] is Act.REST
    assert step(watch, running=False, now=101.5)[1] is Act.START


def test_each_early_end_doubles_the_wait_up_to_a_limit():
    watch, now, delays = Watch(), 0.0, []
    for _ in range(9):
        watch = failed(started(watch, now), now + 1)
        delays.append(watch.due_at - (now + 1))
        now = watch.due_at
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_long_run_forgives_what_went_before():
    tired = Watch(due_at=0.0, failures=7)
    watch, _ = step(started(tired, 100.0), running=False, now=100.0 + STABLE_SECONDS)
    assert watch.failures == 1


def test_a_start_that_fails_counts_like_an_end():
    watch = failed(failed(Watch(), 10.0), 11.0)
    assert (watch.failures, watch.due_at) == (2, 12.0)


def test_the_wait_never_overflows():
    assert delay_seconds(100_000) == LONGEST_DELAY_SECONDS
