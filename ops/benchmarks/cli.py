"""What the command line costs: its part of Celery's start, a status of a small fleet, and of a large one."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from worker.fleet.registry import Registry
from worker.settings.fields import load_settings
from worker.store.redis_client import connect_url

from ..local.environment import ROOT
from .fleet_reports import reports
from .lifecycle import Finding, Target
from .load import worker
from .site import MeasurementError, Site
from .stats import estimate, paired_ratios

Say = Callable[[str], None]

LEGEND = """\
`plug-in` is what Python's -X importtime counts for the modules of this project in a start of Celery's
command line. `status` is the whole command, Python's start and the app's import too, as is `--version`;
its fleet is one worker of two processes, or ten thousand processes that are simulated.
"""

SMALL, LARGE = 2, 10_000
_SEEN_SECONDS = 30.0
_OURS = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+celery_pymongo\b")


def measure(site: Site, *, rounds: int, say: Say) -> Iterator[Finding]:
    """Yield the findings, one after the other; `say` hears what is going on."""
    say(f"Celery's start: {rounds} times")
    yield _finding(
        "plug-in, of Celery's start", "ms", [_plug_in(site) for _ in range(rounds)], Target("≤", 5)
    )
    say(f"a fleet of {SMALL} processes: {rounds} pairs of status and --version")
    with worker(site, SMALL) as deployment:
        wait_until_seen(site, deployment, SMALL)
        pairs = [(_status(site, deployment), _seconds(site, deployment, "--version")) for _ in range(rounds)]
    yield _finding("status : celery --version", "x", paired_ratios(pairs), Target("≤", 3))
    say(f"a fleet of {LARGE:,} processes: {rounds} times")
    for command, most in (("status", 2000), ("doctor", 5000)):
        taken = []
        for _ in range(rounds):
            _publish(site, "cli-large")
            taken.append(1000 * _seconds(site, "cli-large", "-A", "worker", "mongo", command))
        yield _finding(f"{command} of {LARGE:,} processes", "ms", taken, Target("≤", most))


def _plug_in(site: Site) -> float:
    """Return the milliseconds that our modules take of the import of Celery's command line."""
    command = [sys.executable, "-X", "importtime", "-c", "import celery.bin.celery"]
    # Away from the checkout, where the plug-in is only found as it is installed.
    done = subprocess.run(command, cwd=site.folder, capture_output=True, text=True, check=True)
    found = [int(microseconds) for microseconds in _OURS.findall(done.stderr)]
    if not found:
        raise MeasurementError("Celery did not load the plug-in: is the checkout installed in place?")
    return sum(found) / 1000


def _status(site: Site, deployment: str) -> float:
    return _seconds(site, deployment, "-A", "worker", "mongo", "status")


def _seconds(site: Site, deployment: str, *arguments: str) -> float:
    """Return how long a command of Celery's takes, from its start to its end."""
    command = [sys.executable, "-m", "celery", *arguments]
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env=site.environment_of(deployment), capture_output=True, check=False
    )
    taken = time.perf_counter() - began
    # A simulated fleet has no beat, and its pools are busy.
    if done.returncode not in (0, 1) or done.stderr:
        raise MeasurementError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.decode()}")
    return taken


def wait_until_seen(site: Site, deployment: str, processes: int) -> None:
    """Wait until so many processes report."""
    ends_at = time.monotonic() + _SEEN_SECONDS
    with connect_url(site.environment["REDIS_URL"]) as client:
        registry = Registry(client, load_settings(site.environment_of(deployment), env_file=None).key)
        while len(registry.fleet().processes) < processes:
            if time.monotonic() > ends_at:
                raise MeasurementError(f"{deployment}: not all of {processes} processes report")
            time.sleep(0.05)


def _publish(site: Site, deployment: str) -> None:
    """Report for every process of the large fleet: a report is fresh for six seconds."""
    settings = load_settings(site.environment_of(deployment), env_file=None)
    with connect_url(site.environment["REDIS_URL"], seconds=10) as client:
        registry = Registry(client, settings.key)
        for origin, text in reports(LARGE):
            registry.publish(origin.member, text)


def _finding(title: str, unit: str, values: list[float], target: Target) -> Finding:
    return Finding(title, unit, estimate(values), target, {"values": values})
