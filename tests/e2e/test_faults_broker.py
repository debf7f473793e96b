"""Redis is killed and hangs, and nobody sends scheduled tasks: what became of every task under prefork."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.faults import BROKER, assert_as_promised


@pytest.mark.parametrize("fault", BROKER)
def test_no_task_is_lost_and_none_takes_effect_twice(fault: str, tmp_path: Path) -> None:
    assert_as_promised(fault, "prefork", tmp_path)
