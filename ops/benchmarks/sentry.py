"""What our part of Sentry costs a task and a read, beside `sentry_sdk.init` alone."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

from ..local.environment import ROOT
from .lifecycle import Finding, Target
from .site import MeasurementError, Site
from .stats import estimate, paired_ratios

Say = Callable[[str], None]

LEGEND = """\
In one process, ours and `sentry_sdk.init` alone take turns; events are dropped at the transport.
task  a run of a task that does nothing, by Celery's own tracer, without a broker
read  a find_one by _id within a task, whose transaction is captured at its end where traces are on
"""

_STARTS = 5
_START_SECONDS, _SECONDS_PER_PAIR = 30.0, 1.0


def measure(site: Site, *, pairs: int, say: Say) -> Iterator[Finding]:
    """Yield the findings, one after the other."""
    for what in ("task", "read"):
        for traces, name in (("0", "off"), ("1", "on")):
            say(f"{what}, traces {name}: {_STARTS} starts, {pairs} pairs each")
            found = [pair for _ in range(_STARTS) for pair in _run(site, what, traces, pairs)]
            raw = {"ours_s": [ours for ours, _ in found], "plain_s": [plain for _, plain in found]}
            title = f"{what}, traces {name}, ours : plain"
            yield Finding(title, "x", estimate(paired_ratios(found)), Target("≤", 1.05), raw)


def _run(site: Site, what: str, traces: str, pairs: int) -> list[tuple[float, float]]:
    command = [sys.executable, "-m", f"{__package__}.sentry_child", what, traces, str(pairs)]
    limit = _START_SECONDS + pairs * _SECONDS_PER_PAIR
    try:
        done = subprocess.run(
            command,
            env={**site.environment_of("sentry"), "PYTHONPATH": str(ROOT)},
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
    return [(ours, plain) for ours, plain in json.loads(done.stdout)]
