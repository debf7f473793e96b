"""The words, numbers and tables of every command: one voice. It imports rich: import it in what renders."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
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


class Listing:
    """A table without lines, which reads the same in a terminal and in a file.

    Where it is wider than the screen, columns that can be `spare`d go, the first named first, and a line
    below says which.
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
        needs = {name: self._need(place, console, options) for place, name in enumerate(self._head)}
        left_out: list[str] = []
        for name in self._spare:
            if sum(needs.values()) + _GAP * (len(needs) - 1) <= options.max_width:
                break
            left_out.append(name)
            del needs[name]
        yield self._table(needs)
        if left_out:
            yield Text(f"not shown for want of room: {', '.join(left_out)}", style="dim")

    def _need(self, place: int, console: Console, options: ConsoleOptions) -> int:
        name = self._head[place]
        wide = options.update(width=10_000)
        widths = [Measurement.get(console, wide, row[place]).maximum for row in self._rows]
        most = max([cell_len(name), *widths])
        return most if name in self._right else min(most, max(_NARROW, cell_len(name)))

    def _table(self, kept: Iterable[str]) -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        places = [self._head.index(name) for name in kept]
        for place in places:
            name = self._head[place]
            is_right = name in self._right
            made.add_column(name, justify="right" if is_right else "left", no_wrap=is_right, overflow="fold")
        for row in self._rows:
            made.add_row(*(row[place] for place in places))
        return made


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


def facts(pairs: Mapping[str, Cell]) -> Table:
    """Return a line for each fact: its name and what it is."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="bold", no_wrap=True)
    made.add_column()
    for name, value in pairs.items():
        made.add_row(name, cell(value))
    return made


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
