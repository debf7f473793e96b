"""Write the reference's tables into docs/, from the code: `python -m ops.local.reference`."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from worker.events import MEANINGS
from worker.pool.stats import STATS
from worker.settings.fields import describe

from ..doctor.checks import CHECKS
from ..metrics.series import SERIES

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def settings() -> str:
    """Return the table of settings."""
    rows = [
        (
            " or ".join(f"`{name}`" for name in (row.variable, row.file_variable) if name),
            f"`{row.default}`" if row.default else "not set",
            row.unit,
            row.allowed,
            row.reason,
        )
        for row in describe()
    ]
    return _table(("Variable", "Default", "Unit", "Allowed", "Why"), rows)


def events() -> str:
    """Return the table of log events."""
    return _table(
        ("event", "level and meaning"), [(f"`{event}`", meaning) for event, meaning in MEANINGS.items()]
    )


def checks() -> str:
    """Return the table of the doctor's checks, in their order."""
    rows = [(f"`{one.id}`", one.asks, ", ".join(one.explains), one.practice) for one in CHECKS]
    return _table(("finding", "asks", "explains", "best practice"), rows)


def statistics() -> str:
    """Return the table of a pool's statistics."""
    rows = [
        (
            f"`{stat.key}`",
            stat.unit,
            stat.kind,
            f"{stat.meaning} By {stat.label}." if stat.label else stat.meaning,
            stat.source,
        )
        for stat in STATS
    ]
    return _table(("key", "unit", "kind", "meaning", "source"), rows)


def metrics() -> str:
    """Return the table of the exporter's series."""
    rows = [
        (
            f"`{series.name}`",
            series.kind,
            ", ".join(series.labels) or "-",
            series.meaning,
            series.source,
        )
        for series in SERIES
    ]
    return _table(("series", "kind", "labels", "meaning", "of"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings,
    "events": events,
    "checks": checks,
    "statistics": statistics,
    "metrics": metrics,
}
"""By page, which is also the name between the markers of the page."""


def with_table(page: str, text: str) -> str:
    """Return a page's text with its table as the code has it.

    Raises ValueError where the page lacks the markers.
    """
    begin, end = f"<!-- {page}:begin -->", f"<!-- {page}:end -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{TABLES[page]()}\n{end}{after}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def main() -> None:
    """Write every page anew."""
    for page in TABLES:
        path = REFERENCE / f"{page}.md"
        path.write_text(with_table(page, path.read_text()))
    sys.stdout.write(f"{len(TABLES)} tables written\n")


if __name__ == "__main__":
    main()
