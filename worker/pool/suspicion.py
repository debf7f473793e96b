"""Suspicion: which task holds a connection for long, and which left something open when it ended."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..text import count
from ..tracking.findings import Finding, Leak, LeakReturned, LongHold, Returned
from ..tracking.flight import Kind
from ..tracking.leaks import Connection, LeftOpen, left_open
from ..tracking.stacks import stack_of
from ..tracking.work import Work

if TYPE_CHECKING:
    from ..tracking.checkouts import Holder
    from .monitor import PoolMonitor

# A warning for the same task name is repeated after so long at the earliest.
_QUIET_SECONDS = 60.0
# What a task's end is about to close, or to collect with its frames, is no leak.
_GRACE_SECONDS = 2.0
# Of a task that leaks at every run, so many runs are watched for a return, and of each so many leaks.
_WATCHED = 50
# Ended tasks that wait for the grace to be over.
_PENDING = 1000


@dataclass
class _Left:
    """What one work left open, each with its name: once it is gone it cannot be asked any more."""

    work: Work
    things: list[tuple[str, LeftOpen]]
    is_told: bool

    def take_gone(self) -> list[str]:
        """Return the names of what is open no longer, and keep the rest."""
        things = [(what, thing, thing.is_open) for what, thing in self.things]
        self.things = [(what, thing) for what, thing, is_open in things if is_open]
        return [what for what, _, is_open in things if not is_open]


def long_holds(holders: Iterable["Holder"], now: float, limit: float) -> list["Holder"]:
    """Return the holders that are not flagged yet and have held for longer than `limit` seconds."""
    return [holder for holder in holders if not holder.flagged and now - holder.since > limit]


class Suspicion:
    """Watches what the tasks of one process hold, and what they leave.

    `tick` is for one thread, the reporter's; `watch` may be called by any. `long_holds` and `leaks` count
    what was found, told or not: a task that left three sessions open counts three leaks. `false_alarms`
    counts the leaks that went away later after all. A long hold that ends is none: it was long.
    """

    def __init__(
        self, monitor: "PoolMonitor", *, limit: float, record: Callable[[Kind, float, str], None]
    ) -> None:
        self._monitor = monitor
        self._limit = limit
        self._record = record
        self._held: list[Holder] = []
        self._ended: deque[tuple[Work, list[LeftOpen]]] = deque(maxlen=_PENDING)
        self._left: list[_Left] = []
        self._told_at: dict[tuple[type, str | None], float] = {}
        self.long_holds = 0
        self.leaks = 0
        self.false_alarms = 0

    def is_suspect(self, task: str) -> bool:
        """Say whether an earlier run of this task held something for long, or left it open."""
        return task in self._monitor.suspects

    def held(self, now: float) -> dict[str, Any] | None:
        """Return how many connections are held beyond the limit now, the longest for how long and by whom."""
        holders = list(self._monitor.holders.values())
        held = sorted((h for h in holders if now - h.since > self._limit), key=lambda holder: holder.since)
        if not held:
            return None
        return {"n": len(held), "seconds": round(now - held[0].since, 1), "task": _names(held[0])[0]}

    def left(self) -> dict[str, str] | None:
        """Return what the last task that left something open left, where that is open still."""
        if not self._left:
            return None
        newest = self._left[-1]
        return {"what": _enumerate(what for what, _ in newest.things), "task": newest.work.name}

    def watch(self, work: Work) -> None:
        """Remember what a work that has just ended left open. Costs next to nothing where that is nothing."""
        holders = self._monitor.holders
        if not (work.sessions or work.clients or holders):
            return
        things = left_open(work, holders)
        for thing in things:
            if isinstance(thing, Connection):
                thing.holder.flagged = True
        if things:
            self._ended.append((work, things))

    def tick(self, now: float) -> list[Finding]:
        """Return what is new since the last tick; `now` is monotonic."""
        quiet = now - _QUIET_SECONDS
        self._told_at = {key: at for key, at in self._told_at.items() if at > quiet}
        return [*self._returned(now), *self._long(now), *self._left_returned(now), *self._leaked(now)]

    def _long(self, now: float) -> Iterator[LongHold]:
        # list() of a dict's values is atomic, iterating over them is not.
        for holder in long_holds(list(self._monitor.holders.values()), now, self._limit):
            holder.flagged = True
            self.long_holds += 1
            task, task_id = _names(holder)
            self._suspect(task)
            seconds = now - holder.since
            self._record(Kind.LONG_HOLD, seconds, task or "")
            if self._may_tell(LongHold, task, now):
                self._held.append(holder)
                yield LongHold(task, task_id, seconds, holder.server, stack_of(holder), holder.stack or ())

    def _returned(self, now: float) -> Iterator[Returned]:
        present = {id(holder) for holder in list(self._monitor.holders.values())}
        gone = [holder for holder in self._held if id(holder) not in present]
        self._held = [holder for holder in self._held if id(holder) in present]
        for holder in gone:
            seconds = now - holder.since
            self._record(Kind.RETURNED, seconds, _names(holder)[0] or "")
            yield Returned(*_names(holder), seconds, holder.server)

    def _leaked(self, now: float) -> Iterator[Leak]:
        while self._ended and _seconds_since(self._ended[0][0], now) >= _GRACE_SECONDS:
            work, things = self._ended.popleft()
            left = [(thing.what, thing) for thing in things if thing.is_open]
            if left:
                yield from self._leak(work, left, now)

    def _leak(self, work: Work, left: list[tuple[str, LeftOpen]], now: float) -> Iterator[Leak]:
        self.leaks += len(left)
        self._suspect(work.name)
        what, seconds = _enumerate(what for what, _ in left), _seconds_since(work, now)
        self._record(Kind.LEAK, seconds, f"{what}: {work.name}")
        is_told = self._may_tell(Leak, work.name, now)
        self._left = [*self._left, _Left(work, left[:_WATCHED], is_told)][-_WATCHED:]
        if is_told:
            borrowed = next((thing.stack for _, thing in left if thing.stack), ())
            yield Leak(work.name, work.id, seconds, what, borrowed)

    def _left_returned(self, now: float) -> Iterator[LeakReturned]:
        for left in self._left:
            gone = left.take_gone()
            if gone:
                self.false_alarms += len(gone)
                work, seconds = left.work, _seconds_since(left.work, now)
                self._record(Kind.RETURNED, seconds, work.name)
                if left.is_told:
                    yield LeakReturned(work.name, work.id, seconds, _enumerate(gone))
        self._left = [left for left in self._left if left.things]

    def _suspect(self, task: str | None) -> None:
        if task is not None:
            self._monitor.suspects.add(task)

    def _may_tell(self, kind: type, task: str | None, now: float) -> bool:
        is_new = (kind, task) not in self._told_at
        if is_new:
            self._told_at[kind, task] = now
        return is_new


def _names(holder: "Holder") -> tuple[str | None, str | None]:
    work = holder.work
    return (None, None) if work is None else (work.name, work.id)


def _seconds_since(work: Work, now: float) -> float:
    return now - (work.ended_at or now)


def _enumerate(names: Iterable[str]) -> str:
    counted = Counter(names).items()
    return ", ".join(name if number == 1 else f"{name} ({count(number, 'time')})" for name, number in counted)
