"""`mongo doctor`: what is wrong, why it matters and what to do, the first thing first."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..frame import Answer, Call, command

if TYPE_CHECKING:
    from rich.console import RenderableType


@command()
def doctor(call: Call) -> Answer:
    """Find what is wrong, and say what to do.

    Every source is asked and every check is made side by side. Findings are the most severe first; what
    follows from another is folded under it. A check that lacks a fact is named with the reason, and nothing
    is held against the fleet that could not be seen.

    Exit codes: 0 nothing found, or notes only; 1 degraded; 2 down; 3 too little could be seen.

    Example: celery -A worker mongo doctor
    """
    from ..doctor.report import examine

    found = examine(call.app, call.deadline)
    return Answer("doctor/1", found.body, render, unseen=found.unseen)


def render(told: Mapping[str, Any]) -> "RenderableType":
    """Return each finding with its evidence, why it matters and the fix, then what was not checked."""
    from rich.console import Group
    from rich.text import Text

    from .. import tables
    from ..text import count

    number = len(told["findings"]) + sum(told["left_out"].values())
    counts = count(number, "finding") if number else "no findings"
    head = Text.assemble(
        tables.word(told["verdict"]),
        f"  deployment {told['deployment']}, {count(told['processes']['seen'], 'process')} of "
        f"{count(told['processes']['nodes'], 'node')}: {counts}, {len(told['checked'])} checks",
    )
    blocks = [Group(*_finding(number, one)) for number, one in enumerate(told["findings"], 1)]
    more = [f"and {number:,} more [{check}]" for check, number in told["left_out"].items()]
    return tables.sections(head, *blocks, "\n".join(more) or None, _unchecked(told["unchecked"]))


def _finding(number: int, finding: Mapping[str, Any]) -> Iterator["RenderableType"]:
    from rich.table import Table
    from rich.text import Text

    from .. import tables

    yield Text.assemble(
        f"{number}. ",
        tables.word(finding["severity"]),
        f"  {finding['title']}  ",
        (f"[{finding['id']}]", "dim"),
    )
    parts = {
        "seen": finding["evidence"],
        "why": [finding["why"]],
        "fix": finding["fix"],
        "explains": [f"{one['title']} [{one['id']}]" for one in finding["explains"]]
        + ([f"and {more:,} more"] if (more := finding["explained"] - len(finding["explains"])) else []),
    }
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column()
    for label, texts in parts.items():
        for place, text in enumerate(texts):
            lines.add_row(f"   {label}" if place == 0 else "", Text(text))
    yield lines


_NAMED = 5
"""Checks that a line names; more are counted."""

_ASKED = {
    **dict.fromkeys(("nodes", "post_mortems", "redis", "dead_letters", "beats", "elsewhere"), "Redis"),
    **dict.fromkeys(("ping", "server", "indexes", "limit"), "MongoDB"),
    "queues": "the broker",
}
"""Who is asked for a fact."""


def _unchecked(unchecked: Mapping[str, str]) -> "RenderableType | None":
    """Return a line for each reason, with the checks that lacked something for it."""
    from rich.console import Group
    from rich.text import Text

    if not unchecked:
        return None
    return Group(*(Text(_not_made(ids, why)) for why, ids in _by_source(unchecked).items()))


def _by_source(unchecked: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the checks that were not made by why they were not, as a person calls it."""
    found: dict[str, list[str]] = {}
    for check, why in unchecked.items():
        fact, _, reason = why.partition(": ")
        found.setdefault(f"{_ASKED.get(fact, fact)}: {reason}", []).append(check)
    return found


def _not_made(ids: list[str], why: str) -> str:
    from ..text import count

    if len(ids) <= _NAMED:
        return f"not checked: {', '.join(ids)} ({why})"
    return f"not checked: {count(len(ids), 'check')} ({why}); --json names them"
