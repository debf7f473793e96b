"""What a long command shows on stderr: a bar on a terminal, else a line every five seconds."""

import sys
import time
from contextlib import suppress
from typing import Any, Self

import click

from ..text import count, printable
from .journal import Progress

_LINE_SECONDS = 5.0
_RATE_SECONDS = 10.0


class Screen:
    """Shows how far a load is; nobody reading stderr any more is no reason to stop it."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._trouble: str | None = None
        self._next_line = time.monotonic() + _LINE_SECONDS
        self._rate = Rate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line that matters to whoever reads the output later."""
        if self._quiet:
            return
        line = printable(line)
        with suppress(OSError):
            if self._bar is not None:
                self._bar.console.print(line, markup=False, highlight=False)
            else:
                click.echo(line, err=True)

    def read(self, size: int) -> None:
        """Say how much of the file was read by now, while nothing else can be said of it."""
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_SECONDS
            self.say(f"reading: {size / 1024 / 1024:,.0f} MiB so far")

    def show(self, progress: Progress, total: int, trouble: str | None) -> None:
        """Show how much is done, of so many bytes, and what is waited for."""
        if self._quiet:
            return
        self._rate.see(time.monotonic(), rows=progress.counts.read, size=progress.end)
        if trouble and self._trouble is None:
            self.say(trouble)
        self._trouble = trouble
        with suppress(OSError):
            if sys.stderr is not None and sys.stderr.isatty():
                self._show_bar(progress, total, trouble)
            elif time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + _LINE_SECONDS
                self.say(trouble or self._line(progress, total))

    def _show_bar(self, progress: Progress, total: int, trouble: str | None) -> None:
        if self._bar is None:
            from .bar import Bar

            self._bar = Bar(total)
            self._bar.start()
        self._bar.show(progress.end, printable(trouble or self._line(progress, total)))

    def _line(self, progress: Progress, total: int) -> str:
        counts = progress.counts
        left = self._rate.seconds_left(total)
        eta = "" if left is None else f", {_duration(left)} left"
        rejected = f", {counts.rejected:,} rejected" if counts.rejected else ""
        share = 100 * progress.end / max(total, 1)
        return f"{share:.0f} %: {count(counts.read, 'row')}{rejected}, {self._rate.rows:,.0f} rows/s{eta}"


class Rate:
    """Rows and bytes per second over the last ten seconds; the clock is an argument."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int, int]] = []

    def see(self, now: float, *, rows: int, size: int) -> None:
        """Take note of how much is done now."""
        if not self._seen or now - self._seen[-1][0] >= _RATE_SECONDS / 20:
            self._seen.append((now, rows, size))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _RATE_SECONDS:
            del self._seen[0]

    @property
    def rows(self) -> float:
        """Rows per second."""
        return self._per_second(1)

    def seconds_left(self, total: int) -> float | None:
        """Seconds until so many bytes are done; None while nothing moves, or once all are."""
        rate, left = self._per_second(2), total - (self._seen[-1][2] if self._seen else 0)
        return left / rate if rate > 0 and left > 0 else None

    def _per_second(self, place: int) -> float:
        if len(self._seen) < 2:
            return 0.0
        first, last = self._seen[0], self._seen[-1]
        return (last[place] - first[place]) / (last[0] - first[0])


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
