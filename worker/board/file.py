"""Where a board's memory comes from: a file in memory, else a file on disk, else memory without a name."""

import fcntl
import hashlib
import mmap
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# In memory: it costs no disk, and a reboot forgets it.
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - files here are opened exclusively, by their owner alone
_LOOK_SECONDS = 0.001
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,40}")


def make(name: str, size: int) -> tuple[Path | None, mmap.mmap]:
    """Return a new file of `size` zero bytes, mapped, for this user alone; no path where none can be had."""
    for folder in folders():
        with suppress(OSError):
            return folder / name, _make(folder / name, size)
    return None, mmap.mmap(-1, size)


def attach(path: Path) -> mmap.mmap:
    """Return the file, mapped. Raises OSError; ValueError where it is empty."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(f"{path} is another user's")
        return mmap.mmap(descriptor, 0)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path | None, *, seconds: float) -> Iterator[None]:
    """Have one process at a time in the block. Raises OSError where that cannot be had within so many
    seconds, or where there is no file.
    """
    if path is None:
        raise FileNotFoundError("no file to lock")
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _lock(descriptor, time.monotonic() + seconds)
        yield
    finally:
        # The lock goes with it.
        os.close(descriptor)


def _lock(descriptor: int, until: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
        time.sleep(_LOOK_SECONDS)


def prefix(deployment: str) -> str:
    """Return what the names of this user's boards of a deployment begin with."""
    plain = deployment if _PLAIN.fullmatch(deployment) else digest(deployment)
    return f"celery-pymongo.{os.geteuid()}.{plain}."


def digest(text: str) -> str:
    """Return 16 characters that stand for a text in a file's name."""
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()


def find(deployment: str) -> Iterator[Path]:
    """Return the files that may be this user's boards of a deployment."""
    for folder in dict.fromkeys(folders()):
        with suppress(OSError):
            yield from sorted(folder.glob(f"{prefix(deployment)}*"))


def folders() -> Iterator[Path]:
    """Return the folders where a board may be, the best first."""
    yield _SHARED_MEMORY
    with suppress(OSError):
        yield Path(tempfile.gettempdir())


def _make(path: Path, size: int) -> mmap.mmap:
    # Exclusive: in a folder that all may write, a name that is there already is somebody's trap.
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        _reserve(descriptor, size)
        return mmap.mmap(descriptor, size)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _reserve(descriptor: int, size: int) -> None:
    """Take the space now: a full disk would else end a process by SIGBUS, at its first write to a page."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    elif os.write(descriptor, bytes(size)) < size:
        raise OSError(f"no room for {size} bytes")
