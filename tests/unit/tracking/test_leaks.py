"""What a task opened and left open when it ended."""

import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import MongoClient

from worker.connection.client import WatchedClient
from worker.tracking.guard import ClientGuard
from worker.tracking.leaks import LeftOpen, left_open
from worker.tracking.work import Work, current_work


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work("t", "1", 0.0)
    token = current_work.set(work)
    yield work
    current_work.reset(token)


@pytest.fixture
def client() -> Iterator[Any]:
    with WatchedClient(connect=False) as client:
        yield client


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> ClientGuard:
    monkeypatch.setattr(MongoClient, "__init__", MongoClient.__init__)  # restores what install() wraps
    guard = ClientGuard(lambda: True, lambda _sighting: None)
    guard.install()
    return guard


def names(left: list[LeftOpen]) -> list[str]:
    return [thing.what for thing in left]


class TestSessions:
    def test_a_session_that_was_not_ended_is_left_open(self, work: Work, client: WatchedClient) -> None:
        session = client.start_session()
        assert names(left_open(work, {})) == ["a session"]
        session.end_session()
        assert left_open(work, {}) == []

    def test_a_transaction_is_told(self, work: Work, client: WatchedClient) -> None:
        session = client.start_session()
        session.start_transaction()
        assert names(left_open(work, {})) == ["a session in a transaction"]
        session.end_session()

    @pytest.mark.parametrize("options", [{}, {"causal_consistency": True}, {"snapshot": True}])
    def test_a_session_of_a_with_block_is_not_left(
        self, work: Work, client: WatchedClient, options: dict[str, bool]
    ) -> None:
        with client.start_session(**options) as session:
            pass
        assert session.has_ended
        assert left_open(work, {}) == []

    def test_one_that_is_collected_is_not_left(self, work: Work, client: WatchedClient) -> None:
        session = client.start_session()
        (left,) = left_open(work, {})
        del session
        assert not left.is_open
        assert left.what == "a session"
        assert left_open(work, {}) == []

    def test_a_million_that_were_dropped_are_not_kept(self, work: Work, client: WatchedClient) -> None:
        for _ in range(100):
            client.start_session().end_session()
        assert len(work.sessions or ()) <= 1

    def test_the_drivers_own_are_not_noted(self, work: Work, client: WatchedClient) -> None:
        session = client._ensure_session()
        assert session is not None
        assert work.sessions is None

    def test_outside_a_task_nothing_is_noted(self, client: WatchedClient) -> None:
        session = client.start_session()
        assert not session.has_ended

    def test_where_it_was_started_is_recorded_for_a_suspect_only(
        self, work: Work, client: WatchedClient
    ) -> None:
        sessions = [client.start_session()]
        work.is_suspect = True
        sessions.append(client.start_session())
        first, second = left_open(work, {})
        assert first.stack == ()
        assert second.stack[0].startswith(f"{__file__}:")


class TestSecondClients:
    def make(self) -> Any:
        return MongoClient(connect=False)

    def make_two(self) -> None:
        """By the same lines: the first may be meant to stay."""
        for _ in range(2):
            self.kept = self.make()

    def test_the_first_that_lines_make_is_kept_on_purpose(self, work: Work, guard: ClientGuard) -> None:
        """A singleton that its first task makes, as an ODM's connection."""
        singleton = self.make()
        singleton._opened = True
        other = self.make()  # another line's
        other._opened = True
        assert left_open(work, {}) == []
        singleton.close()
        other.close()

    def test_one_that_has_connected_is_left_open_with_the_place_that_made_it(
        self, work: Work, guard: ClientGuard
    ) -> None:
        self.make_two()
        client = self.kept
        assert left_open(work, {}) == []
        client._opened = True  # what the first operation does, without its connection
        (left,) = left_open(work, {})
        assert left.what == "a second client"
        assert left.stack[0].endswith(" in make")
        client.close()
        assert not left.is_open

    def test_one_that_is_collected_is_not_left(self, work: Work, guard: ClientGuard) -> None:
        self.make_two()
        client, self.kept = self.kept, None
        client._opened = True
        (left,) = left_open(work, {})
        client._opened = False  # or PyMongo warns
        del client
        gc.collect()
        assert not left.is_open
        assert left.stack == ()

    def test_our_own_is_not_noted(self, work: Work, guard: ClientGuard) -> None:
        """A lazy first use may be in a task."""
        with guard.expected(), self.make():
            pass
        assert work.clients is None

    def test_those_that_were_collected_are_not_kept(self, work: Work, guard: ClientGuard) -> None:
        for _ in range(5):
            self.make().close()
        assert len(work.clients or ()) <= 1


class TestConnections:
    def holder(self, work: Work | None, stack: Any = None) -> Any:
        return SimpleNamespace(work=work, server="h:1", stack=stack)

    def test_one_that_its_task_has_not_returned_is_left_open(self, work: Work) -> None:
        holders = {1: self.holder(None), 2: self.holder(work, ("a.py:1 in f",)), 3: self.holder(None)}
        (left,) = left_open(work, holders)
        assert (left.what, left.stack) == ("a connection to h:1", ("a.py:1 in f",))
        del holders[2]
        assert not left.is_open

    def test_the_same_connection_in_other_hands_is_not_left(self, work: Work) -> None:
        holders = {1: self.holder(work)}
        (left,) = left_open(work, holders)
        holders[1] = self.holder(Work("u", "2", 0.0))
        assert not left.is_open
