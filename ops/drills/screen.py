"""What a drill says on stderr while it runs, and what a person reads of its document in the end."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import click
from rich.console import RenderableType
from rich.text import Text

from .. import tables
from ..text import count, printable

_BAR = 36
_HEAD = "   S   OPS/S  P50 MS  P99 MS  WAIT P99  OPEN  IN USE  WAITING  TIMEOUTS  ERRORS"
_FLEET = "    S  STATE    IN USE  WAITING  WAIT P99  TIMEOUTS  THE FLEET'S OWN VERDICT"


class Ticker:
    """Prints a line for each thing that is told, on stderr; nobody reading it is no reason to stop."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._is_first = True

    def second(self, sample: Mapping[str, Any]) -> None:
        """Say what a second of a workload was."""
        row = (
            f"{sample['seconds']:4.0f} {sample['per_second']:7,.0f} {_ms(sample['p50_ms']):>7} "
            f"{_ms(sample['p99_ms']):>7} {_ms(sample['wait_p99_ms']):>9} {sample['size']:5} "
            f"{_of(sample):>7} {sample['waiting']:8} {sample['timeouts']:9} {sample['errors']:7}"
        )
        self._line(row, head=_HEAD)

    def fleet(self, sample: Mapping[str, Any]) -> None:
        """Say what the fleet reports of the drill's process."""
        judged = sample["verdict"] or tables.NONE
        row = (
            f"{sample['seconds']:5.0f}  {sample['state'] or tables.NONE:<7} {_of(sample):>7} "
            f"{_or_none(sample['waiting']):>8} {_ms(sample['wait_p99_ms']):>9} "
            f"{_or_none(sample['timeouts']):>9}  {judged}"
        )
        self._line(row, head=_FLEET)

    def turn(self, told: Mapping[str, Any]) -> None:
        """Say whose turn it is, in one line that the next one replaces; to a terminal alone."""
        if not self._quiet and sys.stderr is not None and sys.stderr.isatty():
            last = told["turn"] == told["of"]
            with suppress(OSError):
                name = printable(told["name"])
                click.echo(f"\r\x1b[Kturn {told['turn']} of {told['of']}: {name}", err=True, nl=last)

    def _line(self, text: str, *, head: str) -> None:
        if self._quiet:
            return
        with suppress(OSError):
            if self._is_first:
                click.echo(head, err=True)
                self._is_first = False
            click.echo(printable(text), err=True)


def concurrency(document: Mapping[str, Any]) -> RenderableType:
    """Return what a person reads of `drill concurrency`."""
    return tables.sections(_load(document), _foot(document))


def workload(document: Mapping[str, Any]) -> RenderableType:
    """Return what a person reads of `drill workload`."""
    rates = [sample["per_second"] for sample in document["samples"]]
    waits = [sample["waiting"] for sample in document["samples"]]
    lines = tables.facts({"rate": tables.sparkline(rates), "waiting": tables.sparkline(waits)})
    return tables.sections(_load(document), lines if rates else None, _foot(document))


def compare(document: Mapping[str, Any]) -> RenderableType:
    """Return what a person reads of `drill compare`: a table, and bars."""
    sides = document["configurations"]
    head = ("CONFIGURATION", "POOL", "OPS/S", "P50 MS", "P99 MS", "WAIT P99", "MADE", "IN USE")
    rows = [
        (
            Text(side["name"], no_wrap=True),
            f"{side['options'].get('minPoolSize', 0)}-{side['options'].get('maxPoolSize', 'any')}",
            round(side["per_second"]),
            _ms(side["latency_ms"]["p50"]),
            _ms(side["latency_ms"]["p99"]),
            _ms(side["wait_ms"]["p99"]),
            side["connections"]["created"],
            side["connections"]["most_in_use"],
        )
        for side in sides
    ]
    table = tables.table(head, rows, right=("POOL", "P50 MS", "P99 MS", "WAIT P99"))
    return tables.sections(table, _bars(sides), _shortages(document), _foot(document))


