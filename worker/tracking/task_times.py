"""How long each task waits for connections and holds them, by the task's name, and the longest holds."""

import time
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any

from .work import Work

# As many names as a deployment has tasks; what makes up names does not fill the memory.
NAMES = 200
OTHER = "other"
SLOWEST = 10


class TaskTimes:
    """What tasks of one name waited and held, in seconds, over all their checkouts."""

    __slots__ = ("checkouts", "failed", "held", "longest_hold", "longest_wait", "waited")

    def __init__(self) -> None:
        self.checkouts = 0
        self.failed = 0
        self.waited = 0.0
        self.longest_wait = 0.0
        self.held = 0.0
        self.longest_hold = 0.0

    def to_dict(self) -> dict[str, float]:
        """Return plain JSON types."""
        return {name: round(getattr(self, name), 6) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold: which task held a connection for how many seconds; `at` is unix time, when it came back."""

    task: str
    id: str
    seconds: float
    at: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


class TasksTimes(dict[str, TaskTimes]):
    """The times by task name; names beyond the bound share one entry."""

    def __missing__(self, name: str) -> TaskTimes:
        """Make the entry of a name that is new."""
        return self.setdefault(name if len(self) < NAMES else OTHER, TaskTimes())


class SlowestHolds:
    """The longest holds there were. `floor` is what a hold has to exceed to be among them."""

    __slots__ = ("_holds", "floor")

    def __init__(self) -> None:
        self._holds: tuple[Hold, ...] = ()
        self.floor = 0.0

    def add(self, work: Work, seconds: float) -> None:
        """Remember one hold that has just ended, if it is long enough."""
        hold = Hold(work.name, work.id, seconds, round(time.time(), 3))
        holds = sorted((*self._holds, hold), key=attrgetter("seconds"))
        # A tuple in one piece: a reader in another thread sees the old or the new one.
        self._holds = tuple(holds[-SLOWEST:])
        if len(self._holds) == SLOWEST:
            self.floor = self._holds[0].seconds

    def clear(self) -> None:
        """Begin anew."""
        self._holds, self.floor = (), 0.0

    def read(self) -> list[Hold]:
        """Return them, the longest first."""
        return list(reversed(self._holds))
