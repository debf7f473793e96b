"""The words, numbers and tables of every command: one voice. It imports rich: import it in what renders."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .text import count

STYLES = {
    "ok": "green",
    "degraded": "yellow",
    "down": "bold red",
    "unknown": "magenta",
    "live": "green",
    "stale": "yellow",
    "busy": "yellow",
    "lost": "bold red",
    "missing": "bold red",
    "closed": "green",
    "half-open": "yellow",
    "open": "bold red",
    "critical": "bold red",
    "warning": "yellow",
    "info": "cyan",
    "note": "cyan",
}
"""The colour of each word that says how something is."""

NONE = "-"
"""What stands for what is unknown or not there."""

Cell = RenderableType | int | float | None


_NARROW = 24
"""Columns that a text needs at least before it is folded."""


@dataclass(frozen=True)
class Width:
    """How wide a column is: `least` for its longest word, `usual` for lines that read well, `most` for all of
    it.
    """

    least: int
    usual: int
    most: int


class Listing:
    """A table without lines, which reads the same in a terminal and in a file.

    Where it is wider than the screen, columns that can be `spare`d go, the first named first, and a line
    below says which. Where the longest words of the others do not fit beside each other either, each row
    stands below the one before, a line for each column: no word is cut.
    """

    def __init__(
        self,
        head: Sequence[str],
        rows: Iterable[Sequence[Cell]],
        *,
        right: Iterable[str],
        spare: Sequence[str],
    ) -> None:
        self._head = list(head)
        self._rows = [list(map(cell, row)) for row in rows]
        self._right = set(right)
        self._spare = spare

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Print the columns that there is room for."""
        kept = {name: self._width(place, console, options) for place, name in enumerate(self._head)}
        left_out: list[str] = []
        for name in self._spare:
            if _total(width.usual for width in kept.values()) <= options.max_width:
                break
            left_out.append(name)
            del kept[name]
        if _total(width.least for width in kept.values()) > options.max_width:
            yield from self._stacked()
            return
        yield self._table(fitted(kept, options.max_width))
        if left_out:
            yield Text(f"not shown for want of room: {', '.join(left_out)}", style="dim")

    def _width(self, place: int, console: Console, options: ConsoleOptions) -> Width:
        name = self._head[place]
        wide = options.update(width=10_000)
        cells = [Measurement.get(console, wide, row[place]) for row in self._rows]
        most = max([cell_len(name), *(each.maximum for each in cells)])
        least = max([cell_len(name), *(each.minimum for each in cells)])
        if name in self._right:
            return Width(most, most, most)
        return Width(least, max(least, min(most, _NARROW)), most)

    def _table(self, widths: Mapping[str, int]) -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        places = [self._head.index(name) for name in widths]
        for name, width in widths.items():
            is_right = name in self._right
            justify: Literal["left", "right"] = "right" if is_right else "left"
            made.add_column(name, justify=justify, no_wrap=is_right, overflow="fold", width=width)
        for row in self._rows:
            made.add_row(*(row[place] for place in places))
        return made

    def _stacked(self) -> Iterator[RenderableType]:
        for number, row in enumerate(self._rows):
            if number:
                yield Text("")
            told = zip(self._head, row, strict=True)
            yield FactLines({name: value for name, value in told if value not in ("", Text(""))})


def fitted(columns: Mapping[str, Width], room: int) -> dict[str, int]:
    """Return the width of each column: what it needs at least, and an even share of the room that is left to
    those that can use it.
    """
    found = {name: width.least for name, width in columns.items()}
    left = room - _total(found.values())
    wanting = sorted(columns, key=lambda name: columns[name].most - columns[name].least)
    for place, name in enumerate(wanting):
        more = min(columns[name].most - columns[name].least, left // (len(wanting) - place))
        found[name] += more
        left -= more
    return found


def _total(widths: Iterable[int]) -> int:
    found = list(widths)
    return sum(found) + _GAP * (len(found) - 1)


_GAP = 2


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    right: Iterable[str] = (),
    spare: Sequence[str] = (),
) -> Listing:
    """Return a table; numbers stand to the right, and what `right` names. `spare`: see `Listing`."""
    known = [list(row) for row in rows]
    numbers = {
        name
        for place, name in enumerate(head)
        if known and all(isinstance(row[place], (int, float)) or row[place] is None for row in known)
    }
    return Listing(head, known, right=numbers | set(right), spare=spare)


