"""Write the table of the doctor's checks into docs/architecture.md: `python -m ops.local.checks_table`."""

from pathlib import Path

from ..doctor.checks import CHECKS
from ..doctor.finding import Check

ARCHITECTURE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
_BEGIN, _END = "<!-- checks:begin -->", "<!-- checks:end -->"


def table() -> str:
    """Return the table, in the order of the checks."""
    head = ["| finding | asks | explains | best practice |", "|---|---|---|---|"]
    return "\n".join([*head, *map(_row, CHECKS)])


def _row(check: Check) -> str:
    return f"| `{check.id}` | {check.asks} | {', '.join(check.explains)} | {check.practice} |"


def put_into(text: str) -> str:
    """Return the document with the table between its markers."""
    before, rest = text.split(_BEGIN)
    return f"{before}{_BEGIN}\n{table()}\n{_END}{rest.split(_END)[1]}"


if __name__ == "__main__":
    ARCHITECTURE.write_text(put_into(ARCHITECTURE.read_text()))
