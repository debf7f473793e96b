"""Files that are gone on with: this user's own, or somebody laid them there for this user to write over."""

import os
import stat
from pathlib import Path

OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""No link is followed, and a pipe keeps nobody waiting."""


def refuse_foreign(descriptor: int, *, may_others_write: bool = False) -> None:
    """Raise PermissionError unless an open file is regular, this user's, and known by one name alone.

    Another name may be that of a file which means something to its owner, who is this user.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise PermissionError(0, "something else than a file has its name")
    if status.st_uid != os.geteuid():
        raise PermissionError(0, "another user's file has its name")
    if status.st_nlink > 1:
        raise PermissionError(0, "the file has another name, too")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not may_others_write:
        raise PermissionError(0, "other users may write the file")


def refuse_shared(folder: Path) -> None:
    """Raise PermissionError where all users may rename and remove each other's files."""
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise PermissionError(0, "all users may write there")
