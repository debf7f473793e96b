"""What a process says of itself at each tick: one small JSON document."""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..text import shorten
from .memory import SERVER_BYTES_PER_CONNECTION

if TYPE_CHECKING:
    from ..connection.link import Done

MAX_BYTES = 1536
"""What a row of the board holds, and what the registry takes."""

# What goes first where a report is too long, the least missed first.
_SPARE = (
    *("wait_buckets", "queues", "servers", "server", "cluster", "busy", "rtt", "use", "rate", "gate"),
    *("made", "most_held", "foreign", "leak", "held", "done", "refused", "denied"),
)

DONE_SECONDS = 60.0
"""How long a report says what came of what an operator asked for: whoever asked has read it by then."""

ERROR_LENGTH = 120
"""Of the reason why MongoDB cannot be used, or did not answer: a host, its port, and what the driver met."""


@dataclass(frozen=True)
class Origin:
    """Who reports: what stays the same from the process's start to its end.

    `host` names the running kernel and `born` the process's start in its clock ticks: a pid alone is used
    again. `started` is unix seconds, `slots` how many processes the node should have.
    """

    node: str
    slot: int
    pid: int
    host: str
    born: int | None
    started: float
    version: str
    kind: str
    appname: str

    @property
    def member(self) -> str:
        """The name of the report: a successor in the same slot takes its place."""
        return f"{self.node}/{self.slot}"


@dataclass(frozen=True)
class Moment:
    """What changes from report to report. Seconds, but `at`, which is unix time; see docs/architecture.md.

    `cluster` is which replica set it uses: its name and its members. `trouble` is what a process that is well
    has nothing of; what is None there is left out.
    """

    at: float
    slots: int
    queues: list[str]
    task: dict[str, Any] | None
    circuit: str
    outage: float
    ok: float | None
    error: str | None
    server: str | None
    uss: int | None
    totals: dict[str, Any]
    counts: dict[str, int] = field(default_factory=dict)
    busy: list[int] = field(default_factory=list)
    gate: dict[str, str] = field(default_factory=dict)
    done: dict[str, Any] = field(default_factory=dict)
    trouble: dict[str, Any] = field(default_factory=dict)
    cluster: str | None = None


def build(origin: Origin, moment: Moment) -> dict[str, Any]:
    """Return the report as plain JSON types."""
    told = dict(vars(moment))
    totals, counts, uss = told.pop("totals"), told.pop("counts"), told.pop("uss")
    trouble = {name: value for name, value in told.pop("trouble").items() if value is not None}
    memory = {"uss": uss, "server": totals["pool"]["size"] * SERVER_BYTES_PER_CONNECTION}
    built: dict[str, Any] = {"v": 1, **vars(origin), **told, **trouble, **totals}
    return built | {"count": totals["count"] | counts, "memory": memory}


def done(now: float, **what: "Done | None") -> dict[str, Any]:
    """Return what came of what an operator asked for a moment ago; `now` is monotonic."""
    fresh = {name: one for name, one in what.items() if one is not None and now - one.at <= DONE_SECONDS}
    return {
        name: {
            "n": one.number,
            "ms": one.latency_ms,
            "replaced": one.replaced,
            "error": None if one.error is None else shorten(one.error, ERROR_LENGTH),
        }
        for name, one in fresh.items()
    }


def encode(report: dict[str, Any]) -> bytes:
    """Return the report in at most MAX_BYTES; where names are long, what is missed least is left out."""
    kept = dict(report)
    for name in ("", *_SPARE):
        kept.pop(name, None)
        text = json.dumps(kept, separators=(",", ":")).encode()
        if len(text) <= MAX_BYTES:
            break
    return text
