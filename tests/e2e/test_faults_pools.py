"""A fault on each other kind of pool, and a minute of chaos."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.faults import ELSEWHERE, assert_as_promised
from tests.faults import chaos

SEED = 7
DOCUMENTS = 12_000


@pytest.mark.parametrize(("fault", "pool"), ELSEWHERE)
def test_no_task_is_lost_and_none_takes_effect_twice(fault: str, pool: str, tmp_path: Path) -> None:
    assert_as_promised(fault, pool, tmp_path)


@pytest.mark.timeout(600)
def test_what_is_loaded_in_a_minute_of_chaos_arrives_as_it_is(tmp_path: Path) -> None:
    told: list[str] = []
    outcome = chaos.run(tmp_path, count=DOCUMENTS, seconds=60, seed=SEED, say=told.append)
    assert outcome.problems == [], "\n".join([*told, *chaos.lines(outcome)])
    assert sum(outcome.faults.values()) == len(chaos.plan(SEED, 60)) >= 8
