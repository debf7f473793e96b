"""A person, or a program, at the command line: `celery -A worker mongo …` with an environment of its own."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.e2e.workers import ROOT
from tests.schemas import validated

SECONDS = 60
_OF_TERMINALS = ("NO_COLOR", "COLUMNS", "LINES", "TERM", "COLORTERM")
_ENDED = (0, 1, 2, 3, 64, 70, 73, 74, 75, 78, 130)


@dataclass(frozen=True)
class Operator:
    """`env` names the servers, as the operator's machine reaches them."""

    env: Mapping[str, str]
    app: str = "worker"

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command; it ends with a code of ours and without a traceback."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        done = subprocess.run(
            self._command(*arguments),
            cwd=ROOT,
            env=self._environment(),
            text=True,
            check=False,
            timeout=SECONDS,
            **pipes,
        )
        assert "Traceback" not in (done.stderr or ""), done.stderr
        assert done.returncode in _ENDED, done
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in a session of its own, so that it hears the signals that are sent to it alone."""
        return subprocess.Popen(
            self._command(*arguments),
            cwd=ROOT,
            env=self._environment(),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Return the document of a command that ends with this code, as its schema says it is."""
        done = self.run(*arguments, "--json")
        assert (done.returncode, done.stderr) == (code, ""), done
        return validated(done.stdout)

    def on_terminal(
        self, *arguments: str, until: Callable[[str], bool], columns: int = 100
    ) -> tuple[str, int]:
        """Run a command on a terminal until its screen says so, then press Ctrl-C; return screen and code.

        A command that has ended by itself hears nothing of that.
        """
        pid, screen = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            screen_is = {"COLUMNS": str(columns), "LINES": "50", "TERM": "xterm-256color"}
            os.execve(sys.executable, self._command(*arguments), screen_is | self._environment())  # noqa: S606 - the command under test
        text, ends_at, is_over = "", time.monotonic() + SECONDS, False
        try:
            while time.monotonic() < ends_at:
                if select.select([screen], [], [], 0.1)[0]:
                    try:
                        chunk = os.read(screen, 65536)
                    except OSError:  # how Linux says that the other end is closed
                        break
                    if not chunk:
                        break
                    text += chunk.decode(errors="replace")
                if until(text) and not is_over:
                    is_over = True
                    os.write(screen, b"\x03")
            else:
                raise AssertionError(f"not within {SECONDS} s:\n{text}")
        finally:
            os.close(screen)
            _, status = os.waitpid(pid, 0)
        return text, os.waitstatus_to_exitcode(status)

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "celery", "-A", self.app, "mongo", *arguments]

    def _environment(self) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if name not in _OF_TERMINALS}
        return plain | dict(self.env)
