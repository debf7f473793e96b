"""`celery -A app mongo …`: the commands of this project beside Celery's own.

Celery imports this module at every start, of workers too, so it imports next to nothing; each command is
imported when it is asked for. The app is the one that -A names; nothing here asks which modules it came from.
"""

import click

from .group import Group

COMMANDS = (
    "status",
    "processes",
    "doctor",
    "size",
    "ping",
    "reconnect",
    "pause",
    "resume",
    "snapshot",
    "history",
    "flight",
    "leaks",
    "drill",
    "bundle",
    "load",
    "dump",
    "dead",
    "exporter",
    "schema",
)
"""In the order of `--help`; each is in a module of `commands` of its name."""


@click.group(cls=Group, package=f"{__package__}.commands", lazy=COMMANDS)
def mongo() -> None:
    """Inspect and operate this app's MongoDB clients; load and dump data.

    Each command answers within its --timeout and says what it could not see; --json prints one document
    that `schema` describes. Exit codes: 0 ok, 1 degraded, 2 down, 3 unknown, 64 wrong usage, 78 settings.

    Example: celery -A worker mongo status
    """
