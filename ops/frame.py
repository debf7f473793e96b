"""What every command of ours shares: its exit code of wrong usage, its app, and how it prints."""

import os
from typing import Any

import click
from celery.bin.base import CeleryCommand

from .loading.problems import AppProblem, Problem, WrongUsage, discard


class Command(CeleryCommand):
    """A command whose wrong arguments end with 64, as sysexits.h has it."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments."""
        try:
            context: click.Context = super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise WrongUsage(error.format_message(), error.ctx) from None
        return context


def app_of(ctx: click.Context) -> Any:
    """Return the app that -A names, once it is sure to be one with a MongoDB client."""
    app = ctx.obj.app
    if app.main in (None, "default") and not hasattr(app, "mongo"):
        raise AppProblem("which app? write celery -A APP mongo …")
    if not hasattr(app, "mongo"):
        raise AppProblem(f"the app {app.main} has no MongoDB client: call install(app) where it is made")
    app.loader.import_default_modules()
    return app


def colour(ctx: click.Context) -> bool | None:
    """Return False where a person wants none; None leaves it to what the output is."""
    # https://no-color.org
    return False if ctx.obj.no_color or os.environ.get("NO_COLOR") else None


def show(text: str, *, color: bool | None = None) -> None:
    """Print a result; where nobody reads it any more what was done is done all the same."""
    try:
        click.echo(text, color=color)
    except OSError:
        discard(1)
        Problem("standard output was closed before the summary").show()
