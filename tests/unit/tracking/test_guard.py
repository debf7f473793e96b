"""Every client of the process, and where it was made."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient

from worker.tracking.guard import ClientGuard, Sighting, is_closed, sightings


class Watch:
    """A guard whose sightings are kept, and the clients that a test makes."""

    def __init__(self) -> None:
        self.is_on = True
        self.seen: list[Sighting] = []
        self.guard = ClientGuard(lambda: self.is_on, self.seen.append)
        self._made: list[Any] = []

    def make(self, *, is_open: bool = False) -> Any:
        client: Any = MongoClient(connect=False)
        # What the first operation does, without its connection.
        client._opened = is_open
        self._made.append(client)
        return client

    def ours(self, *, is_open: bool = False) -> Any:
        with self.guard.expected():
            return self.make(is_open=is_open)

    def end(self) -> None:
        for client in self._made:
            client._opened = False
            client.close()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    monkeypatch.setattr(MongoClient, "__init__", MongoClient.__init__)  # restores what install() wraps
    monkeypatch.setattr(MongoClient, "_clients", {})
    watch = Watch()
    watch.guard.install()
    yield watch
    watch.end()


def track(client: Any) -> None:
    """Put a client where PyMongo lists it at its first operation."""
    MongoClient._clients[client._topology._topology_id] = client


def test_pymongo_still_lists_its_clients_and_says_whether_they_are_open() -> None:
    """What the guard reads is private: a PyMongo that changes it is noticed here."""
    client: Any = MongoClient(connect=False)
    assert hasattr(MongoClient, "_clients")
    assert (vars(client)["_opened"], vars(client)["_closed"]) == (False, False)
    client.close()
    assert is_closed(client)


def test_a_client_that_somebody_else_makes_beside_ours_is_told_with_its_place(watch: Watch) -> None:
    watch.make()
    (sighting,) = watch.seen
    assert sighting.site.startswith(f"{__file__}:")
    assert sighting.site.endswith(" in make")
    assert "\n  from " in str(sighting)
    assert not any("/pymongo/" in frame for frame in sighting.stack)
    assert len(sighting.stack) <= 12


def test_our_own_client_is_not_told(watch: Watch) -> None:
    watch.ours()
    assert watch.seen == []
    watch.make()
    assert len(watch.seen) == 1


def test_nothing_is_told_while_none_of_ours_is_in_use(watch: Watch) -> None:
    watch.is_on = False
    watch.make()
    assert watch.seen == []


def test_a_client_that_cannot_be_made_is_not_told(watch: Watch) -> None:
    with pytest.raises(TypeError):
        MongoClient(connect=False, maxPoolSize=[])
    assert watch.seen == []


def test_installing_again_wraps_once_and_the_newest_guard_is_told(watch: Watch) -> None:
    newer: list[Sighting] = []
    ClientGuard(lambda: True, newer.append).install()
    watch.make()
    assert (len(watch.seen), len(newer)) == (0, 1)
    assert not hasattr(MongoClient.__init__.__wrapped__, "__wrapped__")  # type: ignore[attr-defined] # set by wraps


def test_open_clients_of_others_are_sighted(watch: Watch) -> None:
    track(watch.ours(is_open=True))
    foreign = watch.make(is_open=True)
    track(foreign)
    track(watch.make(is_open=False))
    (sighting,) = sightings(own_too=False)
    assert sighting.is_open
    assert len(sightings(own_too=True)) == 2
    foreign.close()
    assert sightings(own_too=False) == []


def test_where_no_client_may_be_our_own_is_sighted_before_it_connects(watch: Watch) -> None:
    """In a prefork MAIN: a database kept at module level would be used in every child."""
    own = watch.ours(is_open=False)
    track(own)
    assert sightings(own_too=False) == []
    (sighting,) = sightings(own_too=True)
    assert not sighting.is_open
    own.close()
    assert sightings(own_too=True) == []


def test_our_client_of_the_process_before_a_fork_is_foreign_in_the_child(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    track(watch.ours(is_open=True))
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert len(sightings(own_too=False)) == 1


def test_a_client_from_before_the_guard_is_sighted_without_its_place(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = watch.make(is_open=True)
    del vars(client)["_celery_pymongo_origin"]
    track(client)
    (sighting,) = sightings(own_too=False)
    assert str(sighting) == "a line that ran before install(app)"


def test_a_pymongo_without_a_list_of_clients_shows_none(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(MongoClient, "_clients")
    assert sightings(own_too=True) == []
