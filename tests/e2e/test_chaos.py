"""What is loaded while one fault follows the other arrives as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import chaos

SEED = 7


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("documents", "seconds", "faults"),
    [(4_000, 20, 3), pytest.param(12_000, 60, 8, marks=pytest.mark.full)],
)
def test_what_is_loaded_in_chaos_arrives_as_it_is(
    documents: int, seconds: int, faults: int, tmp_path: Path
) -> None:
    told: list[str] = []
    outcome = chaos.run(tmp_path, count=documents, seconds=seconds, seed=SEED, say=told.append)
    assert outcome.problems == [], "\n".join([*told, *chaos.lines(outcome)])
    assert sum(outcome.faults.values()) == len(chaos.plan(SEED, seconds)) >= faults
