"""A moving window on a stream: what is passed over or too long is forgotten, so memory stays small.

What takes long is a search in C; nothing here goes byte by byte.
"""

import re
from typing import Protocol

CHUNK = 256 * 1024


class Stream(Protocol):
    """Where the bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many; none at the end."""

    def tell(self) -> int:
        """Return how many were read."""


class ByteWindow:
    """`offset` and `line` (from 1) are where it stands."""

    def __init__(self, stream: Stream, *, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._bytes = b""
        self._at = 0
        self._searched = 0
        self._is_too_long = False
        self.offset = stream.tell()
        self.line = 1

    def pass_over(self, run: re.Pattern[bytes]) -> bytes:
        """Go on behind a run of such bytes, however long; return the byte there, b"" at the end.

        `run` matches what is to be passed over, or nothing, and also what of it a window happens to have.
        """
        while True:
            match = run.match(self._bytes, self._at)
            self._move(match.end() if match else self._at)
            if self._at < len(self._bytes):
                return self._bytes[self._at : self._at + 1]
            if not self._more():
                return b""

    def skip(self) -> None:
        """Pass over one byte."""
        self._move(self._at + 1)

    def read_line(self, limit: int) -> bytes:
        """Return what there is up to a line end and with it, at most `limit` bytes; b"" at the end."""
        searched = self._at
        while True:
            end = self._bytes.find(b"\n", searched, self._at + limit)
            held = len(self._bytes) - self._at
            if end >= 0 or held >= limit or not self._more():
                break
            searched = self._at + held
        taken = self._bytes[self._at : self._at + limit if end < 0 else end + 1]
        self._move(self._at + len(taken))
        return taken

    def read_run(self, run: re.Pattern[bytes], limit: int) -> bytes:
        """Return a run of such bytes, at most `limit` of them."""
        searched = self._at
        while True:
            match = run.match(self._bytes, searched)
            size = (match.end() if match else searched) - self._at
            if self._at + size < len(self._bytes) or size >= limit or not self._more():
                break
            searched = self._searched
        taken = self._bytes[self._at : self._at + min(size, limit)]
        self._move(self._at + len(taken))
        return taken

    def begin(self) -> int:
        """Begin a value where it stands; return its place for `behind`, until `take` ends it."""
        self._is_too_long = False
        return self._at

    def take(self, stop: int) -> bytes:
        """Go to this place and return the value that ends there; b"" of one beyond the limit."""
        is_too_long = self._is_too_long or stop - self._at > self._limit
        taken = b"" if is_too_long else self._bytes[self._at : stop]
        self._move(stop)
        return taken

    def behind(self, run: re.Pattern[bytes], at: int) -> tuple[int, bytes]:
        """Return the place behind a run of such bytes from `at` on, and the byte there, b"" at the end.

        For values that are not taken yet. A place is good until the next one is asked for.
        """
        while True:
            match = run.match(self._bytes, at)
            end = match.end() if match else at
            if end < len(self._bytes):
                return end, self._bytes[end : end + 1]
            if not self._more():
                return len(self._bytes), b""
            at = self._searched

    def _more(self) -> bool:
        """Read on; `_searched` is then where what is new begins."""
        chunk = self._stream.read(CHUNK)
        # An escape is never cut in two. Of a run of backslashes each second one is escaped.
        if (len(chunk) - len(chunk.rstrip(b"\\"))) % 2:
            chunk += self._stream.read(1)
        if len(self._bytes) - self._at > self._limit:
            self._is_too_long = True
            self._move(len(self._bytes))
        self._bytes = self._bytes[self._at :]
        self._at = 0
        self._searched = len(self._bytes)
        self._bytes += chunk
        return bool(chunk)

    def _move(self, to: int) -> None:
        self.line += self._bytes.count(b"\n", self._at, to)
        self.offset += to - self._at
        self._at = to
