"""Do the hosts agree on the time?"""

from collections.abc import Iterator

from ..facts import Facts, Process
from ..finding import Check, Finding, Severity
from ..words import names

SKEW_SECONDS = 2.0
"""Health messages expire half a second before their successors are sent."""


def skew(facts: Facts) -> Iterator[Finding]:
    """Hosts whose clocks are not Redis'."""
    by_host: dict[str, list[tuple[float, Process]]] = {}
    for process in facts.present:
        if process.state == "live" and process.report.get("at") is not None:
            skewed = process.report["at"] - (facts.at - process.silence)
            by_host.setdefault(str(process.report.get("host")), []).append((skewed, process))
    # A report that Redis took late makes its host look late: the quickest of a host tells.
    for told in by_host.values():
        skewed, process = min(told, key=lambda pair: abs(pair[0]))
        if abs(skewed) <= SKEW_SECONDS:
            continue
        nodes = {process.node for _, process in told}
        yield Finding(
            "clock-skew",
            Severity.DEGRADED,
            f"The clock of the host of {names(nodes)} is {abs(skewed):.1f} s "
            f"{'ahead' if skewed > 0 else 'behind'}.",
            (f"{skewed:+.1f} s against Redis' host, by the reports of {process.member}",),
            "Messages with expires are dropped too early or kept too long, countdowns run at the wrong "
            "time, and logs of hosts cannot be laid side by side.",
            (f"chronyc tracking (or timedatectl) on the host of {process.node}, and on Redis' host",),
            where=frozenset(nodes),
        )


CHECKS = (Check("clock-skew", "Do the clocks agree?", skew, needs=("nodes",)),)
