"""Who holds which connection now, since when, and what waiting and holding took, by task."""

import sys
import weakref
from _thread import get_ident
from collections.abc import Callable
from typing import Any

from .pool_state import PoolState
from .stacks import describe
from .task_times import SlowestHolds, TasksTimes
from .work import Work, current_work


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
    """The holders of this process's connections, by a connection's number, see `PoolState.base`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.holders: dict[int, Holder] = {}
        self.suspects: set[str] = set()
        self.tasks = TasksTimes()
        self.slowest = SlowestHolds()

    def begin(self, number: int, wait: float, server: str) -> bool:
        """A connection was checked out after `wait` seconds; False where it was already."""
        holder = Holder()
        holder.work = work = current_work.get()
        holder.wait = wait
        holder.server = server
        holder.thread = get_ident()
        holder.greenlet = _greenlet() if "greenlet" in sys.modules else None
        is_suspect = work is not None and work.name in self.suspects
        holder.stack = describe(sys._getframe()) if is_suspect else None
        holder.flagged = False
        holder.since = self._clock()
        before = self.holders.get(number)
        self.holders[number] = holder
        return before is None

    def end(self, number: int) -> float | None:
        """A connection came back; the seconds it was held, None where nobody held it."""
        holder = self.holders.pop(number, None)
        if holder is None:
            return None
        now = self._clock()
        held = now - holder.since
        if holder.work is not None:
            self._tell(holder.work, holder.wait, held, now)
        return held

    def _tell(self, work: Work, wait: float, held: float, now: float) -> None:
        times = self.tasks[work.name]
        times.checkouts += 1
        times.waited += wait
        if wait > times.longest_wait:  # noqa: PLR1730 - max() would be a call in every checkout
            times.longest_wait = wait
        times.held += held
        if held > times.longest_hold:  # noqa: PLR1730 - as above
            times.longest_hold = held
        if held > self.slowest.floor:
            self.slowest.add(work, held, now)

    def fail(self, wait: float) -> None:
        """A checkout failed after `wait` seconds."""
        work = current_work.get()
        if work is not None:
            times = self.tasks[work.name]
            times.failed += 1
            times.waited += wait
            times.longest_wait = max(times.longest_wait, wait)

    def held_of(self, pool: PoolState) -> list[int]:
        """Return the numbers of the connections of a pool that somebody holds."""
        # A copy of a dict's keys is atomic, iterating over them is not.
        return [number for number in list(self.holders) if pool.has(number)]

    def reset(self) -> None:
        """Begin anew with the times by task; holders are not touched."""
        self.tasks.clear()
        self.slowest = SlowestHolds()


def _greenlet() -> "weakref.ref[Any] | None":
    """Return the greenlet that runs, None for a thread's main one: the thread's own frames are its stack."""
    current = sys.modules["greenlet"].getcurrent()
    return None if current.parent is None else weakref.ref(current)
