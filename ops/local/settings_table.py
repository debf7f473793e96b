"""Print the README's table of settings: `python -m ops.local.settings_table`."""

from collections.abc import Iterable

from worker.settings.fields import SettingDescription, describe

_HEADER = ("Variable", "Default", "Unit", "Allowed", "Why")


def render(rows: Iterable[SettingDescription]) -> str:
    """Return the table as Markdown."""
    lines = [_line(_HEADER), _line(["---"] * len(_HEADER)), *(_line(_cells(row)) for row in rows)]
    return "\n".join(lines)


def _cells(row: SettingDescription) -> list[str]:
    names = [f"`{name}`" for name in (row.variable, row.file_variable) if name]
    default = f"`{row.default}`" if row.default else "not set"
    return [" or ".join(names), default, row.unit, row.allowed, row.reason]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    print(render(describe()))
