"""Exec a program so that it dies with the process that started it, even when that one is SIGKILLed.

Run as a script: `python -I -S tether.py HOW ARGUMENT program arguments…`. The pid stays the program's own.
`parent PID` asks the kernel (Linux). `pipe FD` leaves a guard beside the program that waits for the pipe's
other end to close: for other systems, and for threads, because the kernel takes the end of the starting
*thread* for the end of the parent.
"""

import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
GUARD_POLL_SECONDS = 0.5


def die_with_parent(parent: int) -> None:
    """Have the kernel send SIGKILL when `parent` ends; leave at once if it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def guard(pipe: int) -> None:
    """Fork a guard that kills this process when `pipe` ends, and leaves when this process does."""
    program = os.getpid()
    if os.fork():
        os.close(pipe)
        return
    # The guard must not hold the program's output open, nor be hit by signals meant for its group.
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    while os.getppid() == program:
        if select.select([pipe], [], [], GUARD_POLL_SECONDS)[0]:
            if os.getppid() == program:
                os.kill(program, signal.SIGKILL)
            break
    os._exit(0)


def main() -> None:
    how, argument, program = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    if how == "parent":
        die_with_parent(argument)
    else:
        guard(argument)
    os.execvp(program[0], program)  # noqa: S606  # no shell is wanted: the arguments are already a list


if __name__ == "__main__":
    main()
