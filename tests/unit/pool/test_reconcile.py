"""When a difference between events and the pool's counters is a drift."""

import pytest

from worker.pool.reconcile import BUSY_LOOKS, Look, Off, drift

NONE = Off()


def looks(*waiting: int, busy: bool = False) -> list[Look]:
    return [Look(0.0, (number if busy else 0,), Off(waiting=each)) for number, each in enumerate(waiting)]


def test_one_look_is_no_drift():
    assert drift(looks(-1)) == NONE


def test_two_equal_looks_at_a_pool_at_rest_are():
    assert drift(looks(-1, -1)) == Off(waiting=-1)


def test_what_an_operation_made_for_a_moment_is_not():
    assert drift(looks(-1, 0)) == NONE
    assert drift(looks(1, -1)) == NONE


def test_of_two_looks_that_differ_the_smaller_difference_is():
    assert drift(looks(3, 2)) == Off(waiting=2)
    assert drift(looks(-3, -2)) == Off(waiting=-2)


def test_a_pool_that_never_rests_takes_the_looks_of_a_minute():
    assert drift(looks(*[-1] * (BUSY_LOOKS - 1), busy=True)) == NONE
    assert drift(looks(*[-1] * BUSY_LOOKS, busy=True)) == Off(waiting=-1)
    assert drift(looks(*[-1] * 20, 0, *[-1] * 9, busy=True)) == NONE


def test_rest_after_work_takes_two():
    assert drift([*looks(-1, 0, -1, busy=True), *looks(-2, -2)]) == Off(waiting=-2)


@pytest.mark.parametrize("off", [Off(size=1), Off(in_use=-1), Off(waiting=2)])
def test_each_gauge_is_judged_by_itself(off: Off):
    assert drift([Look(0.0, (), off)] * 2) == off
    assert off
    assert not NONE


def test_the_amount_is_all_of_it():
    assert Off(1, -2, 3).amount == 6
