"""The frame of every command: what it is given, how it answers, how it ends.

A command is a function in a file of its own, `commands/NAME.py`, named in `cli.COMMANDS`, which imports it
when it is asked for:

    @command()                          # takes the arguments of click.command
    @click.option("--node", help="Of this node alone.")
    def ping(call: Call, node: str | None) -> Answer:
        \"""Ping MongoDB from every process, now.

        Example: celery -A worker mongo ping
        \"""
        view = call.app.mongo.view                            # all that can be known, source by source
        redis = call.deadline.ask(view.look)                  # side by side, each in a thread
        seen = redis.seen()                                   # waits, until --timeout at most
        return Answer("ping/1", {"verdict": "ok", ...}, render, unseen={"Redis": seen.why})

- The frame adds `--json` and `--timeout`, finds the app, and closes the client that the command opened.
- What a person reads is `render(document)`, a rich renderable or a text, of the document that `--json`
  prints, so that both say the same. `tables` has the words, numbers and tables of all commands; import it in
  `render`: it imports rich.
- A document says its `schema`: a name and version that `schemas/NAME-VERSION.json` publishes. It has
  `unseen`: what could not be seen, and why; the frame prints it below what `render` returns.
- The exit code is that of the document's `verdict`, or the answer's own. Raise a `Problem` for one line on
  stderr and its code; errors of Redis, the broker and MongoDB become one by themselves.
"""

import functools
import gc
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from . import output
from .deadline import Deadline
from .group import Group, parsed
from .problems import AppProblem, Interrupted, NotWritten, Problem, Unseen

if TYPE_CHECKING:
    from rich.console import RenderableType

F = TypeVar("F", bound=Callable[..., Any])

EXITS = {"ok": 0, "degraded": 1, "down": 2, "unknown": 3}
"""The exit code of each verdict."""

SECONDS = 5.0
"""How long a command takes at most, unless `--timeout` says otherwise."""


class Command(CeleryCommand):
    """A command whose wrong arguments end with 64, as sysexits.h has it."""

    function: "Callable[..., Answer | None] | None" = None
    """What it does, where `command` made it."""

    def ask(self, call: "Call", *arguments: str) -> "Answer | None":
        """Return what the command finds, for one that is made of several; raises what it raises."""
        given = self.make_context(self.name or "", list(arguments)).params
        ours = ("as_json", "timeout")
        options = {name: value for name, value in given.items() if name not in ours}
        return None if self.function is None else self.function(call, **options)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments."""
        context: click.Context = parsed(lambda: super(Command, self).make_context(*args, **kwargs))
        return context


@dataclass(frozen=True)
class Call:
    """What a command is given: the app that -A names, its deadline, and whether it is to be quiet."""

    app: Any
    deadline: Deadline
    is_quiet: bool = False
    as_json: bool = False


@dataclass(frozen=True)
class Answer:
    """What a command found: a document for machines, and what makes of it what a person reads.

    `unseen` is by source why nothing is known of it, None where it was seen. Without an `exit_code` that of
    the body's verdict counts, or 0.
    """

    schema: str
    body: Mapping[str, Any]
    render: "Callable[[Mapping[str, Any]], RenderableType]"
    unseen: Mapping[str, str | None] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        unseen = {source: why for source, why in self.unseen.items() if why is not None}
        return {"schema": self.schema, **self.body, "unseen": unseen}

    @property
    def renderable(self) -> "RenderableType":
        """What a person reads: the document, and what could not be seen."""
        from rich.console import Group as Lines
        from rich.text import Text

        document = output.shown(self.document)
        by_reason: dict[str, list[str]] = {}
        for source, why in document["unseen"].items():
            by_reason.setdefault(why, []).append(source)
        unseen = (Text(f"not seen: {', '.join(sources)} ({why})") for why, sources in by_reason.items())
        return Lines(self.render(document), *unseen)

    @property
    def code(self) -> int:
        """The exit code."""
        return EXITS.get(self.body.get("verdict", "ok"), 0) if self.exit_code is None else self.exit_code


def command(
    *, group: click.Group | None = None, seconds: float | None = SECONDS, **options: Any
) -> Callable[[F], Command]:
    """Return what makes a function from a `Call` and its own options to an `Answer` a command.

    `group` is where it belongs, unless it is named in `cli.COMMANDS`. `seconds` is the default of
    `--timeout`; None is for a command that takes as long as it takes, which has no such option. A function
    that returns None has printed its result.
    """

    def decorate(function: F) -> Command:
        @functools.wraps(function)
        def run(ctx: click.Context, as_json: bool, timeout: float | None = None, **kwargs: Any) -> None:
            app = app_of(ctx)
            # What the driver's threads meet the command tells itself; an app that logs may hear of it.
            logging.getLogger("pymongo").addHandler(logging.NullHandler())
            deadline = Deadline(float("inf") if timeout is None else timeout)
            call = Call(app, deadline, is_quiet=ctx.obj.quiet, as_json=as_json)
            code = 0
            if seconds is not None:
                # It is over before its garbage matters, and collecting among the reports of ten thousand
                # processes takes a fifth of its time. One that takes as long as it takes needs the collector.
                gc.disable()
            try:
                answer = _run(app, lambda: function(call, **kwargs))
            except Problem as problem:
                problem.show()
                answer, code = None, problem.exit_code
            finally:
                gc.enable()
                was_open = _close(call)
            if answer is not None:
                code = _told(ctx, answer, as_json=as_json)
            _leave(ctx, code, was_open=was_open)

        # click keeps them in the order of decorators, the lowest first: ours are listed last.
        ours = [_JSON] if seconds is None else [_JSON, _timeout(seconds)]
        run.__click_params__ = [*reversed(ours), *getattr(function, "__click_params__", [])]  # type: ignore[attr-defined] # where click looks for them
        declare = click.command if group is None else group.command
        made: Any = declare(cls=Command, **options)(click.pass_context(handle_preload_options(run)))
        made.function = function
        command: Command = made
        return command

    return decorate


class _Seconds(click.FloatRange):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return found


_JSON = click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document.")


def _timeout(seconds: float) -> click.Option:
    return click.Option(
        ["--timeout"],
        type=_Seconds(0.1, 600.0),
        default=seconds,
        show_default=True,
        metavar="SECONDS",
        help="Answer within this, with what is known by then.",
    )


def app_of(ctx: click.Context) -> Any:
    """Return the app that -A names, once it is sure to be one with a MongoDB client."""
    app = ctx.obj.app
    if app.main in (None, "default") and not hasattr(app, "mongo"):
        raise AppProblem("which app? write celery -A APP mongo …")
    if not hasattr(app, "mongo"):
        raise AppProblem(f"the app {app.main} has no MongoDB client: call install(app) where it is made")
    app.loader.import_default_modules()
    return app


def emit(ctx: click.Context, answer: Answer, *, as_json: bool) -> None:
    """Print the answer's document, or what a person reads of it and what could not be seen."""
    if as_json:
        output.show(output.to_json(answer.document))
        return
    on_terminal, has_color = output.is_terminal(), output.wants_color(ctx)
    output.show(output.render(answer.renderable, on_terminal=on_terminal, has_color=has_color))


