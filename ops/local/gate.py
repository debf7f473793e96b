"""`ops/test`: everything that must hold before a change is kept, step by step, up to the first failure.

Needs nothing installed: it makes the environments itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from . import programs
from .environment import BESIDE, DEVELOPMENT, LOWEST, ROOT, SECANTUS, Environment, SetupError, ensure
from .interrupts import Ended, end_at_once

# What starts no server: the unit tests, and attacks on what takes a text from outside.
FAST_TESTS = ["tests/unit", "tests/hostile"]

# What tells whether a lower bound is true: the tests of what meets a dependency's classes, and a worker
# that starts, works and ends.
_MEETS = "settings/settings settings/schedule mongo/calls mongo/classify pool/adapter pool/monitor_spec"
_MEETS += " connection/client connection/heartbeats store/redis_client broker/message broker/requeue"
_MEETS += " delivery/composing delivery/overrides delivery/task node/control integration/fixes"
_MEETS += " integration/install integration/signals sentry/sentry ops/cli"
LOWEST_TESTS = [
    *(f"tests/unit/{room}/test_{name}.py" for room, name in (part.split("/") for part in _MEETS.split())),
    *("tests/e2e/test_lifecycle.py", "tests/e2e/test_wheel.py"),
]

# The versions between the lowest and the newest, with what has bounds on PyMongo of its own installed, too.
BESIDE_TESTS = ["tests/integration/test_mongoengine.py"]

FAULTS_PAGE = "docs/faults.md"


@dataclass(frozen=True)
class Step:
    """One step: its name, the environment it runs in, and what Python's -m is to run."""

    name: str
    module: Sequence[str]
    environment: Environment = DEVELOPMENT
    has_second_run: bool = False
    """Whether files with failures run once more, alone: their tests may have met a busy machine's clock."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; --help and mistakes end the program."""
    parser = argparse.ArgumentParser(
        prog="ops/test",
        allow_abbrev=False,
        usage="ops/test [--quick | --full] [-- PYTEST-ARGUMENT ...]",
        description="Lint, formatting, types and tests, up to the first failure.",
    )
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="only the tests that start no server")
    extent.add_argument(
        "--full",
        action="store_true",
        help=f"also what takes long, and every fault on every pool: {FAULTS_PAGE}",
    )
    parser.add_argument(
        "pytest", nargs="*", metavar="PYTEST-ARGUMENT", help="run pytest alone with these, e.g. -- -k outage"
    )
    return parser.parse_args(arguments)


def steps(*, quick: bool = False, full: bool = False, pytest: Sequence[str] = ()) -> list[Step]:
    """Return the steps of a run."""
    checks = [
        Step("lint", ["ruff", "check"]),
        Step("format", ["ruff", "format", "--check"]),
        Step("types", ["mypy"]),
        Step("unit tests", ["pytest", "-q", "-n", "2", *FAST_TESTS]),
    ]
    # A file's tests share its servers, so files are what is spread over the processes: these are more than
    # cores, since tests wait for what workers and servers do.
    # In their own order, the end-to-end tests first: else files with one long test would come last, alone.
    servers = ["pytest", "-q", "-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
    servers += ["tests/e2e", "tests/integration"]
    servers += ["tests/incidents"]
    servers += [] if full else ["-m", "not full"]
    lowest = ["pytest", "-q", "-n", "2", "--dist", "loadfile", *LOWEST_TESTS]
    if pytest:
        return [Step("tests", ["pytest", *(FAST_TESTS if quick else []), *pytest])]
    if quick:
        return checks
    found = [
        *checks,
        Step("tests with servers", servers, has_second_run=True),
        Step("tests with the lowest versions", lowest, LOWEST),
    ]
    if full:
        found.append(Step("tests beside other people's packages", [*lowest, *BESIDE_TESTS], BESIDE))
        matrix = ["tests.faults", "faults", "--page", FAULTS_PAGE]
        found.append(Step("every fault on every pool", matrix))
        found.append(Step("every fault on three members", [*matrix, "--members", "3"]))
        found.append(Step("mutants of the rules that decide", ["tests.mutation"]))
    return found


def run_step(step: Step) -> bool:
    """Run one step, say how long it took and whether it held."""
    print(f"== {step.name}: {' '.join(step.module)}", flush=True)
    began = time.monotonic()
    ensure(step.environment)
    code = _run(step, step.module)
    if code == 1 and step.has_second_run and (failed := _failed_files()):
        print(f"== {step.name}: once more and alone: {' '.join(failed)}", flush=True)
        chosen = step.module[step.module.index("-m") :] if "-m" in step.module else []
        code = _run(step, ["pytest", "-q", *failed, *chosen])
    verdict = "ok" if code == 0 else f"FAILED (exit code {code})"
    print(f"== {step.name}: {verdict}, {time.monotonic() - began:.1f} s", flush=True)
    return code == 0


def _failed_files() -> list[str]:
    """Return the files of the tests that failed last; tests of one file may build on each other."""
    try:
        told = json.loads((ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed").read_text())
    except (OSError, ValueError):
        return []
    return sorted({name.partition("::")[0] for name in told})


def _run(step: Step, module: Sequence[str]) -> int:
    return subprocess.run([str(step.environment.python), "-m", *module], check=False).returncode


def install_servers(*, is_whole: bool) -> None:
    """Have what the tests start where no variable names a server; SecantusDB's own test is of the whole gate.

    Raises:
        SetupError: an environment cannot be made.
    """
    if not os.environ.get("MONGODB_URI") and (line := programs.install_mongodb()):
        print(line, flush=True)
    if not os.environ.get("REDIS_URL"):
        programs.install_redis()
    if is_whole:
        ensure(SECANTUS)


def main(arguments: Sequence[str]) -> int:
    """Make the environments and run the steps; return the exit code."""
    try:
        end_at_once()
        os.chdir(ROOT)
        options = parse(arguments)
        if not options.quick:
            install_servers(is_whole=not options.pytest)
        began = time.monotonic()
        for step in steps(quick=options.quick, full=options.full, pytest=options.pytest):
            if not run_step(step):
                print(f"ops/test: {step.name} failed", file=sys.stderr)
                return 1
    except SetupError as error:
        print(f"ops/test: {error}", file=sys.stderr)
        return 1
    except Ended:
        print("ops/test: stopped", file=sys.stderr)
        return 130
    print(f"== all ok, {time.monotonic() - began:.1f} s")
    return 0
