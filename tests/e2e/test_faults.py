"""Some cells of the fault matrix: what became of every task. `ops/test --full` runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import cell

# A fault of each kind: of MongoDB, the network, the login, the broker, and two of processes; on three pools.
CELLS = (
    ("mongo-kill", "prefork"),
    ("half-open", "threads"),
    ("password", "prefork"),
    ("redis-kill", "prefork"),
    ("main-kill", "gevent"),
    ("cold-shutdown", "prefork"),
)


@pytest.mark.parametrize(("fault", "pool"), CELLS)
def test_no_task_is_lost_and_none_takes_effect_twice(fault: str, pool: str, tmp_path: Path) -> None:
    outcome = cell.run(fault, pool, tmp_path)
    assert outcome.problems == [], outcome
