"""The first finding is right on each incident, `status` says the same, and both are silent after the mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ops.local import programs
from ops.local.servers import LocalServer
from tests.incidents.catalogue import incidents
from tests.incidents.incident import Incident
from tests.incidents.runner import run
from tests.incidents.scene import Stage

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(programs.mongod() is None, reason="incidents are a mongod's"),
]

CASES = [
    pytest.param(each, id=each.name, marks=() if each.is_cheap else pytest.mark.full) for each in incidents()
]


@pytest.fixture(scope="module")
def stage(
    mongo: LocalServer, redis: LocalServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(mongo, redis, tmp_path_factory.mktemp("incidents"), stack)


@pytest.mark.parametrize("incident", CASES)
def test_the_first_finding_is_right(incident: Incident, stage: Stage) -> None:
    run(incident, stage)
