"""Ctrl-C and SIGTERM as facts to look at: nothing is cut off in the middle of a step."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import NoReturn

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Counts the signals that ask for an end: the first asks, the second hurries."""

    def __init__(self) -> None:
        self.count = 0

    @property
    def is_stopping(self) -> bool:
        return self.count > 0

    @property
    def is_hurried(self) -> bool:
        return self.count > 1

    def listen(self) -> None:
        """Take the signals over, and let through those that `hold` kept back."""
        _listen(self._note)

    def ask(self) -> None:
        """Ask for an end from within."""
        self.count = max(self.count, 1)

    def _note(self, *_: object) -> None:
        self.count += 1


class Ended(BaseException):
    """A signal asked for an end while nothing runs that must be stopped in order."""


def end_at_once() -> None:
    """Raise Ended at a signal: for the time of installing, when there is only an installer to stop."""

    def end(*_: object) -> NoReturn:
        raise Ended

    _listen(end)


def _listen(handler: Callable[..., None]) -> None:
    for number in STOPS:
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def hold() -> None:
    """Keep the signals back over an exec: the next program hears them when it listens."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
