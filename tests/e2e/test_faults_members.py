"""The primary of three members steps down, and is killed: what became of every task under prefork."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.local import programs
from tests.e2e.faults import MEMBERS, assert_as_promised


@pytest.mark.skipif(programs.mongod() is None, reason="a replica set of three takes a mongod")
@pytest.mark.parametrize("fault", MEMBERS)
def test_no_task_is_lost_and_none_takes_effect_twice(fault: str, tmp_path: Path) -> None:
    assert_as_promised(fault, "prefork", tmp_path, members=3)
