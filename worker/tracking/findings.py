"""What the watch over a process's connections finds. Durations are in seconds.

`stack` is where the holder is now, `borrowed` where it borrowed or opened: recorded only for a task that was
found before. `task` and `id` are None where no task holds it.
"""

from dataclasses import dataclass

Stack = tuple[str, ...]


@dataclass(frozen=True)
class LongHold:
    """A connection has been held for longer than the limit."""

    task: str | None
    id: str | None
    seconds: float
    server: str
    stack: Stack
    borrowed: Stack


@dataclass(frozen=True)
class Returned:
    """A long hold that was told has ended; it lasted so long, to the next tick."""

    task: str | None
    id: str | None
    seconds: float
    server: str


@dataclass(frozen=True)
class Leak:
    """A task ended so long ago, and what it opened is open still."""

    task: str
    id: str
    seconds: float
    what: str
    borrowed: Stack


@dataclass(frozen=True)
class LeakReturned:
    """What a task left open, as was told, is open no longer, so long after the task's end."""

    task: str
    id: str
    seconds: float
    what: str


Finding = LongHold | Returned | Leak | LeakReturned
