"""Cells of the fault matrix as tests: every fault on prefork, one on each other pool, two on three members.

`ops/test --full` runs every cell instead, and writes the table. A file of tests for each of these groups, so
that they are spread over the processes of a test run.
"""

from __future__ import annotations

from pathlib import Path

from tests.faults import cell

MONGO = ("mongo-kill", "mongo-term", "mongo-stop", "not-primary", "password", "full-pool", "time-limit")
NETWORK = ("refuse", "blackhole", "half-open", "reset-storm", "cut-off")
PROCESSES = ("child-kill", "main-kill", "recycle", "worker-term", "cold-shutdown")
BROKER = ("redis-kill", "redis-stop", "beats-kill")
ELSEWHERE = (
    ("mongo-kill", "spawn"),
    ("half-open", "solo"),
    ("redis-kill", "threads"),
    ("main-kill", "gevent"),
)
MEMBERS = ("step-down", "primary-kill")


def assert_as_promised(fault: str, pool: str, folder: Path, *, members: int = 1) -> None:
    """Run a cell and hold that nothing was lost, nothing happened twice and no outage cost a retry."""
    outcome = cell.run(fault, pool, folder, members=members)
    assert outcome.problems == [], outcome
