"""Pairs of times that a process of its own measured: it prints them as JSON."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

from ..local.environment import ROOT
from .site import MeasurementError

Pairs = list[tuple[float, float]]

_START_SECONDS = 30.0
_SECONDS_PER_PAIR = 1.0


def measured(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    pairs: int,
    python: str = sys.executable,
) -> Pairs:
    """Run a module of ours with these arguments and the number of pairs; raises MeasurementError."""
    what = " ".join(arguments[:2])
    limit = _START_SECONDS + pairs * _SECONDS_PER_PAIR
    try:
        done = subprocess.run(
            [python, "-m", module, *arguments, str(pairs)],
            env={**environment, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"{what} did not end in {limit:.0f} s") from None
    if done.returncode:
        raise MeasurementError(f"{what} failed: {done.stderr[-2000:]}")
    return [(first, second) for first, second in json.loads(done.stdout)]
