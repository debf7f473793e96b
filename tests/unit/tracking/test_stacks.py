"""Where a thread or greenlet is, in lines that name code and nothing else."""

import sys
import threading
import weakref
from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any

import pymongo.uri_parser
import pytest

from worker.tracking.stacks import DEPTH, describe, stack_of


def waits(meet: threading.Event, leave: threading.Event) -> None:
    meet.set()
    leave.wait(5)


def in_thread(look: Callable[[int], Any]) -> Any:
    """Look at a thread that waits in `waits`, and then let it end."""
    meet, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=waits, args=(meet, leave))
    thread.start()
    meet.wait(5)
    try:
        return look(thread.ident or 0)
    finally:
        leave.set()
        thread.join()


def holder(thread: int, greenlet: Any = None) -> Any:
    return SimpleNamespace(thread=thread, greenlet=greenlet)


def deep(levels: int) -> tuple[str, ...]:
    return deep(levels - 1) if levels else describe(sys._getframe())


def test_a_threads_stack_is_lines_of_code_innermost_first_without_the_standard_library() -> None:
    stack = in_thread(lambda ident: stack_of(holder(ident)))
    assert len(stack) == 1
    assert stack[0].startswith(f"{__file__}:")
    assert stack[0].endswith(" in waits")


def test_a_thread_that_has_ended_has_no_stack() -> None:
    gone = in_thread(lambda ident: ident)
    assert stack_of(holder(gone)) == ()


def test_a_stack_is_cut_at_twelve_lines() -> None:
    stack = deep(2 * DEPTH)
    assert len(stack) == DEPTH == 12
    assert stack[0].endswith(" in deep")


def test_the_drivers_frames_are_left_out() -> None:
    """Two of pymongo's functions stand between the line that calls and the one that looks."""
    stacks: list[tuple[str, ...]] = []

    class Option(str):
        def lower(self) -> str:
            stacks.append(describe(sys._getframe()))
            return "appname"

    pymongo.uri_parser.validate_options({Option("appname"): "x"})
    assert {line.rpartition(" in ")[2] for line in stacks[0][:2]} == {
        "lower",
        "test_the_drivers_frames_are_left_out",
    }


def here(look: Callable[[Any], tuple[str, ...]]) -> tuple[str, ...]:
    return look(sys._getframe())


def test_a_project_in_a_folder_named_like_the_machinery_is_shown() -> None:
    code = here.__code__.replace(co_filename="/srv/celery/pymongo/tasks.py")
    body = FunctionType(code, globals())
    assert body(describe)[0] == f"/srv/celery/pymongo/tasks.py:{code.co_firstlineno + 1} in here"


class Greenlet:
    """What greenlet tells of one: its frame while it is switched away from, and whether it has ended."""

    def __init__(self, frame: Any, *, dead: bool = False) -> None:
        self.gr_frame, self.dead = frame, dead


def test_a_greenlet_that_runs_now_is_where_its_thread_is() -> None:
    greenlet = Greenlet(None)
    stack = in_thread(lambda ident: stack_of(holder(ident, weakref.ref(greenlet))))
    assert stack[0].endswith(" in waits")


@pytest.mark.parametrize("is_collected", [True, False])
def test_a_greenlet_that_has_ended_has_no_stack(is_collected: bool) -> None:
    """Its thread runs others by now."""
    greenlet = Greenlet(None, dead=True)
    reference = weakref.ref(greenlet)
    if is_collected:
        del greenlet
    assert in_thread(lambda ident: stack_of(holder(ident, reference))) == ()
