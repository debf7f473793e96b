"""Errors that an outage may explain are held until it is known whether it does, and none is lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sentry.held_errors import GRACE_SECONDS, MOST, Circumstances, Episode, Fate, Held, Shelf, fate


def around(began: float | None, ended: float | None = None, *, is_open: bool = False) -> Circumstances:
    return Circumstances(Episode(began, ended), confirm=5.0, echo=25.0, is_open=is_open)


@pytest.mark.parametrize(
    ("at", "now", "circumstances", "expected"),
    [
        # No outage: it may begin in a moment, then it is an error like any other.
        (100, 100, around(None), Fate.KEEP),
        (100, 102.9, around(None), Fate.KEEP),
        (100, 103, around(None), Fate.SEND),
        (100, 103, around(10, 20), Fate.SEND),
        # An outage that is not confirmed yet; the error may have come before the first heartbeat failed.
        (100, 103, around(99), Fate.KEEP),
        (100, 104, around(101), Fate.KEEP),
        # One that is: by its own time, or because the fleet's was told.
        (100, 104.1, around(99), Fate.COUNT),
        (100, 101, around(99, is_open=True), Fate.COUNT),
        # One that was over before it counted.
        (100, 103, around(99, 102), Fate.SEND),
        # What comes at its end, or a little later.
        (103, 103, around(90, 101), Fate.COUNT),
        (105, 105, around(90, 101), Fate.KEEP),
        (105, 109, around(90, 101), Fate.SEND),
    ],
)
def test_the_fate_of_an_error(at: float, now: float, circumstances: Circumstances, expected: Fate) -> None:
    assert fate(at, at, now, circumstances) is expected


def test_an_operation_that_began_in_the_outage_may_fail_of_it_later() -> None:
    assert fate(115, 100.5, 115, around(90, 101)) is Fate.COUNT
    assert fate(127, 100.5, 127, around(90, 101)) is Fate.KEEP
    assert fate(115, 102, 115, around(90, 101)) is Fate.KEEP


def test_an_episode_is_one_until_the_process_is_cut_off_again() -> None:
    episode = Episode().seen(10, down_seconds=0.0)
    assert episode == Episode()
    episode = episode.seen(12, down_seconds=1.0)
    assert episode == Episode(11)
    assert episode.seen(14, down_seconds=3.0) == Episode(11)
    over = episode.seen(16, down_seconds=0.0)
    assert over == Episode(11, 16) == over.seen(18, down_seconds=0.0)
    assert over.seen(20, down_seconds=1.0) == Episode(19)


@given(
    st.lists(st.floats(0, 60), max_size=30),
    st.floats(0, 50),
    st.floats(0.1, 40),
)
def test_every_error_is_sent_or_counted_exactly_once(
    moments: list[float], began: float, lasted: float
) -> None:
    sent: list[Any] = []
    shelf = Shelf(sent.append)
    counted = 0
    episode = Episode()
    waiting = sorted(moments)
    for tick in range(0, 140, 2):
        is_down = began <= tick < began + lasted
        episode = episode.seen(tick, down_seconds=tick - began + 1e-3 if is_down else 0.0)
        while waiting and waiting[0] <= tick:
            at = waiting.pop(0)
            assert shelf.put(Held(at, at, "t", at))
        counted += sum(shelf.sort(tick, Circumstances(episode, 5.0, 25.0)).values())
    assert len(sent) + counted == len(moments)
    confirmed = episode.began is not None and (episode.ended or 140) - episode.began >= 5
    assert counted == 0 or confirmed


def test_what_is_held_when_the_process_ends_is_sent() -> None:
    sent: list[Any] = []
    shelf = Shelf(sent.append)
    shelf.put(Held(100, 100, "t", "an event"))
    assert not shelf.sort(101, around(99))
    assert sent == []
    shelf.sort(101, around(99), is_last=True)
    assert sent == ["an event"]


def test_there_is_room_for_some_and_not_for_all() -> None:
    shelf = Shelf(lambda _event: None)
    assert all(shelf.put(Held(0, 0, "t", n)) for n in range(MOST))
    assert not shelf.put(Held(0, 0, "t", MOST))
    assert shelf.sort(GRACE_SECONDS, around(-9)) == {"t": MOST}
    assert shelf.put(Held(0, 0, "t", 0))
