"""Who holds which connection now, since when, and what waiting and holding took, by task."""

import sys
import weakref
from collections.abc import Callable
from itertools import count
from typing import Any

from .stacks import describe
from .task_times import SlowestHolds, TasksTimes
from .work import Work, current_work

# Connection ids of one pool; beyond it they would meet those of the next.
POOL_SPACE = 1 << 40


class Holder:
    """One connection that is checked out: since when (monotonic s), after how long a wait, by whom.

    `greenlet` holds it where that is not the thread itself. `stack` is the frames that borrowed it, innermost
    first, where its task is a suspect. `flagged` is for who looks for long holds.
    """

    # Without __init__: it would cost 150 ns of each checkout.
    __slots__ = ("flagged", "greenlet", "server", "since", "stack", "thread", "wait", "work")

    flagged: bool
    greenlet: "weakref.ref[Any] | None"
    server: str
    since: float
    stack: tuple[str, ...] | None
    thread: int
    wait: float
    work: Work | None


class Checkouts:
    """What is checked out in this process, and the times by task; `PoolEvents` keeps it.

    `holders` is by a connection's number, see `PoolState`; `bases` is where each pool's numbers begin. Of the
    tasks named in `suspects` each checkout remembers its stack.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.holders: dict[int, Holder] = {}
        self.bases = count(0, POOL_SPACE)
        self.suspects: set[str] = set()
        self.tasks = TasksTimes()
        self.slowest = SlowestHolds()

    def fail(self, wait: float) -> None:
        """A checkout failed after `wait` seconds."""
        work = current_work.get()
        if work is not None:
            work.waited += wait
            times = self.tasks[work.name]
            times.failed += 1
            times.waited += wait
            times.longest_wait = max(times.longest_wait, wait)

    def reset(self) -> None:
        """Begin anew with the times by task; holders are not touched."""
        self.tasks.clear()
        self.slowest.clear()


def borrowed(work: Work, suspects: set[str]) -> tuple[str, ...] | None:
    """Return the stack that borrows now, if its task is one of the suspects."""
    return describe(sys._getframe()) if work.name in suspects else None


def running_greenlet() -> "weakref.ref[Any] | None":
    """Return the greenlet that runs; None for a thread's main one, whose stack is the thread's own."""
    current = sys.modules["greenlet"].getcurrent()
    return None if current.parent is None else weakref.ref(current)
