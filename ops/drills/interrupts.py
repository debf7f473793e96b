"""Ctrl-C, SIGTERM and SIGHUP while a drill runs: heard at once where nothing can be left behind by it."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """While entered, a signal raises KeyboardInterrupt within `allowed()`, and elsewhere waits for it.

    So whoever makes something may finish making it, and whoever clears it away may finish that; both are
    bounded in time. Once one was heard the program ends, and an impatient person's next ones are ignored to
    its end: at Python's exit they would print a traceback. In a thread that cannot have signals, as in a
    worker's, it does nothing.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._is_allowed = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                    self._before[number] = signal.signal(number, self._seen)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if self.number is None else signal.SIG_IGN)
        if self.number is not None and kind is None:
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let a signal end the block; one that came before does at once."""
        self._is_allowed = True
        try:
            if self.number is not None:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_allowed = False

    def _seen(self, number: int, _frame: FrameType | None) -> None:
        self.number = self.number or number
        if self._is_allowed:
            self._is_allowed = False
            raise KeyboardInterrupt


class Uninterrupted(Interrupts):
    """For a task: its worker's signals and time limits are the worker's affair."""

    def __enter__(self) -> Self:
        return self


def _nothing(_told: Mapping[str, Any]) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Caller:
    """Who runs a drill: how it is interrupted, and what it hears meanwhile."""

    interrupts: Interrupts = field(default_factory=Uninterrupted)
    tell: Callable[[Mapping[str, Any]], object] = _nothing
