"""Whether an error is the end of its process, or of its task alone.

A process ends where it was told to: a prefork child by a signal, at which billiard's handler raises
SystemExit in whatever runs; MAIN by Celery's WorkerTerminate. What a task raises by itself, as `sys.exit()`
does in click, argparse and typer, or KeyboardInterrupt, or GeneratorExit, ends that task.
"""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from billiard import common, current_process
from celery.exceptions import WorkerShutdown, WorkerTerminate


def end_of_process(error: BaseException) -> BaseException | None:
    """Return the exception with which this process ends, as it was told to; None otherwise.

    `error` is what ended the task's body: that exception itself, or what the body's clean-up raised in its
    place, which Celery would take for the task's failure.
    """
    if _has_end_signal():
        return _chained_exit(error)
    is_told = isinstance(error, (WorkerShutdown, WorkerTerminate)) and _is_worker_stopping()
    return error if is_told else None


def end_fork(error: BaseException | None, close: Callable[[], object]) -> NoReturn:
    """End this process, which a task forked and which comes back from the task's body, as by sys.exit().

    It would answer for the message as its parent does, and take others beside it. `close` is called before.
    """
    code = 0 if error is None else 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
    close()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF)


def is_greenlet_exit(error: BaseException) -> bool:
    """Say whether the greenlet of this task is killed, as at a cold shutdown; its process may go on."""
    greenlet = sys.modules.get("greenlet")
    return greenlet is not None and isinstance(error, greenlet.GreenletExit)


def _has_end_signal() -> bool:
    """Say whether billiard's handler of the signals that end this process has run."""
    # Public since billiard 4.3.
    fired = getattr(common, "terminate_handler_fired", None)
    return bool(fired() if fired else common._should_have_exited[0])


def _chained_exit(error: BaseException | None) -> BaseException | None:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, SystemExit):
            return error
        seen.add(id(error))
        error = error.__context__
    return None


def _is_worker_stopping() -> bool:
    # Where Celery's worker runs in this process it is imported: importing it takes long.
    state = sys.modules.get("celery.worker.state")
    if state is None or current_process().name != "MainProcess":
        return False
    return any(word not in (None, False) for word in (state.should_stop, state.should_terminate))
