"""The history as a person reads it in a terminal: one small chart of blocks per metric above a common axis.

Blocks of our own and no library of plots: the axis must show where nothing was seen and where MongoDB was
away, in a column of its own per moment, also without colours.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.text import Text

from .. import tables
from ..text import count

HEIGHT = 3
"""Lines of a chart."""

_WIDEST = 130
_MARGIN = 9
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_AXIS = {
    "none": ("·", "dim"),
    "": ("─", "dim"),
    "drill": ("▚", "cyan"),
    "gap": ("░", "dim"),
    "partial": ("▒", "yellow"),
    "outage": ("█", "bold red"),
}
_RANK = ("", "none", "drill", "gap", "partial", "outage")
_WORDS = {
    "drill": "a drill ran, whose load is in these numbers",
    "gap": "no snapshot (beat, its queue or Redis stuck)",
    "partial": "some processes could not reach MongoDB",
    "outage": "no process could reach MongoDB",
}
_SPANS = 12

Point = Sequence[Any]


class Charts:
    """What is drawn of a document of `history`."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Draw to the width that there is."""
        width = max(20, min(options.max_width, _WIDEST) - _MARGIN)
        document = self._document
        since, until = document["since"], document["until"]
        begins = until if document["begins"] is None else document["begins"]
        before = {"kind": "none", "since": since, "until": begins}
        marks = axis([before, *document["spans"]], since=since, until=until, width=width)
        for series in document["series"]:
            yield _title(series)
            yield from _chart(series, marks, width)
        yield Text(" " * _MARGIN + _labels(since, until, width), style="dim")
        yield from _told(document)


def axis(spans: Iterable[Mapping[str, Any]], *, since: float, until: float, width: int) -> list[str]:
    """Return for each column what was then: nothing of note, or the kind of the worst of these spans."""
    marks = [""] * width
    step = (until - since) / width
    for span in spans:
        end = until if span["until"] is None else span["until"]
        first = max(0, int((span["since"] - since) / step))
        # What was shorter than a column has one all the same.
        least = first if span["kind"] == "none" else first + 1
        for column in range(first, min(width, max(least, int((end - since) / step)))):
            marks[column] = max(marks[column], span["kind"], key=_RANK.index)
    return marks


def resample(points: Sequence[Point], pick: str, width: int) -> list[float | None]:
    """Return a value per column: of several points what counts by `pick`, of fewer each several times."""
    found: list[float | None] = []
    for column in range(width):
        first = column * len(points) // width
        last = max(first + 1, (column + 1) * len(points) // width)
        known = [value for _, value in points[first:last] if value is not None]
        found.append(_of(known, pick) if known else None)
    return found


def _of(values: list[float], pick: str) -> float:
    if pick == "avg":
        return sum(values) / len(values)
    # A count that is spread over a column is drawn as high as its highest step.
    return min(values) if pick == "min" else max(values)


def rows(values: Sequence[float | None], *, top: float, height: int) -> list[str]:
    """Return the lines of a chart, the highest first; what is above zero shows at least an eighth."""
    levels = [0 if v is None or top <= 0 else _level(v / top, height) for v in values]
    return [
        "".join(_EIGHTHS[min(8, max(0, level - 8 * row))] for level in levels)
        for row in reversed(range(height))
    ]


def _level(share: float, height: int) -> int:
    return 0 if share <= 0 else max(1, round(min(share, 1.0) * 8 * height))


def _title(series: Mapping[str, Any]) -> Text:
    title = Text(series["metric"], style="bold")
    if series["last"] is None:
        return title.append("  nothing is known of it", style="not bold dim")
    unit = series["unit"]
    limit = "" if series["limit"] is None else f" of {number(series['limit'], unit)}"
    title.append(f"  {number(series['last'], unit)}{limit} {_unit(unit)}", style="not bold")
    low, high = number(series["min"], unit), number(series["max"], unit)
    return title.append(f"   {low} to {high}   {series['meaning']}", style="not bold dim")


def _chart(series: Mapping[str, Any], marks: Sequence[str], width: int) -> Iterator[Text]:
    if series["last"] is None:
        return
    values = resample(series["points"], series["pick"], width)
    top = series["max"]
    # Where all is zero the axis says so.
    for place, line in enumerate(rows(values, top=top, height=HEIGHT if top > 0 else 0)):
        label = number(top, series["unit"]) if place == 0 else ""
        drawn = Text(f"{label:>{_MARGIN - 1}} ", style="dim")
        yield drawn.append(line, style="cyan")
    drawn = Text(f"{'0':>{_MARGIN - 1}} ", style="dim")
    for mark in marks:
        drawn.append(*_AXIS[mark])
    yield drawn


def number(value: float, unit: str) -> str:
    """Return a value in few characters."""
    if unit == "bytes":
        return tables.size(value) or ""
    if abs(value) >= 1e6:
        return f"{value / 1e6:.1f}M"
    if abs(value) >= 10_000:
        return f"{value / 1000:.1f}k"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}".rstrip("0").rstrip(".")


def _unit(unit: str) -> str:
    return "" if unit == "bytes" else "/s" if unit == "1/s" else unit


def _labels(since: float, until: float, width: int) -> str:
    """Return the beginning, the middle and the end of the axis."""
    form = "%H:%M:%S" if until - since < 86_400 else "%m-%d %H:%M"
    first, middle, last = (
        datetime.fromtimestamp(at, UTC).strftime(form) for at in (since, (since + until) / 2, until)
    )
    last += "Z"
    room = width - len(first) - len(last)
    return f"{first}{middle:^{max(0, room)}}{last}" if room > len(middle) + 2 else f"{first}  {last}"


def _told(document: Mapping[str, Any]) -> Iterator[Text]:
    """Say in words what the axis marks, and where it all comes from."""
    spans = document["spans"]
    if spans:
        yield Text("")
    for span in spans[-_SPANS:]:
        sign, style = _AXIS[span["kind"]]
        end = "until now" if span["until"] is None else f"for {tables.duration(span['seconds'])}"
        lasts = f", {tables.duration(span['seconds'])} so far" if span["until"] is None else ""
        line = Text(f"{sign} ", style=style)
        name = f" (mongo drill {span['name']})" if "name" in span else ""
        told = f"{tables.moment(span['since'])} {end}{lasts}: {_WORDS[span['kind']]}{name}"
        yield line.append(told, style="")
    if len(spans) > _SPANS:
        yield Text(f"  and {len(spans) - _SPANS} earlier ones; --json has them all", style="dim")
    yield Text("")
    yield Text(_origin(document), style="dim")


def _origin(document: Mapping[str, Any]) -> str:
    told = [
        f"{count(source['rows'], 'row')} from {source['name']}"
        for source in document["sources"]
        if source["rows"]
    ]
    step, interval = (tables.duration(document[name]) for name in ("step_seconds", "interval_seconds"))
    seen = ", ".join(told) or "no snapshot in this time"
    return f"{document['deployment']}: {seen}; a snapshot each {interval}, a point each {step}"