def listed(made: Listing, *, shown: int, of: int, what: str) -> RenderableType:
    """Return a table, with a line that says how many rows there are more."""
    return made if shown == of else Group(made, Text(f"and {count(of - shown, what)} more", style="dim"))


def cell(value: Cell) -> RenderableType:
    """Return a value as it stands in a table: words that say how something is in their colour."""
    if value is None:
        return Text(NONE, style="dim")
    if isinstance(value, str):
        return Text(value, style=STYLES.get(value, ""))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1f}" if isinstance(value, float) else value


class FactLines:
    """A line for each fact: its name and what it is. What has a word that is too long for the room beside the
    names stands below its name.
    """

    def __init__(self, pairs: Mapping[str, Cell]) -> None:
        self._pairs = {name: cell(value) for name, value in pairs.items()}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Print the lines."""
        label = max(map(cell_len, self._pairs), default=0)
        room = options.max_width - label - _GAP
        beside: list[tuple[str, RenderableType]] = []
        for name, value in self._pairs.items():
            longest = Measurement.get(console, options.update(width=10_000), value).minimum
            if longest <= room:
                beside.append((name, value))
                continue
            yield from _grid(beside, label)
            beside = []
            yield Text(name, style="bold")
            yield Padding(value, (0, 0, 0, _GAP if longest + _GAP <= options.max_width else 0))
        yield from _grid(beside, label)


def _grid(rows: Sequence[tuple[str, RenderableType]], label: int) -> Iterator[Table]:
    if not rows:
        return
    made = Table.grid(padding=(0, _GAP, 0, 0))
    made.add_column(style="bold", no_wrap=True, width=label)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, value)
    yield made


def facts(pairs: Mapping[str, Cell]) -> FactLines:
    """Return a line for each fact: its name and what it is."""
    return FactLines(pairs)


def sections(*parts: RenderableType | None) -> Group:
    """Return the parts below each other, with a line between them; None is left out."""
    kept = [part for part in parts if part is not None]
    spaced = [piece for part in kept for piece in (part, Text(""))]
    return Group(*spaced[:-1])


def word(text: str) -> Text:
    """Return a word that says how something is, in its colour."""
    return Text(text, style=STYLES.get(text, ""))


def headline(verdict: str, text: str) -> Text:
    """Return a verdict and what it is about."""
    return Text.assemble(word(verdict), f"  {text}")


def yes(is_so: bool) -> Text:
    """Return yes or no."""
    return Text("yes", style="green") if is_so else Text("no", style="bold red")


def bullets(lines: Iterable[str]) -> Group:
    """Return a line for each, behind a dash."""
    return Group(*(Text(f"  - {line}") for line in lines))


# --- numbers ----------------------------------------------------------------------------------------


def milliseconds(value: float | None) -> str | None:
    """Return '0.42 ms', '42 ms' or '4.2 s'."""
    if value is None:
        return None
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.2f} ms"


def duration(seconds: float | None) -> str | None:
    """Return '4.2 s', '3 min 5 s', '2 h 3 min' or '4 d 2 h'."""
    if seconds is None:
        return None
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    for size, name, below, next_name in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name}" + (f" {rest} {next_name}" if rest else "")
    return f"{whole} s"


def short(seconds: float | None) -> str | None:
    """Return a duration for a table: '0.9s', '42s', '4m31s', '2h03m', '4d02h'."""
    if seconds is None:
        return None
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    whole = round(seconds)
    for size, name, below, next_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m")):
        if whole >= size:
            return f"{whole // size}{name}{whole % size // below:02}{next_name}"
    return f"{whole // 60}m{whole % 60:02}s"


def size(value: float | None) -> str | None:
    """Return '812 B', '12.3 MB'."""
    if value is None:
        return None
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def moment(at: float) -> str:
    """Return unix seconds as '2026-01-02 03:04:05Z'."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def instant(at: float) -> str:
    """Return unix seconds as '2026-01-02 03:04:05.678'."""
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")


def since(at: float | None, now: float) -> str | None:
    """Return '3 min 5 s, since 2026-01-02 03:04:05Z'."""
    return None if at is None else f"{duration(max(0.0, now - at))}, since {moment(at)}"


_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], *, width: int = 40) -> str:
    """Return the newest values as bars between 0 and the largest; a gap where one is unknown."""
    shown = list(values)[-width:]
    most = max((value for value in shown if value is not None), default=0.0)
    top = len(_BARS) - 1
    return "".join(" " if v is None else _BARS[round(top * v / most) if most > 0 else 0] for v in shown)