def _told(ctx: click.Context, answer: Answer, *, as_json: bool) -> int:
    """Print the answer; return the exit code."""
    try:
        emit(ctx, answer, as_json=as_json)
    except NotWritten as problem:
        problem.show()
        return problem.exit_code
    return answer.code


def _run(app: Any, function: Callable[[], Answer | None]) -> Answer | None:
    """Run a command's function; what servers do to it ends in one line."""
    try:
        return function()
    except KeyboardInterrupt:
        raise Interrupted("interrupted") from None
    except click.ClickException:
        raise
    except Exception as error:  # noqa: BLE001 - raised again, but for those of servers, which become one line
        raise problem_of(app, error) or error from None


def _close(call: Call) -> bool:
    """Close the client that the command opened; False where it opened none."""
    close = getattr(call.app.mongo, "close", None)
    seconds = min(_CLOSE_SECONDS, max(0.05, call.deadline.left))
    return close is not None and bool(close(seconds))


_CLOSE_SECONDS = 0.5


def _leave(ctx: click.Context, code: int, *, was_open: bool) -> None:
    """End the program. Where it had a client PyMongo would wait half a second at Python's exit, for threads
    that sleep: the client is closed and the result printed and flushed, so nobody has to.
    """
    is_program = not isinstance(ctx.find_root().command, Group)
    if was_open and is_program:
        os._exit(code)
    ctx.exit(code)


def problem_of(app: Any, error: Exception) -> Problem | None:
    """Return what to tell a person of an error of a server's, in one line; None where it is another's."""
    from kombu.exceptions import OperationalError
    from pymongo.errors import OperationFailure, PyMongoError

    if isinstance(error, OperationFailure):
        return Unseen(f"MongoDB refuses it ({app.mongo.reason(error)})")
    if isinstance(error, PyMongoError):
        return Unseen(f"MongoDB does not answer: {app.mongo.reason(error)}")
    if isinstance(error, OperationalError):
        # kombu's own error stands for what its transport met.
        cause = error.__cause__
        if cause is not None and app.mongo.redis_problem(cause) is not None:
            return Unseen(f"the broker {app.mongo.redis_reason(cause)}")
        return Unseen("the broker does not answer (OperationalError)")
    told: str | None = app.mongo.redis_problem(error)
    return None if told is None else Unseen(told)
