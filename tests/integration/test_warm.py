"""The read that warms a fresh process."""

from typing import Any

import pytest
from pymongo import MongoClient, monitoring

from worker.server import pings


class Commands(monitoring.CommandListener):
    """Remembers the names of the commands that ran."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to remember."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to remember."""


@pytest.fixture
def commands():
    return Commands()


@pytest.fixture
def client(mongo, commands):
    with MongoClient[dict[str, Any]](mongo.uri, event_listeners=[commands]) as client:
        yield client


def test_it_reads_once_and_leaves_no_collection(client, commands):
    pings.warm(client, "warm_test", timeout_seconds=5)
    assert commands.names == ["find"]
    assert client["warm_test"].list_collection_names() == []


def test_it_does_not_mind_a_closed_client(client):
    client.close()
    pings.warm(client, "warm_test", timeout_seconds=5)
