"""Where a thread or greenlet is in its code: `file:line in function`, never locals or arguments."""

import os
import sys
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checkouts import Holder

DEPTH = 12

# What stands between a task's code and the socket, and between the worker and the task.
_MACHINERY = ("pymongo", "celery", "kombu", "billiard", "gevent", "greenlet")
_STDLIB = os.path.dirname(os.__file__)
_OWN = os.path.dirname(os.path.dirname(__file__)) + os.sep


def stack_of(holder: "Holder") -> tuple[str, ...]:
    """Return where the holder's thread or greenlet is now; nothing where it has ended."""
    return describe(_frame_of(holder))


def describe(frame: FrameType | None, leave_out: tuple[str, ...] = _MACHINERY) -> tuple[str, ...]:
    """Return a frame and its callers, innermost first, at most 12, without this package, the standard
    library and the packages to leave out.
    """
    folders = (_OWN, "<frozen ", *_folders(leave_out))
    found: list[str] = []
    while frame is not None and len(found) < DEPTH:
        code = frame.f_code
        if not code.co_filename.startswith(folders) and os.path.dirname(code.co_filename) != _STDLIB:
            found.append(f"{code.co_filename}:{frame.f_lineno} in {code.co_name}")
        frame = frame.f_back
    return tuple(found)


def _folders(packages: tuple[str, ...]) -> list[str]:
    # By where each was imported from: a project may well live in a folder called celery.
    files = (getattr(sys.modules.get(name), "__file__", None) for name in packages)
    return [os.path.dirname(file) + os.sep for file in files if file]


def _frame_of(holder: "Holder") -> FrameType | None:
    if holder.greenlet is not None:
        greenlet = holder.greenlet()
        if greenlet is None or greenlet.dead:
            return None
        if greenlet.gr_frame is not None:
            frame: FrameType = greenlet.gr_frame
            return frame
        # It is the one that its thread runs.
    return sys._current_frames().get(holder.thread)
