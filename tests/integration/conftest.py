"""Fixtures of the integration tests: clients of the servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
import redis as redis_py

from ops.local.servers import LocalServer


@pytest.fixture
def mongo_client(mongo: LocalServer) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    """A plain client of the test's own, to look at the server from outside."""
    with pymongo.MongoClient[dict[str, Any]](mongo.uri, serverSelectionTimeoutMS=10_000) as client:
        yield client


@pytest.fixture
def redis_client(redis: LocalServer) -> Iterator[redis_py.Redis]:
    """A plain client of the test's own, emptied before the test."""
    with redis_py.Redis.from_url(redis.uri, socket_timeout=5, socket_connect_timeout=5) as client:
        client.flushdb()
        yield client
