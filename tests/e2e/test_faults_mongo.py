"""MongoDB is killed, hangs, steps down, refuses logins, has no room: what became of every task."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.faults import MONGO, assert_as_promised


@pytest.mark.parametrize("fault", MONGO)
def test_no_task_is_lost_and_none_takes_effect_twice(fault: str, tmp_path: Path) -> None:
    assert_as_promised(fault, "prefork", tmp_path)
