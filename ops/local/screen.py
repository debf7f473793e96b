"""What `ops/up` prints: lines that stay, and one line of health that is redrawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.constrain import Constrain
from rich.live import Live
from rich.text import Text

REDRAW_SECONDS = 1.0
QUIET_SECONDS = 10.0
ECHO = "^C^C"


class Screen:
    """On a terminal the health is redrawn each second; elsewhere it is a line when its kind changes, and
    when its wording does at most each 10 s. A reader that has gone away is told to `on_closed`.
    """

    def __init__(self, *, on_closed: Callable[[], None]) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._is_terminal = self._console.is_terminal
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._on_closed = on_closed
        self._is_open = True
        self._kind = self._line = ""
        self._drawn_at = float("-inf")

    def say(self, line: str) -> None:
        """Print a line that stays."""
        text = Text(f"{time.strftime('%H:%M:%S')} {line}" if line else "")
        self._guard(lambda: self._console.print(text))

    def health(self, kind: str, line: str) -> None:
        """Show the line of health; `kind` is the part whose change matters at once."""
        now = time.monotonic()
        wait = REDRAW_SECONDS if self._is_terminal else QUIET_SECONDS
        is_news = self._is_terminal or line != self._line
        if kind == self._kind and not (is_news and now - self._drawn_at >= wait):
            return
        self._kind, self._line, self._drawn_at = kind, line, now
        if not self._is_terminal:
            self.say(line)
            return
        text = Text(f"{time.strftime('%H:%M:%S')} {line}", no_wrap=True, overflow="ellipsis")
        # The terminal echoes ^C behind it: wrapped, it would push up a line that nobody takes away.
        bounded = Constrain(text, self._console.width - len(ECHO))
        self._guard(lambda: self._live.update(bounded, refresh=True))

    def __enter__(self) -> Self:
        if self._is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_terminal:
            self._guard(self._live.stop)

    def _guard(self, write: Callable[[], None]) -> None:
        if not self._is_open:
            return
        try:
            write()
        except OSError:  # a closed pipe, or a terminal that is gone
            self._is_open = False
            self._on_closed()
