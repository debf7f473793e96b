"""Print the table of log events as Markdown, for docs/architecture.md."""

from worker.events import MEANINGS


def table() -> str:
    """Return the table."""
    rows = [f"| `{event}` | {meaning} |" for event, meaning in MEANINGS.items()]
    return "\n".join(["| event | level and meaning |", "|---|---|", *rows])


if __name__ == "__main__":
    print(table())
