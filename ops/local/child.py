"""One child process: tethered to this one, in a session of its own, its output in a log file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

TETHER = Path(__file__).with_name("tether.py")
# The Python that an environment was made of: ours may be the very one that is being made again.
_PYTHON = getattr(sys, "_base_executable", None) or sys.executable


class Child:
    """A program that can be started again and again under the same name.

    A session of its own keeps the terminal's Ctrl-C away from it: only this process decides when it ends.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.log = log
        self.env = env
        self.stdin = stdin
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None

    @property
    def pid(self) -> int:
        """The process id of the last start; 0 before the first."""
        return self._process.pid if self._process else 0

    @property
    def returncode(self) -> int | None:
        """How the last run ended: None while it runs, negative for a signal."""
        return self._process.poll() if self._process else 0

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the program unless it runs."""
        if self.is_running:
            return
        self._drop_lifeline()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            if sys.platform == "linux" and threading.current_thread() is threading.main_thread():
                self._spawn(["parent", str(os.getpid())], log.fileno())
            else:
                self._spawn_guarded(log.fileno())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal if the program still runs."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def suspend(self) -> None:
        """SIGSTOP, and wait until all of the program stands: its threads go on for a moment after it."""
        self.signal(signal.SIGSTOP)
        if self._process is not None and hasattr(os, "waitid"):  # of macOS from Python 3.13 on
            with suppress(ChildProcessError):  # it has ended, and was waited for
                os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def wait(self, seconds: float) -> bool:
        """Wait for the end; say whether it came in time."""
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                return False
        self._drop_lifeline()
        return True

    def stop(self, seconds: float) -> bool:
        """SIGTERM, then SIGKILL after `seconds`; say whether the first was enough."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a suspended program cannot hear SIGTERM
        if self.wait(seconds):
            return True
        self.kill()
        return False

    def kill(self) -> None:
        """SIGKILL, and wait for the kernel to be done with it."""
        self.signal(signal.SIGKILL)
        self.wait(10)

    def _spawn(self, how: list[str], log: int, *, pipe: Sequence[int] = ()) -> None:
        self._process = subprocess.Popen(
            [_PYTHON, "-I", "-S", str(TETHER), *how, *self.argv],
            stdin=self.stdin,
            stdout=log,
            stderr=log,
            env=None if self.env is None else dict(self.env),
            start_new_session=True,
            pass_fds=pipe,
        )

    def _spawn_guarded(self, log: int) -> None:
        theirs, ours = os.pipe()
        try:
            self._spawn(["pipe", str(theirs)], log, pipe=[theirs])
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._lifeline = ours

    def _drop_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
