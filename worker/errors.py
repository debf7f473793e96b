"""The errors that people meet, each with the exit code of a command that ends with it."""

import os
import sys
from collections.abc import Sequence

from .text import printable


class SettingsError(Exception):
    """One or more settings are wrong: `str()` is one line per problem, without any secret."""

    exit_code = os.EX_CONFIG

    def __init__(self, problems: Sequence[str]) -> None:
        # Names of variables are anybody's.
        self.problems = tuple(map(printable, problems))
        super().__init__("\n".join(self.problems))


def end_command(error: SettingsError) -> None:
    """Within a command of Celery's: print one line per problem and end with the error's exit code.

    Celery's command line would make a stack and exit code 2 of any error in an app's module, and a probe
    reads 2 as *down*. Anywhere else, a web process or a script, nothing is done.
    """
    if "celery.bin.celery" not in sys.modules:
        return
    from celery.bin.celery import celery
    from click import get_current_context

    context = get_current_context(silent=True)
    if context is not None and context.find_root().command is celery:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None


class ClientClosedError(RuntimeError):
    """The process's client was closed, and nobody opened it again."""

    def __init__(self, pid: int) -> None:
        super().__init__(
            f"the MongoDB client of process {pid} was closed at its shutdown; it is not opened again"
        )


class ClientInMainError(RuntimeError):
    """A prefork worker's main process asked for a client: it would be copied into every child."""

    def __init__(self, node: str) -> None:
        super().__init__(
            f"{node}: the main process of a prefork worker holds no MongoDB client; use it in tasks, or from "
            "worker_process_init on"
        )


class NotInstalledError(RuntimeError):
    """A MongoTask runs under an app that `install(app)` has not seen."""

    def __init__(self, app_name: str) -> None:
        super().__init__(
            f"app {app_name!r} has no MongoDB client: call celery_pymongo.install(app) where it is made"
        )


class DeadLetteredError(RuntimeError):
    """The task's message went to the dead letters and is not run again by itself."""


class NeedsRedisError(RuntimeError):
    """A task with `idempotent=False` where no Redis is named: only there could it be noted that it ran."""

    def __init__(self, task: str) -> None:
        super().__init__(
            f"{task} must not run twice, and no Redis is named to note that it ran: set REDIS_URL"
        )


class TaskExitError(RuntimeError):
    """A task raised SystemExit, KeyboardInterrupt, MemoryError or the like: it failed, its process goes on.

    `sys.exit()` does so, and with it a command of click's, argparse's or typer's that a task calls, with exit
    code 0, too: call click's with `standalone_mode=False`, or catch SystemExit.
    """


class MarkersFullError(RuntimeError):
    """More tasks than there is room for wrote to one document by `once` in a week; nothing was written."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"once() has marked this document for {most:,} tasks of this week, and would forget one: use "
            "run_once(), whose markers are documents of their own"
        )


class TwoCopiesError(RuntimeError):
    """The package was imported under both of its names in one process."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(
            f"{one} and {other} are two copies of celery-pymongo in one process, which would mean two "
            "clients; import it under one name only"
        )
