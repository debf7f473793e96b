"""The errors that people meet, each with the exit code of a command that ends with it."""

import os
from collections.abc import Sequence


class SettingsError(Exception):
    """One or more settings are wrong: `str()` is one line per problem, without any secret."""

    exit_code = os.EX_CONFIG

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


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


class TaskExitError(RuntimeError):
    """A task raised SystemExit, KeyboardInterrupt, MemoryError or the like: it failed, its process goes on.

    `sys.exit()` does so, and with it a command of click's, argparse's or typer's that a task calls, with exit
    code 0, too: call click's with `standalone_mode=False`, or catch SystemExit.
    """


class TwoCopiesError(RuntimeError):
    """The package was imported under both of its names in one process."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(
            f"{one} and {other} are two copies of celery-pymongo in one process, which would mean two "
            "clients; import it under one name only"
        )
