"""What the fleet shares for Sentry, on a real Redis: the outage and its sender, the windows of Crons."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from celery.schedules import schedule

from ops.local.servers import LocalServer
from tests.e2e.workers import wait_until
from worker.sentry import Ledger, Windows
from worker.sentry.crons.entries import GRACE_SECONDS, monitor_of, went_well
from worker.sentry.crons.windows import Ended
from worker.sentry.outages import ledger
from worker.sentry.outages.state import Kind, Outage, Pending

OUTAGE = Outage(1_700_000_000.0, 1_700_000_010.0, 1_700_000_006.0, pending=Pending(Kind.OPENED, "a"))
_numbers = itertools.count()


@pytest.fixture
def client(redis: LocalServer) -> Iterator[Any]:
    with redis_py.Redis.from_url(redis.uri) as made:
        yield made


@pytest.fixture
def key() -> Any:
    """Keys of a deployment of this test's own."""
    number = next(_numbers)
    return lambda *parts: ":".join(("test-sentry", str(number), *map(str, parts)))


@pytest.fixture
def shared(client: Any, key: Any) -> Ledger:
    return Ledger(client, key)


# -- the outage ------------------------------------------------------------------------------------


def test_one_of_many_is_the_sender_until_it_is_silent(
    shared: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "LOCK_SECONDS", 0.3)
    assert [shared.take(owner) for owner in "abca"] == [True, False, False, True]
    wait_until(lambda: shared.take("b"), what="the end of a's lock", seconds=5)
    assert not shared.take("a")


def test_who_lost_the_lock_writes_nothing(shared: Ledger) -> None:
    assert shared.take("a")
    assert shared.write("a", OUTAGE)
    assert not shared.write("b", Outage(1.0, 2.0, 3.0))
    assert not shared.write("b", Outage(1.0, 2.0, 3.0), hastily=True)
    assert shared.read() == OUTAGE


def test_what_cannot_be_read_is_no_outage(shared: Ledger, client: Any, key: Any) -> None:
    assert shared.read() is None
    for text in ("", "{}", "[1]", '{"since": 1, "pending": 7}'):
        client.set(key("outage"), text)
        assert shared.read() is None


def test_what_each_process_counts_adds_up(shared: Ledger) -> None:
    for member in ("w1@a/0", "w1@a/1", "w1@b/0"):
        shared.touch(OUTAGE.id, [member])
        shared.touch(OUTAGE.id, [member])
        shared.add(OUTAGE.id, requeued=2, errors={"shop.sell": 1, "shop.buy": 3})
    shared.add(OUTAGE.id, errors={"shop.sell": 1}, hastily=True)
    shared.touch(OUTAGE.id, [])
    counts = shared.counts(OUTAGE.id)
    assert counts.requeued == 6
    assert list(counts.errors.items()) == [("shop.buy", 9), ("shop.sell", 4)]
    assert counts.members == {"w1@a/0", "w1@a/1", "w1@b/0"}
    assert shared.counts("another").requeued == 0


def test_nothing_is_kept_for_ever(shared: Ledger, client: Any, key: Any) -> None:
    shared.take("a")
    shared.write("a", OUTAGE)
    shared.add(OUTAGE.id, requeued=1)
    shared.touch(OUTAGE.id, ["m"])
    names = list(client.scan_iter(match=key("*")))
    assert len(names) == 4
    assert all(client.pttl(name) > 0 for name in names)


# -- windows ---------------------------------------------------------------------------------------


@pytest.fixture
def windows(client: Any, key: Any) -> Windows:
    return Windows(client, key)


def clean() -> Any:
    monitor = monitor_of("clean", schedule(20), deployment="d", timezone="UTC", runtime_seconds=None)
    assert monitor is not None
    return monitor


BEGIN = 1_700_000_040.0  # a whole minute


def test_a_window_is_judged_once_after_its_grace(windows: Windows) -> None:
    monitor = clean()
    runs = [windows.sent(monitor, BEGIN + offset) for offset in (1, 21, 41)]
    assert set(runs) == {int(BEGIN)}
    windows.ended(Ended(monitor.slug, run, "ok") for run in runs)
    end = BEGIN + 60 + GRACE_SECONDS
    assert windows.due(end - 1) == []
    (window,) = windows.due(end)
    assert (window.slug, window.seconds, window.config) == ("d-clean", 60, monitor.config)
    assert window.counts == {"sent": 3, "ok": 3}
    assert went_well(window.counts)
    assert windows.due(end + 100) == []


def test_a_run_that_is_missing_fails_the_window_that_it_is_missed_in(windows: Windows) -> None:
    monitor = clean()
    for offset in (1, 21, 61 + 20, 61 + 40):
        windows.ended([Ended(monitor.slug, windows.sent(monitor, BEGIN + offset), "ok")])
    first, second = windows.due(BEGIN + 1000)
    assert went_well(first.counts)
    assert second.counts == {"sent": 2, "ok": 2, "late": 1}


def test_one_that_failed_or_did_not_end_fails_it(windows: Windows) -> None:
    monitor = clean()
    window = windows.sent(monitor, BEGIN)
    windows.sent(monitor, BEGIN + 20)
    windows.ended([Ended(monitor.slug, window, "ok")])
    (found,) = windows.due(BEGIN + 1000)
    assert not went_well(found.counts)


def test_another_beat_goes_on_where_one_ended(client: Any, key: Any) -> None:
    monitor = clean()
    window = Windows(client, key).sent(monitor, BEGIN + 1)
    successor = Windows(client, key)
    assert successor.sent(monitor, BEGIN + 21) == window
    (found,) = successor.due(BEGIN + 1000)
    assert found.counts == {"sent": 2}


def test_windows_are_not_kept_for_ever(windows: Windows, client: Any, key: Any) -> None:
    windows.sent(clean(), time.time())
    assert all(client.ttl(name) > 0 for name in client.scan_iter(match=key("*")))
