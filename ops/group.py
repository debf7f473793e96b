"""Groups of commands. Celery imports this at every start: it imports what Celery's own command line does."""

import errno
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click_didyoumean import DYMGroup

T = TypeVar("T")


class Group(DYMGroup):
    """A group whose wrong arguments end with 64; `lazy` names the commands that it imports when asked for.

    A name is that of a module of `package` and of the command in it, with dashes for underscores.
    """

    def __init__(self, *args: Any, package: str = "", lazy: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._package = package
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order that they were given in."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command where it is lazy."""
        if cmd_name not in self._lazy:
            own: click.Command | None = super().get_command(ctx, cmd_name)
            return own
        from importlib import import_module

        name = cmd_name.replace("-", "_")
        found: click.Command = getattr(import_module(f".{name}", self._package), name)
        return found

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments of the group itself."""
        context: click.Context = parsed(lambda: super(Group, self).make_context(*args, **kwargs))
        return context

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the arguments name; Ctrl-C ends it with 130 from its import on."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            from .problems import Interrupted

            raise Interrupted("interrupted") from None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command that the arguments name."""
        return parsed(lambda: super(Group, self).resolve_command(ctx, args))


def parsed(parse: Callable[[], T]) -> T:
    """Parse arguments; wrong ones end with 64, as sysexits.h has it. Help that cannot be printed, with 74."""
    try:
        return parse()
    except click.UsageError as error:
        from .problems import in_one_line

        error.message = in_one_line(str(error.message))  # type: ignore[misc] # as of the exit code below
        error.exit_code = os.EX_USAGE  # type: ignore[misc] # an error has its own, whatever click types say
        raise
    except OSError as error:
        from .problems import NotWritten

        # click ends at a closed pipe by itself.
        raise (error if error.errno == errno.EPIPE else NotWritten(error)) from None
