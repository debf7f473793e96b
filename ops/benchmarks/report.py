"""A run for people and for programs: a table, and everything behind it as JSON."""

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .lifecycle import Finding
from .stats import Estimate

_PACKAGES = ("celery", "kombu", "billiard", "pymongo", "redis", "sentry-sdk")


def versions() -> dict[str, str]:
    """Return what a number depends on: Python and the packages that a task passes through."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def show(console: Console, labels: Mapping[str, str], findings: Iterable[Finding], *, legend: str) -> None:
    """Print the table, with what answered and what ran."""
    table = Table(
        "measure",
        "n",
        "median",
        "95 % interval",
        "target",
        "met",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for finding in findings:
        table.add_row(*_cells(finding))
    console.print(table)
    for line in (legend, *_context(labels)):
        console.print(line, highlight=False, soft_wrap=True)


def to_json(labels: Mapping[str, str], findings: Iterable[Finding]) -> dict[str, Any]:
    """Return the run with its raw values."""
    return {
        "servers": dict(labels),
        "versions": versions(),
        "findings": [asdict(finding) | {"is_met": finding.is_met} for finding in findings],
    }


def _context(labels: Mapping[str, str]) -> Iterator[str]:
    yield f"{labels['mongo']}; {labels['redis']}"
    yield ", ".join(f"{name} {number}" for name, number in versions().items())
    if "not mongod" in labels["mongo"]:
        yield "This is not mongod: only the ratios within one run mean anything."


def _cells(finding: Finding) -> list[str]:
    found = finding.estimate
    met = {True: "yes", False: "no", None: ""}[finding.is_met]
    target = "" if finding.target is None else f"{finding.target} {finding.unit}"
    median = f"{found.median:.{_digits(finding)}f} {finding.unit}"
    return [finding.title, str(found.count), median, _interval(finding, found), target, met]


def _interval(finding: Finding, found: Estimate) -> str:
    if found.low is None or found.high is None:
        values = next(iter(finding.raw.values()))
        return f"{min(values):.1f} to {max(values):.1f} (all)"
    return f"{found.low:.{_digits(finding)}f} to {found.high:.{_digits(finding)}f}"


def _digits(finding: Finding) -> int:
    return {"x": 3, "us": 2}.get(finding.unit, 1)
