"""Take a sample of mutants of the rules that decide, run the unit tests on each, and name the survivors.

A mutant runs in a copy of the checkout: first the tests of its room, then, if it outlives them, every unit
test. Exit code 1 where more than one in ten survives, 2 where the tests fail without any.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from .mutants import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]

# What decides without looking at anything: state, now and settings in, a decision out.
RULES = {
    "mongo": "backoff classify reasons",
    "tracking": "writes",
    "pool": "histogram pool_state reconcile suspicion",
    "server": "members",
    "connection": "circuit hang heartbeats reconnect",
    "fleet": "snapshot totals",
    "sentry": "held_errors outages/state crons/entries",
    "delivery": "attempts deliveries failures recovery",
    "health": "doubts layers overview shortage verdicts",
    "node": "expired gate",
    "settings": "checks",
}
PATIENCE = 5.0
"""Of the time that the tests take without a mutant: one that never ends has died."""
MOST_SURVIVORS = 0.1


@dataclass(frozen=True)
class Trial:
    """A mutant and where it is."""

    module: str
    mutant: Mutant

    def __str__(self) -> str:
        path = f"worker/{self.module}.py:{self.mutant.line}"
        return f"{path}: {self.mutant.before}  ->  {self.mutant.after}"


def sample(count: int, seed: int) -> list[Trial]:
    """Return `count` mutants, by chance, the same for the same seed."""
    names = [f"{room}/{name}" for room, several in RULES.items() for name in several.split()]
    every = [Trial(name, mutant) for name in names for mutant in mutants(_path(ROOT, name).read_text())]
    return random.Random(seed).sample(every, min(count, len(every)))  # noqa: S311 - a sample, no secret


def survives(trial: Trial, copy: Path, seconds: float) -> bool:
    """Say whether no unit test fails with the mutant in the place of its module, in this copy."""
    path = _path(copy, trial.module)
    whole = path.read_text()
    path.write_text(trial.mutant.source)
    try:
        room = f"tests/unit/{trial.module.split('/')[0]}"
        return _passes(copy, room, seconds) and _passes(copy, "tests/unit", seconds)
    finally:
        path.write_text(whole)


def _passes(copy: Path, tests: str, seconds: float | None) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", tests]
    # A mutant's bytecode would be taken for its module's: both may be written within one second.
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copy)}
    try:
        done = subprocess.run(
            command, cwd=copy, env=environ, capture_output=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _path(root: Path, module: str) -> Path:
    return (root / "worker" / module).with_suffix(".py")


def _copies(folder: Path, count: int) -> Iterator[Path]:
    command = ["git", "ls-files", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for number in range(count):
        for name in filter(None, names.stdout.split("\0")):
            if (ROOT / name).exists():
                there = folder / str(number) / name
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, there)
        yield folder / str(number)


def main() -> int:
    """Run the sample; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=60, help="of mutants (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="another one takes others (default: 1)")
    parser.add_argument("--jobs", type=int, default=2, help="at once (default: 2)")
    options = parser.parse_args()
    trials = sample(options.count, options.seed)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        free: Queue[Path] = Queue()
        for copy in _copies(Path(folder), options.jobs):
            free.put(copy)
        # What fails without a mutant would have every mutant die.
        began = time.monotonic()
        if not _passes(copy, "tests/unit", None):
            sys.stderr.write("the unit tests fail without a mutant\n")
            return 2
        seconds = PATIENCE * options.jobs * (time.monotonic() - began)

        def run(trial: Trial) -> bool:
            copy = free.get()
            try:
                lived = survives(trial, copy, seconds)
            finally:
                free.put(copy)
            sys.stdout.write(f"{'survives' if lived else 'dies    '}  {trial}\n")
            sys.stdout.flush()
            return lived

        survivors = sum(pool.map(run, trials))
    sys.stdout.write(f"{survivors} of {len(trials)} mutants survive every unit test\n")
    return int(survivors > MOST_SURVIVORS * len(trials))


if __name__ == "__main__":
    sys.exit(main())
