"""A file to load: opened, decompressed, surveyed once, and read again from its start."""

import gzip
import hashlib
import os
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, BinaryIO, Self, TypeVar

from ..problems import InputProblem, NoInput, UsageProblem

CHUNK = 1024 * 1024
OnRead = Callable[[int], None]
_T = TypeVar("_T")
_HEAD = 64 * 1024
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BOM = b"\xef\xbb\xbf"
_UTF_16_OR_32 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


@dataclass(frozen=True)
class Survey:
    """What one pass over the content found; `digest` is its SHA-256, whatever the file's name or packing."""

    digest: str
    size: int
    head: bytes


class Source:
    """One file's content, as often as it is asked for; bytes, without a byte order mark.

    What cannot be read twice (`-`, a pipe) is copied to a file without a name first. `label` names the source
    in the names of other files. `on_read` is called at least once for each MiB that is read, with how many
    bytes it has been since the content was opened; what it raises ends the reading.
    """

    def __init__(self, name: str, on_read: OnRead = lambda _size: None) -> None:
        self.name = name
        self.on_read = on_read
        self._file = self._seekable()
        self.label = os.path.basename(name) if stat.S_ISREG(_mode(name)) else "stdin"
        try:
            self._unpack = _unpacker(name, self._peek(4))
        except BaseException:
            self._file.close()
            raise
        self._before = self._state()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self._file.close()

    def open(self) -> "Content":
        """Return the content from its start. One reader at a time: they share the file's position."""
        return Content(self._rewound, self._heard)

    def survey(self) -> Survey:
        """Read all of it once; InputProblem where it is damaged or is no text."""
        digest, size, head = hashlib.sha256(), 0, b""
        for chunk in self._chunks(self._rewound):
            if not size:
                head = chunk[:_HEAD]
                self._refuse_binary(head)
            digest.update(chunk)
            size += len(chunk)
        return Survey(digest.hexdigest(), size, head)

    @property
    def is_changed(self) -> bool:
        """Whether somebody wrote to the file since it was opened."""
        return self._state() != self._before

    def _rewound(self) -> BinaryIO:
        self._file.seek(0)
        stream: BinaryIO = self._unpack(self._file)
        if stream.read(len(_BOM)) != _BOM:
            stream.seek(0)
        return stream

    def _heard(self, size: int) -> None:
        self.on_read(size)

    def _chunks(self, open_stream: Callable[[], BinaryIO], size: int = CHUNK) -> Iterator[bytes]:
        try:
            content = Content(open_stream, self._heard)
            while chunk := content.read(size):
                yield chunk
        except InputProblem as problem:
            raise InputProblem(f"{self.name}: {problem.message}; nothing was loaded") from None

    def _seekable(self) -> BinaryIO:
        stream = _opened(self.name)
        if self.name == "-":
            return self._spooled(stream)
        if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return stream
        with stream:
            return self._spooled(stream)

    def _spooled(self, stream: BinaryIO) -> BinaryIO:
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - the Source closes it
        try:
            for chunk in self._chunks(lambda: stream):
                if not copy.tell() and not chunk.startswith((_GZIP, _ZSTD)):
                    self._refuse_binary(chunk[:_HEAD])  # as of /dev/zero, which has no end
                copy.write(chunk)
            # Its state is compared at the end: what is still in a buffer now would look like a change.
            copy.flush()
        except OSError as error:
            copy.close()
            raise NoInput(f"cannot copy the input to {tempfile.gettempdir()}: {error.strerror}") from None
        except BaseException:
            copy.close()
            raise
        copy.seek(0)
        return copy

    def _refuse_binary(self, head: bytes) -> None:
        if head.startswith(_UTF_16_OR_32):
            raise InputProblem(f"{self.name}: UTF-16 or UTF-32; convert it first: iconv -f UTF-16 -t UTF-8")
        if b"\x00" in head:
            raise InputProblem(f"{self.name}: not text (it has NUL bytes); CSV, JSON and JSON Lines are read")

    def _peek(self, size: int) -> bytes:
        head = next(self._chunks(lambda: self._file, size), b"")
        self._file.seek(0)
        return head

    def _state(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns


class Content:
    """A stream whose errors are InputProblems, without the file's name, and whose reading is heard of."""

    def __init__(self, open_stream: Callable[[], BinaryIO], on_read: OnRead) -> None:
        self._on_read = on_read
        self._size = 0
        self._stream = _legible(open_stream)

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes; none at the end."""
        chunk = _legible(lambda: self._stream.read(size))
        self._size += len(chunk)
        self._on_read(self._size)
        return chunk

    def tell(self) -> int:
        """Return where in the content it is."""
        return self._stream.tell()


def _legible(act: Callable[[], _T]) -> _T:
    try:
        return act()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = f"damaged or cut short ({error})"
    except OSError as error:  # of a disk, of a file server, of what only looks like a file
        reason = f"cannot be read ({error.strerror or error})"
    except Exception as error:
        # One of two modules, neither of which has to be there.
        if type(error).__name__ != "ZstdError":
            raise
        reason = f"damaged or cut short ({error})"
    raise InputProblem(reason)


def _opened(name: str) -> BinaryIO:
    if name == "-":
        if sys.stdin is None or sys.stdin.closed:
            raise NoInput("-: standard input is closed")
        return sys.stdin.buffer
    try:
        return open(name, "rb")
    except IsADirectoryError:
        raise NoInput(f"{name}: a directory; name one file") from None
    except OSError as error:
        raise NoInput(f"{name}: {error.strerror}") from None


def _mode(name: str) -> int:
    try:
        return os.stat(name).st_mode
    except OSError:
        return 0


def _unpacker(name: str, head: bytes) -> Callable[[BinaryIO], Any]:
    if head.startswith(_GZIP):
        return lambda file: gzip.GzipFile(fileobj=file, mode="rb")
    if head.startswith(_ZSTD):
        zstd = _zstd(name)
        return lambda file: zstd.ZstdFile(file, mode="rb")
    return lambda file: file


def _zstd(name: str) -> Any:
    for module in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(module)
        except ImportError:
            continue
    raise UsageProblem(f"{name}: to read .zst before Python 3.14: pip install 'celery-pymongo[zstd]'")
