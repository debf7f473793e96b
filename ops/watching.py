"""A command again each second: redrawn on a terminal, else one answer below the other, until Ctrl-C."""

import gc
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import click

from . import output
from .deadline import Deadline
from .frame import Answer, Call

EVERY_SECONDS = 1.0


def watch(call: Call, look: Callable[[Call], Answer]) -> Answer | None:
    """Look once a second until Ctrl-C.

    Returns the last answer where the screen was redrawn, for it to stay; else None: all are printed.
    """
    gc.enable()  # the frame turns it off, for commands that end soon
    on_terminal = output.is_terminal() and not call.as_json
    has_color = output.wants_color(click.get_current_context())
    answer: Answer | None = None
    with _screen(has_color=has_color) if on_terminal else nullcontext(None) as screen:
        try:
            while True:
                began = time.monotonic()
                answer = look(replace(call, deadline=Deadline(call.deadline.seconds)))
                if screen is not None:
                    screen.update(answer.renderable, refresh=True)
                elif not _print(answer, as_json=call.as_json, has_color=has_color):
                    return None
                time.sleep(max(0.0, EVERY_SECONDS - (time.monotonic() - began)))
        except KeyboardInterrupt:
            # How a watch ends.
            return answer if on_terminal else None


def _screen(*, has_color: bool) -> Any:
    from rich.live import Live

    console = output.console(on_terminal=True, has_color=has_color)
    return Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop")


def _print(answer: Answer, *, as_json: bool, has_color: bool) -> bool:
    if as_json:
        return output.show(output.to_json(answer.document))
    text = output.render(answer.renderable, on_terminal=False, has_color=has_color)
    return output.show(f"{text}\n")
