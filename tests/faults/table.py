"""Outcomes of the matrix as tables: for a terminal, and as the page in docs/."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tests.faults.matrix import FAULTS
from tests.faults.settings import ELECTION_SECONDS, SETTINGS

HEAD = ("fault", "pool", "tasks", "lost", "twice", "unknown", "ran again", "requeued", "retries")
SEEN = ("verdict", "circuits", "gate", "primary", "resumed", "plain")
_PACKAGES = ("celery", "kombu", "pymongo", "redis")
_NOT_ASKED = "-"

LEGEND = """\
A cell is a worker of its own ({processes})
with its own servers, under a steady load of three kinds of tasks: an upsert that sets a field, `$inc` under
`once`, and a raw `$inc` in a task marked `idempotent=False`.

- **lost**: accepted by the broker, and neither an effect nor a dead letter tells of it. **twice**: took
  effect more than once. Each is given for the three kinds, in their order.
- **unknown**: of the third kind, in the dead letters as *outcome unknown*: its process or connection was lost
  in the middle of a write.
- **ran again**: tasks that began more than once. **requeued**: runs that gave their message back.
  **retries**: of `max_retries`, spent by all tasks together; an outage or an election spends none.
- **verdict**, **circuits** of the processes and **gate**: what the node said of itself in the fault
  (`celery inspect mongo_health` and `mongo_pools`); - where nobody could answer.
- **primary**: seconds from the strike to a primary that takes writes, by MongoDB's own log; - where there was
  no new one.
- **resumed**: seconds from then to the end of the first task that wrote after it. Without a new primary they
  count from the end of the fault; where a worker was replaced that is when the new one is ready.
- **plain**: likewise, of a plain client with PyMongo's own options that does in a loop what a task does.
  Of these three each cell gives the longest.
"""

TITLES = {1: "One member", 3: "A replica set of three"}
"""The page's sections, by the number of members; a run writes its own and leaves the other as it is."""


def terminal(outcomes: Iterable[dict[str, Any]]) -> Table:
    """Return the table for a terminal."""
    table = Table(*HEAD, *SEEN, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for outcome in outcomes:
        table.add_row(*row(outcome), style="red" if outcome["problems"] else None)
    return table


def row(outcome: dict[str, Any]) -> list[str]:
    """Return the cells of one outcome, as text."""
    fates: Sequence[dict[str, Any]] = list(outcome["fates"].values())
    look = outcome["look"]
    return [
        outcome["fault"],
        outcome["pool"],
        str(sum(fate["accepted"] for fate in fates)),
        _each(fates, "lost"),
        _each(fates, "doubled"),
        str(sum(fate["unknown"] for fate in fates)),
        str(sum(fate["again"] for fate in fates)),
        str(outcome["requeues"]),
        str(outcome["retries"]),
        look["verdict"] or _NOT_ASKED,
        _circuits(look["circuits"]),
        _NOT_ASKED if look["gate"] is None else ("closed" if look["gate"] else "open"),
        *(_longest(outcome[name]) for name in ("elected", "resumed", "plain")),
    ]


def resumed(outcomes: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield how long it took from each new primary to the next task, and to the next plain write."""
    chosen = [outcome for outcome in outcomes if outcome["elected"]]
    for name, what in (("resumed", "the next task done"), ("plain", "a plain client's next write")):
        if found := [seconds for outcome in chosen for seconds in outcome[name]]:
            yield (
                f"From a new primary to {what}: median {median(found):.2f} s, worst {max(found):.2f} s, "
                f"of {len(found)}."
            )


def page(outcomes: Sequence[dict[str, Any]], *, before: str, command: str) -> str:
    """Return docs/faults.md, with the other sections as they were `before`."""
    written = outcomes[0]["members"]
    sections = [
        "\n".join(_section(outcomes)) if members == written else _kept(before, title)
        for members, title in TITLES.items()
    ]
    parts = ["\n".join(_head(command)), *filter(None, sections), "\n".join(_foot())]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _head(command: str) -> Iterator[str]:
    yield "# The fault matrix\n"
    yield f"Written by `{command}`.\n"
    yield LEGEND.format(processes="4 processes, threads or greenlets; 1 under solo")


def _section(outcomes: Sequence[dict[str, Any]]) -> Iterator[str]:
    labels = outcomes[0]["labels"]
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    yield f"## {TITLES[outcomes[0]['members']]}\n"
    yield f"{labels['mongo']}, {labels['redis']};"
    yield f"Python {platform.python_version()}, {versions}.\n"
    yield _markdown_row((*HEAD, *SEEN))
    yield _markdown_row(["---"] * (len(HEAD) + len(SEEN)))
    for outcome in outcomes:
        yield _markdown_row(row(outcome))
    yield ""
    yield from resumed(outcomes)
    bad = [f"- {one['fault']} on {one['pool']}: {problem}" for one in outcomes for problem in one["problems"]]
    if bad:
        yield "\nNot as promised:\n"
        yield from bad


def _kept(before: str, title: str) -> str:
    found = re.search(rf"^## {title}\n.*?(?=^## )", before, re.DOTALL | re.MULTILINE)
    return found[0] if found else ""


def _foot() -> Iterator[str]:
    yield "## The faults\n"
    yield _markdown_row(("fault", "members", "what it is", "lasts"))
    yield _markdown_row(["---"] * 4)
    for name, fault in FAULTS.items():
        yield _markdown_row((name, " or ".join(map(str, fault.members)), fault.title, f"{fault.seconds:g} s"))
    yield "\nSettings that differ from the defaults, so that faults of seconds are noticed in seconds"
    yield f"(and three members elect after {ELECTION_SECONDS:g} s without a primary, by default 10):\n"
    yield "```sh"
    yield from (f"{name}={value}" for name, value in SETTINGS.items())
    yield "```"


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _longest(seconds: Sequence[float]) -> str:
    return f"{max(seconds):.1f}" if seconds else _NOT_ASKED


def _each(fates: Sequence[dict[str, Any]], name: str) -> str:
    return "/".join(str(fate[name]) for fate in fates)


def _circuits(circuits: dict[str, int] | None) -> str:
    if circuits is None:
        return _NOT_ASKED
    return ", ".join(f"{number} {state}" for state, number in sorted(circuits.items())) or "none"
