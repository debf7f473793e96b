"""An exclusive lock on a folder that the kernel frees however its holder ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self


class FolderLock:
    """flock on a file that also says which process holds it.

    The lock belongs to the open file: children that inherit `descriptor` hold it on after their parent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor = -1

    def acquire(self, *, wait: bool = False) -> bool:
        """Take the lock; say whether it was taken. OSError where the file cannot be written."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptor = descriptor
        return True

    def holder(self) -> str:
        """The pid that the holder wrote, for people; `?` in the moment before it did."""
        return self._path.read_text().strip() or "?"

    def release(self) -> None:
        """Give the lock up; the file stays, since removing it would race with the next holder."""
        if self.descriptor >= 0:
            os.ftruncate(self.descriptor, 0)
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
