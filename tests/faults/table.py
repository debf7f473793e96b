"""Outcomes of the matrix as tables: for a terminal, and as the page in docs/."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tests.faults.matrix import FAULTS
from tests.faults.settings import SETTINGS

HEAD = ("fault", "pool", "tasks", "lost", "twice", "unknown", "ran again", "requeued", "retries")
SEEN = ("verdict", "circuits", "gate", "resumed")
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
  **retries**: of `max_retries`, spent by all tasks together; an outage spends none.
- **verdict**, **circuits** of the processes and **gate**: what the node said of itself in the fault
  (`celery inspect mongo_health` and `mongo_pools`); - where nobody could answer.
- **resumed**: seconds from the end of the fault to the end of the first task that succeeded. Where a worker
  was replaced the fault ends when the new one is ready.
"""


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
        _NOT_ASKED if outcome["resumed"] is None else f"{outcome['resumed']:.1f}",
    ]


def page(outcomes: Sequence[dict[str, Any]], *, command: str) -> str:
    """Return docs/faults.md."""
    return "\n".join(_page(outcomes, command)) + "\n"


def _page(outcomes: Sequence[dict[str, Any]], command: str) -> Iterator[str]:
    labels = outcomes[0]["labels"]
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    yield "# The fault matrix\n"
    yield f"Written by `{command}`: {labels['mongo']}, {labels['redis']};"
    yield f"Python {platform.python_version()}, {versions}.\n"
    yield LEGEND.format(processes="4 processes, threads or greenlets; 1 under solo")
    yield _markdown_row((*HEAD, *SEEN))
    yield _markdown_row(["---"] * (len(HEAD) + len(SEEN)))
    for outcome in outcomes:
        yield _markdown_row(row(outcome))
    yield "\n## The faults\n"
    yield _markdown_row(("fault", "what it is", "lasts"))
    yield _markdown_row(["---"] * 3)
    for name, fault in FAULTS.items():
        yield _markdown_row((name, fault.title, f"{fault.seconds:g} s"))
    yield "\nSettings that differ from the defaults, so that faults of seconds are noticed in seconds:\n"
    yield "```sh"
    yield from (f"{name}={value}" for name, value in SETTINGS.items())
    yield "```"
    bad = [f"- {one['fault']} on {one['pool']}: {problem}" for one in outcomes for problem in one["problems"]]
    if bad:
        yield "\n## What was not as promised\n"
        yield from bad


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _each(fates: Sequence[dict[str, Any]], name: str) -> str:
    return "/".join(str(fate[name]) for fate in fates)


def _circuits(circuits: dict[str, int] | None) -> str:
    if circuits is None:
        return _NOT_ASKED
    return ", ".join(f"{number} {state}" for state, number in sorted(circuits.items())) or "none"
