"""What the documentation says of the code is true."""

from pathlib import Path

from ops.local.events_table import table

ROOT = Path(__file__).resolve().parents[2]


def between(text: str, name: str) -> str:
    """Return what stands between a section's markers."""
    return text.split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->", maxsplit=1)[0].strip()


def test_the_list_of_events_is_the_codes_own():
    """`python -m ops.local.events_table` prints it."""
    assert between((ROOT / "docs" / "architecture.md").read_text(), "events") == table()
