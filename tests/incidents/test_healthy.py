"""Of a fleet that is well the doctor says nothing, and `status` is ok."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ops.local import programs
from ops.local.servers import LocalServer
from tests.incidents.runner import ask, status
from tests.incidents.scene import Stage
from tests.incidents.shapes import SHAPES, Shape

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(programs.mongod() is None, reason="shapes are a mongod's"),
]

CASES = [pytest.param(each, id=each.name, marks=() if each.is_cheap else pytest.mark.full) for each in SHAPES]
LOOK_SECONDS = 3.0


@pytest.fixture(scope="module")
def stage(
    mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(mongo, redis, tmp_path_factory.mktemp("shapes"), stack)


@pytest.mark.parametrize("shape", CASES)
def test_nothing_is_found(shape: Shape, stage: Stage) -> None:
    with stage.scene(shape.name) as scene:
        for ward in shape.happen(scene):
            ends_at = time.monotonic() + LOOK_SECONDS
            while time.monotonic() < ends_at:
                told = ask(ward)
                found = [(one["id"], one["title"], one["evidence"]) for one in told["findings"]]
                assert not found, found
                assert told["verdict"] == "ok"
            last = status(ward)
            assert (last["verdict"], last["reasons"], last["finding"]) == ("ok", [], None)
