"""What ends a command of ours: one clear line, and the exit code that says whose turn it is."""

import os
import re

import click

from .text import printable

# After a scheme; a password may have any character in it.
_LOGIN = re.compile(r"(?<=://)[^\s@]{1,200}@")


def in_one_line(message: str) -> str:
    """Return a message as it may be shown: nothing that a terminal obeys, and no login of a URI."""
    return _LOGIN.sub("***@", printable(message))


class Problem(click.ClickException):
    """Ends the command with one line on stderr."""

    exit_code = 1

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature; the line is for stderr
        """Print the line; where nobody reads it, the exit code says it."""
        try:
            click.echo(f"mongo: {in_one_line(self.message)}", err=True)
        except OSError:
            discard(2)


def discard(descriptor: int) -> None:
    """Let what is written to a closed pipe go nowhere: Python would else end with 120 when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


class Unseen(Problem):
    """What was asked for is unknown: whoever knows it does not answer."""

    exit_code = 3


class Interrupted(Problem):
    """A person pressed Ctrl-C."""

    exit_code = 130


class UsageProblem(Problem):
    """The command was asked for something that is not done."""

    exit_code = os.EX_USAGE


class InputProblem(Problem):
    """The file is there, and what is in it cannot be read as rows."""

    exit_code = os.EX_DATAERR


class NoInput(Problem):
    """The file is missing, a directory, or may not be read."""

    exit_code = os.EX_NOINPUT


class NoOutput(Problem):
    """The file that was named cannot be written, or is there already."""

    exit_code = os.EX_CANTCREAT


class NotWritten(Problem):
    """The result could not be printed, as on a full disk; what the command did is done."""

    exit_code = os.EX_IOERR

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {error.strerror}")
        # What is left of it would fail again at Python's exit.
        discard(1)


class AppProblem(Problem):
    """The app that -A names cannot do this, or -A is missing."""

    exit_code = os.EX_CONFIG


class UnderWay(Problem):
    """Another process does the same; later it can be done again."""

    exit_code = os.EX_TEMPFAIL


class BadRow(ValueError):
    """A row that cannot become a document: `str()` is why, without a word of its content."""
