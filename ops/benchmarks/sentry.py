"""What our part of Sentry costs a task and a read, beside `sentry_sdk.init` alone."""

from collections.abc import Callable, Iterator

from .lifecycle import Finding, Target
from .pairs import measured
from .site import Site
from .stats import estimate, paired_ratios

Say = Callable[[str], None]

LEGEND = """\
In one process, ours and `sentry_sdk.init` alone take turns; events are dropped at the transport.
task  a run of a task that does nothing, by Celery's own tracer, without a broker
read  a find_one by _id within a task, whose transaction is captured at its end where traces are on
"""

_CHILD = f"{__package__}.sentry_child"
_STARTS = 5


def measure(site: Site, *, pairs: int, say: Say) -> Iterator[Finding]:
    """Yield the findings, one after the other."""
    for what in ("task", "read"):
        for traces, name in (("0", "off"), ("1", "on")):
            say(f"{what}, traces {name}: {_STARTS} starts, {pairs} pairs each")
            environment = site.environment_of("sentry")
            runs = (measured(_CHILD, (what, traces), environment, pairs=pairs) for _ in range(_STARTS))
            found = [pair for run in runs for pair in run]
            raw = {"ours_s": [ours for ours, _ in found], "plain_s": [plain for _, plain in found]}
            title = f"{what}, traces {name}, ours : plain"
            yield Finding(title, "x", estimate(paired_ratios(found)), Target("≤", 1.05), raw)
