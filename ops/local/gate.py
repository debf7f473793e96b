"""`ops/test`: everything that must hold before a change is kept, step by step, up to the first failure.

Needs nothing installed: it makes the environments itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from .environment import DEVELOPMENT, EMBEDDED, ROOT, SetupError, ensure
from .interrupts import Ended, end_at_once

Step = tuple[str, list[str]]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; --help and mistakes end the program."""
    parser = argparse.ArgumentParser(
        prog="ops/test",
        usage="ops/test [--quick] [-- PYTEST-ARGUMENT ...]",
        description="Lint, formatting, types and tests, up to the first failure.",
    )
    parser.add_argument("--quick", action="store_true", help="only the tests that start no server")
    parser.add_argument("pytest", nargs="*", metavar="PYTEST-ARGUMENT", help="passed on, e.g. -- -k outage")
    return parser.parse_args(arguments)


def steps(*, quick: bool, pytest: Sequence[str]) -> list[Step]:
    """The steps, each a name and what Python's -m is to run."""
    return [
        ("lint", ["ruff", "check"]),
        ("format", ["ruff", "format", "--check"]),
        ("types", ["mypy"]),
        ("tests", ["pytest", *(["tests/unit"] if quick else []), *pytest]),
    ]


def run_step(name: str, module: Sequence[str]) -> bool:
    """Run one step, say how long it took and whether it held."""
    print(f"== {name}: {' '.join(module)}", flush=True)
    began = time.monotonic()
    code = subprocess.run([str(DEVELOPMENT.python), "-m", *module], check=False).returncode
    verdict = "ok" if code == 0 else f"FAILED (exit code {code})"
    print(f"== {name}: {verdict}, {time.monotonic() - began:.1f} s", flush=True)
    return code == 0


def needs_embedded(*, quick: bool) -> bool:
    """Whether a server will be started that the PATH does not have."""
    redis = os.environ.get("REDIS_URL") or shutil.which("valkey-server") or shutil.which("redis-server")
    return not quick and not ((os.environ.get("MONGODB_URI") or shutil.which("mongod")) and redis)


def main(arguments: Sequence[str]) -> int:
    """Make the environments and run the steps; return the exit code."""
    try:
        end_at_once()
        os.chdir(ROOT)
        options = parse(arguments)
        ensure(DEVELOPMENT)
        if needs_embedded(quick=options.quick):
            ensure(EMBEDDED)
        began = time.monotonic()
        for name, module in steps(quick=options.quick, pytest=options.pytest):
            if not run_step(name, module):
                print(f"ops/test: {name} failed", file=sys.stderr)
                return 1
    except SetupError as error:
        print(f"ops/test: {error}", file=sys.stderr)
        return 1
    except Ended:
        print("ops/test: stopped", file=sys.stderr)
        return 130
    print(f"== all ok, {time.monotonic() - began:.1f} s")
    return 0
