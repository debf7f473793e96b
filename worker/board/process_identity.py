"""Which process a pid means, and whether it lives: a pid alone is used again."""

import hashlib
import os
import socket
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = "/proc/self/ns/pid"
# The third and the twenty-second field of /proc/<pid>/stat, counted from behind the program's name, which
# may itself hold blanks and brackets.
_STATE, _STARTED = 0, 19
_STAT_BYTES = 1024
_ENDED = {b"Z", b"X", b"x"}


@cache
def boot_id() -> str:
    """Return eight characters that name where a pid of ours means something.

    That is this boot of this host and, as containers number their processes each from 1, this namespace of
    process ids. The host's name where there is no /proc.
    """
    try:
        where = _BOOT_ID.read_text() + os.readlink(_PID_NAMESPACE)
    except OSError:
        where = socket.gethostname()
    return hashlib.blake2s(where.encode(), digest_size=4).hexdigest()


def born(pid: int) -> int | None:
    """Return when a live process started, in clock ticks since the boot; None where it cannot be known."""
    try:
        # Unbuffered and not by Path: MAIN asks for each of its children while it runs nothing else.
        with open(f"/proc/{pid}/stat", "rb", 0) as file:
            fields = file.read(_STAT_BYTES).rpartition(b")")[2].split(maxsplit=_STARTED + 1)
    except OSError:
        return None
    return None if fields[_STATE] in _ENDED else int(fields[_STARTED])


def is_alive(pid: int, born_at: int | None) -> bool:
    """Return whether the process that started at `born_at` lives; by its pid alone where that is None.

    A process that has ended but was not yet waited for is not alive, but where there is no /proc.
    """
    started = born(pid)
    if started is None:
        return not Path(_PID_NAMESPACE).exists() and _takes_signals(pid)
    return born_at in (None, started)


def _takes_signals(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
