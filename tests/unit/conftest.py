"""What each unit test begins with."""

import pytest
from pymongo import MongoClient


@pytest.fixture(autouse=True)
def _no_guard_of_a_test_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client guard wraps the constructor of the process, which is that of the next test, too."""
    own = MongoClient.__init__
    monkeypatch.setattr(MongoClient, "__init__", getattr(own, "__wrapped__", own))
