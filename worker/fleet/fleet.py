"""The fleet at one moment: who lives, who is silent, who is lost and who is missing."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .registry import Reading, Seen

LIVE_SECONDS = 6.0
"""Three ticks: a process that reported within it is live."""

STALE_SECONDS = 15.0
"""What a blip of Redis or a busy host may take before anybody is asked whether a process still lives."""

LOST_SECONDS = 60.0
"""A process that nobody can tell of is given up after this."""

GONE_SECONDS = 600.0
"""How long a node that was lost and did not come back is still named."""


MOST_MISSING = 50_000
"""How many slots without a process are named in a fleet: a report may claim thousands."""


class State(StrEnum):
    """LIVE: it reports. STALE: silent, and not for long. BUSY: silent, and alive. LOST: silent, and dead."""

    LIVE = "live"
    STALE = "stale"
    BUSY = "busy"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the fleet by its last report; `silence` is seconds, without the time when none could.

    Of one that `is_buried` the registry has nothing but its post-mortem.
    """

    member: str
    state: State
    silence: float
    report: dict[str, Any]
    is_buried: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A node: the number of slots that it should have, its processes, and the slots that nobody reports.

    `unread` are its processes whose reports cannot be read.
    """

    name: str
    slots: int
    processes: list[Process]
    missing: list[str]
    unread: tuple[str, ...] = ()

    @property
    def present(self) -> list[Process]:
        """The processes that are not lost."""
        return [process for process in self.processes if process.state is not State.LOST]


@dataclass(frozen=True)
class Fleet:
    """All nodes at one moment, `at` by Redis' clock, unix seconds."""

    at: float
    nodes: dict[str, Node]

    @cached_property
    def processes(self) -> list[Process]:
        """Every process that is known, the lost ones too."""
        return [process for node in self.nodes.values() for process in node.processes]

    @cached_property
    def present(self) -> list[Process]:
        """The processes that are not lost."""
        return [process for node in self.nodes.values() for process in node.present]

    @property
    def expected(self) -> int:
        """How many processes there should be."""
        return sum(max(node.slots, len(node.processes)) for node in self.nodes.values())

    @property
    def missing(self) -> list[str]:
        """The slots that nobody reports."""
        return [member for node in self.nodes.values() for member in node.missing]

    def names(self, state: State) -> list[str]:
        """Return the processes in this state."""
        return [process.member for process in self.processes if process.state is state]


def assess(
    reading: "Reading",
    *,
    is_alive: Callable[["Seen"], bool | None],
    buried: Iterable[Mapping[str, Any]] = (),
) -> Fleet:
    """Return the fleet that these reports show.

    `is_alive` is asked of processes that have been silent for long: True, False, or None where it cannot
    tell. `buried` are post-mortems: a node of which nothing else is left stays lost for ten minutes.
    """
    known_busy = _named_by_siblings(reading)
    by_node: dict[str, list[Process]] = defaultdict(list)
    slots: dict[str, tuple[float, int]] = {}
    for seen in reading.processes:
        name = node_of(seen.member)
        silence = silence_of(reading, seen)
        must_ask = silence > STALE_SECONDS and seen.member not in known_busy
        alive = is_alive(seen) if must_ask else True
        by_node[name].append(Process(seen.member, judge(silence, alive), round(silence, 3), seen.report))
        # A pool that grew or shrank: the newest report knows.
        slots[name] = max(slots.get(name, (0.0, 0)), (seen.at, seen.report.get("slots") or 0))
    there = {*by_node, *map(node_of, reading.unread)}
    for process in _gone(reading, buried if reading.is_known else (), there):
        by_node[node_of(process.member)].append(process)
    unread: dict[str, list[str]] = defaultdict(list)
    for member in sorted(reading.unread):
        unread[node_of(member)].append(member)
    room = MOST_MISSING
    nodes: dict[str, Node] = {}
    for name in sorted(by_node):
        nodes[name] = _node(name, by_node[name], slots.get(name, (0.0, 0))[1], unread[name], room)
        room -= len(nodes[name].missing)
    return Fleet(reading.now, nodes)


def judge(silence: float, alive: bool | None) -> State:
    """Return the state of a process that has been silent for so many seconds."""
    if silence <= LIVE_SECONDS:
        return State.LIVE
    if silence <= STALE_SECONDS:
        return State.STALE
    if alive is None:
        return State.LOST if silence > LOST_SECONDS else State.STALE
    return State.BUSY if alive else State.LOST


def silence_of(reading: "Reading", seen: "Seen") -> float:
    """Return for how long a process could have reported and has not, in seconds."""
    return max(0.0, reading.now - max(seen.at, reading.silent_until))


def node_of(member: str) -> str:
    """Return the node of a member `<node>/<slot>`."""
    return member.rpartition("/")[0]


def _named_by_siblings(reading: "Reading") -> set[str]:
    """Return the members that a process of their node, itself not silent, reports as alive."""
    return {
        f"{node_of(seen.member)}/{slot}"
        for seen in reading.processes
        if seen.report.get("busy") and silence_of(reading, seen) <= STALE_SECONDS
        for slot in seen.report["busy"]
    }


def _gone(reading: "Reading", buried: Iterable[Mapping[str, Any]], there: set[str]) -> list[Process]:
    """Return the buried processes of nodes that are gone as a whole: elsewhere a missing slot tells it."""
    found: dict[str, Process] = {}
    for mortem in buried:
        silence = reading.now - (mortem.get("seen") or 0.0)
        if mortem["node"] not in there and silence <= GONE_SECONDS:
            member = f"{mortem['node']}/{mortem['slot']}"
            report = mortem.get("report") or {}
            found.setdefault(member, Process(member, State.LOST, round(silence, 3), report, is_buried=True))
    return list(found.values())


def _node(name: str, processes: list[Process], slots: int, unread: list[str], room: int) -> Node:
    processes.sort(key=lambda process: _slot_of(process.member))
    # Who reports what cannot be read is there.
    taken = {_slot_of(process.member) for process in processes} | set(map(_slot_of, unread))
    # Pools leave holes when they shrink and fill the lowest first when they grow.
    free = (slot for slot in range(slots) if slot not in taken)
    missing = [f"{name}/{slot}" for slot in islice(free, min(room, max(0, slots - len(taken))))]
    return Node(name, slots, processes, missing, tuple(unread))


def _slot_of(member: str) -> int:
    slot = member.rpartition("/")[2]
    return int(slot) if slot.isdecimal() else 0
