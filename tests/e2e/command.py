"""`celery -A worker mongo …` as a person runs it, at a terminal of so many columns or in a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests.e2e.workers import ROOT
from tests.schemas import validated

SECONDS = 60


def start(env: Mapping[str, str | None], *arguments: str, app: str = "worker") -> subprocess.Popen[str]:
    """Start a command; its output is text in pipes."""
    known = {**os.environ, "COLUMNS": "80", **env}
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", app, "mongo", *arguments],
        cwd=ROOT,
        env={name: value for name, value in known.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(env: Mapping[str, str | None], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; it never shows a traceback."""
    with start(env, *arguments) as process:
        try:
            out, err = process.communicate(timeout=SECONDS)
        except BaseException:
            process.kill()
            raise
    assert "Traceback" not in err, err
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def document(env: Mapping[str, str | None], *arguments: str, code: int | None = 0) -> dict[str, Any]:
    """Return the document of a command, which is as its schema says; its exit code is `code`."""
    done = run(env, *arguments, "--json")
    assert code is None or done.returncode == code, (done.returncode, done.stderr, done.stdout[:2000])
    return validated(done.stdout)
