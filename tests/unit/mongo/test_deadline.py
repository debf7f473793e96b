"""One deadline for several questions: what is answered, what is not, and what is said of it."""

from __future__ import annotations

import threading

import pytest

from ops.deadline import Deadline, Seen


def test_an_answer_is_seen_and_an_error_is_told_by_its_class_alone() -> None:
    deadline = Deadline(5)

    def fail() -> int:
        raise ConnectionError("redis://:secret@host refused")

    def late() -> int:
        raise TimeoutError("a socket's")

    asked = [deadline.ask(lambda: 7), deadline.ask(fail), deadline.ask(late)]
    assert [one.seen() for one in asked] == [Seen(7), Seen(why="ConnectionError"), Seen(why="TimeoutError")]


def test_what_takes_too_long_is_not_waited_for_and_the_rest_is_seen_all_the_same() -> None:
    now, done = [100.0], threading.Event()
    deadline = Deadline(2.5, clock=lambda: now[0])
    slow, quick = deadline.ask(lambda: done.wait(10)), deadline.ask(lambda: "here")
    assert quick.seen() == Seen("here")
    now[0] += 3
    assert deadline.left == 0.0
    assert slow.seen() == Seen(why="no answer within 2.5 s")
    assert quick.seen() == Seen("here")
    done.set()


@pytest.mark.parametrize(("passed", "left"), [(0.0, 2.0), (0.5, 1.5), (9.0, 0.0)])
def test_what_is_left_shrinks_to_nothing(passed: float, left: float) -> None:
    now = [0.0]
    deadline = Deadline(2.0, clock=lambda: now[0])
    now[0] = passed
    assert deadline.left == left


def test_nobody_who_still_waits_keeps_the_program() -> None:
    done = threading.Event()
    before = set(threading.enumerate())
    Deadline(1).ask(done.wait)
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon
    done.set()