def exhaust(document: Mapping[str, Any]) -> RenderableType:
    """Return what a person reads of `drill exhaust`."""
    process, pool = document["process"], document["pool"]
    judged = document["judged"]
    told = tables.facts(
        {
            "process": f"{process['member']} (pid {process['pid']})",
            "pool": f"{count(pool['maxPoolSize'], 'connection')} for "
            f"{count(document['threads'], 'operation')} at once",
            "seen full": "yes" if document["was_full"] else "no: the fleet never saw all of it in use",
            "most waiting": document["most_waiting"],
            "judged": "no check of the fleet's own ran meanwhile, or it had no complaint of it"
            if judged is None
            else judged["verdict"],
            "let go": "yes, and it is gone from the fleet" if document["is_gone"] else "it is still seen",
        }
    )
    reasons = tables.bullets(judged["reasons"]) if judged else None
    return tables.sections(told, reasons, _foot(document))


def _load(document: Mapping[str, Any]) -> RenderableType:
    latency, wait, made = document["latency_ms"], document["wait_ms"], document["connections"]
    errors = ", ".join(f"{number:,} {name}" for name, number in document["errors"].items())
    asked = f" of {document['asked']:,}" if "asked" in document else ""
    return tables.facts(
        {
            "done": f"{document['done']:,}{asked} in {document['seconds']:.1f} s, "
            f"{document['per_second']:,.0f} a second, {document['in_flight']:.1f} at a time",
            "latency": _times(latency),
            "wait": f"{_times(wait)}, {count(document['wait_timeouts'], 'timeout')}",
            "connections": f"{made['created']} made, {made['most_in_use']} in use at most of "
            f"{document['pool']['maxPoolSize']}, {made['most_waiting']} waiting at most",
            "errors": errors or "none",
        }
    )


def _times(times: Mapping[str, Any]) -> str:
    return f"p50 {_ms(times['p50'])} ms, p99 {_ms(times['p99'])} ms, at most {_ms(times['max'])} ms"


def _bars(sides: Sequence[Mapping[str, Any]]) -> Text:
    most = max((side["per_second"] for side in sides), default=0.0) or 1.0
    width = max(len(side["name"]) for side in sides)
    lines = []
    for side in sides:
        bar = "█" * round(_BAR * side["per_second"] / most)
        lines.append(Text(f"{side['name']:<{width}}  ").append(f"{bar:<{_BAR}}", style="cyan"))
        lines[-1].append(f"  {_ratio(side)}")
    return Text("\n").join(lines)


def _shortages(document: Mapping[str, Any]) -> RenderableType | None:
    """Say which pools were too small for this load, by what they had in use and kept waiting."""
    lines = []
    for side in document["configurations"]:
        pool, most = side["connections"], side["options"].get("maxPoolSize")
        if most and pool["most_in_use"] >= most and pool["most_waiting"]:
            spread = (
                f"{side['name']}: all {most} in use, up to {count(pool['most_waiting'], 'operation')} waited"
            )
            lines.append(f"{spread}, {side['wait_timeouts']} timed out" if side["wait_timeouts"] else spread)
    lines += [
        f"{side['name']}: {count(number, 'error')} ({name})"
        for side in document["configurations"]
        for name, number in side["errors"].items()
    ]
    return tables.bullets(lines) if lines else None


def _foot(document: Mapping[str, Any]) -> Text:
    return Text("\n".join(_told(document)), style="dim")


def _told(document: Mapping[str, Any]) -> Iterable[str]:
    held = f", each held for {document['hold_ms']} ms by the server" if document["hold_ms"] else ""
    yield f"{count(document['threads'], 'operation')} at once{held}"
    yield from _rounds(document)
    yield f"server: {document['server'] or 'unknown'}"
    database = document["database"]
    if database["cleared_before"]:
        yield f"{database['name']} was left by an earlier drill, and cleared away first"
    yield f"{database['name']} is dropped" if database["dropped"] else database["why"]


def _rounds(document: Mapping[str, Any]) -> Iterator[str]:
    if "rounds" in document:
        yield (
            f"{count(document['rounds'], 'round')} of {document['turn_seconds']:g} s; a bar's ratio is to "
            "yours of the same round: the median (least to most)"
        )


def _ratio(side: Mapping[str, Any]) -> str:
    ratio = side["ratio"]
    if ratio is None:
        return tables.NONE
    return f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"


def _ms(value: float | None) -> str:
    if value is None:
        return tables.NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _of(sample: Mapping[str, Any]) -> str:
    """Return how many connections of how many are in use, in the fullest pool."""
    if sample["in_use"] is None or not sample["max"]:
        return tables.NONE if sample["in_use"] is None else f"{sample['in_use']}/any"
    return f"{round(sample['usage'] * sample['max'])}/{sample['max']}"


def _or_none(value: int | None) -> str:
    return tables.NONE if value is None else str(value)
