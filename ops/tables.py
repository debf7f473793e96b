"""The words, numbers and tables of every command: one voice. It imports rich: import it in what renders."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

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
    "half_open": "yellow",
    "open": "bold red",
    "critical": "bold red",
    "warning": "yellow",
    "info": "cyan",
}
"""The colour of each word that says how something is."""

NONE = "-"
"""What stands for what is unknown or not there."""

Cell = RenderableType | int | float | None


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]], *, right: Iterable[str] = ()) -> Table:
    """Return a table without lines, which reads the same in a terminal and in a file; numbers to the right.

    `right` names more columns to be set to the right.
    """
    known = [list(row) for row in rows]
    numbers = {
        name
        for place, name in enumerate(head)
        if known and all(isinstance(row[place], (int, float)) or row[place] is None for row in known)
    } | set(right)
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in head:
        made.add_column(name, justify="right" if name in numbers else "left", no_wrap=name in numbers)
    for row in known:
        made.add_row(*map(cell, row))
    return made


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
