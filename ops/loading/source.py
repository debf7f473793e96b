"""A file to load: opened, decompressed, surveyed once, and read again from its start."""

import gzip
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, BinaryIO, Self

from ..problems import InputProblem, NoInput, UsageProblem

CHUNK = 1024 * 1024
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
    in the names of other files.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._file = _seekable(name)
        self.label = os.path.basename(name) if stat.S_ISREG(_mode(name)) else "stdin"
        self._unpack = _unpacker(name, self._peek(4))
        self._before = self._state()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self._file.close()

    def open(self) -> BinaryIO:
        """Return the content from its start. One reader at a time: they share the file's position."""
        self._file.seek(0)
        stream: BinaryIO = self._unpack(self._file)
        if stream.read(len(_BOM)) != _BOM:
            stream.seek(0)
        return stream

    def survey(self) -> Survey:
        """Read all of it once; InputProblem where it is damaged or is no text."""
        digest, size, head = hashlib.sha256(), 0, b""
        for chunk in self._chunks():
            head = head or chunk[:_HEAD]
            digest.update(chunk)
            size += len(chunk)
        self._refuse_binary(head)
        return Survey(digest.hexdigest(), size, head)

    @property
    def is_changed(self) -> bool:
        """Whether somebody wrote to the file since it was opened."""
        return self._state() != self._before

    def _chunks(self) -> Iterator[bytes]:
        try:
            stream = self.open()
            while chunk := stream.read(CHUNK):
                yield chunk
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputProblem(f"{self.name}: damaged or cut short ({error}); nothing was loaded") from None
        except Exception as error:
            if type(error).__name__ != "ZstdError":
                raise
            raise InputProblem(f"{self.name}: damaged or cut short ({error}); nothing was loaded") from None

    def _refuse_binary(self, head: bytes) -> None:
        if head.startswith(_UTF_16_OR_32):
            raise InputProblem(f"{self.name}: UTF-16 or UTF-32; convert it first: iconv -f UTF-16 -t UTF-8")
        if b"\x00" in head:
            raise InputProblem(f"{self.name}: not text (it has NUL bytes); CSV, JSON and JSON Lines are read")

    def _peek(self, size: int) -> bytes:
        head = self._file.read(size)
        self._file.seek(0)
        return head

    def _state(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns


def _seekable(name: str) -> BinaryIO:
    if name == "-":
        if sys.stdin is None or sys.stdin.closed:
            raise NoInput("-: standard input is closed")
        return _spooled(sys.stdin.buffer)
    try:
        file = open(name, "rb")  # noqa: SIM115 - the Source closes it
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
    except IsADirectoryError:
        raise NoInput(f"{name}: a directory; name one file") from None
    except OSError as error:
        raise NoInput(f"{name}: {error.strerror}") from None
    with file:
        return _spooled(file)


def _mode(name: str) -> int:
    try:
        return os.stat(name).st_mode
    except OSError:
        return 0


def _spooled(stream: BinaryIO) -> BinaryIO:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the Source closes it
    try:
        shutil.copyfileobj(stream, copy, CHUNK)
        # Its state is compared at the end: what is still in a buffer now would look like a change.
        copy.flush()
    except OSError as error:
        raise NoInput(f"cannot copy the input to {tempfile.gettempdir()}: {error.strerror}") from None
    copy.seek(0)
    return copy


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
