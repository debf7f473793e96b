"""Write the table of statistics into docs/architecture.md: `python -m ops.local.stats_table`."""

from pathlib import Path

from worker.pool.stats import STATS, Stat

ARCHITECTURE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
_BEGIN, _END = "<!-- stats:begin -->", "<!-- stats:end -->"


def table() -> str:
    """Return the table."""
    return "\n".join(["| key | unit | kind | meaning | source |", "|---|---|---|---|---|", *map(_row, STATS)])


def _row(stat: Stat) -> str:
    meaning = f"{stat.meaning} By {stat.label}." if stat.label else stat.meaning
    return f"| `{stat.key}` | {stat.unit} | {stat.kind} | {meaning} | {stat.source} |"


def put_into(text: str) -> str:
    """Return the document with the table between its markers."""
    before, rest = text.split(_BEGIN)
    return f"{before}{_BEGIN}\n{table()}\n{_END}{rest.split(_END)[1]}"


if __name__ == "__main__":
    ARCHITECTURE.write_text(put_into(ARCHITECTURE.read_text()))
