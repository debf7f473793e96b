"""How a result reaches the terminal, a pipe or a file: rendered once, printed once."""

import errno
import io
import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

import click

from .problems import NotWritten, Problem, discard
from .text import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_PIPE_WIDTH = 400
"""Columns where nobody's screen has an end: a line of a table stays a line for grep."""


# Whoever read it has gone, or there was never anybody.
_CLOSED = (errno.EPIPE, errno.EBADF)


_MOST_LEVELS = 100


def to_json(document: Any, *, indent: int | None = None) -> str:
    """Return a document as JSON, as one line where there is no indent; what cannot be seen is escaped."""
    text = json.dumps(document, ensure_ascii=False, indent=indent, default=str)
    return printable(text, keep="\n", as_json=True)


def shown(value: Any, levels: int = _MOST_LEVELS) -> Any:
    """Return a document whose texts hold nothing that a terminal obeys: names come from anywhere."""
    if isinstance(value, str):
        return printable(value)
    if not isinstance(value, (Mapping, list, tuple)):
        return value
    if not levels:
        return "…"
    if isinstance(value, Mapping):
        return {shown(key): shown(inner, levels - 1) for key, inner in value.items()}
    return [shown(inner, levels - 1) for inner in value]


def console(
    *, on_terminal: bool, has_color: bool, file: TextIO | None = None, width: int | None = None
) -> "Console":
    """Return what prints for a person: in colour on a terminal, plain text elsewhere.

    Where there is no terminal COLUMNS says nothing: it may be left from a parent's (readline exports it).
    """
    from rich.console import Console

    return Console(
        file=file,
        force_terminal=on_terminal,
        no_color=not has_color,
        # Bold and dim are no colours, and plain text has neither.
        color_system="auto" if on_terminal and has_color else None,
        width=width or (None if on_terminal else _PIPE_WIDTH),
        highlight=False,
        markup=False,
        emoji=False,
    )


def render(
    renderable: "RenderableType", *, on_terminal: bool, has_color: bool, width: int | None = None
) -> str:
    """Return what a person reads, in lines of `width` columns at most where that is not the terminal's."""
    # Not rich's own capture, which writes to standard output all the same: it may be closed.
    text = io.StringIO()
    console(on_terminal=on_terminal, has_color=has_color, file=text, width=width).print(renderable)
    # Tables pad their last column.
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def is_terminal() -> bool:
    """Return whether a person reads what is printed, now."""
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def wants_color(ctx: click.Context) -> bool:
    """Return False where a person wants none (https://no-color.org)."""
    return not (ctx.obj.no_color or os.environ.get("NO_COLOR"))


def show(text: str) -> bool:
    """Print a result; False where nobody reads it any more, which undoes nothing of what was done.

    Raises NotWritten where it cannot be written, as on a full disk.
    """
    try:
        # click would strip the colours of a terminal that it does not know.
        click.echo(text, color=True)
    except OSError as error:
        if error.errno not in _CLOSED:
            raise NotWritten(error) from None
        discard(1)
        Problem("standard output was closed before the result").show()
        return False
    return True
