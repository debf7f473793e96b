"""Who lives, who is silent, who is lost and who is missing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fleet_reports import NOW, fleet, node, reading, report, seen
from worker.fleet.fleet import Fleet, State, assess, judge, silence_of


def states(found: Fleet) -> dict[str, str]:
    return {process.member: process.state.value for process in found.processes}


def mortem(name: str, slot: int, *, silent: float) -> dict[str, Any]:
    return {"node": name, "slot": slot, "seen": NOW - silent, "report": report(name, slot)}


@pytest.mark.parametrize(
    ("silence", "alive", "state"),
    [
        (0.0, None, "live"),
        (6.0, None, "live"),
        (6.1, None, "stale"),
        (15.0, False, "stale"),
        (15.1, True, "busy"),
        (15.1, False, "lost"),
        (15.1, None, "stale"),
        (60.0, None, "stale"),
        (60.1, None, "lost"),
        (3600.0, True, "busy"),
    ],
)
def test_silence_makes_stale_and_only_death_or_a_minute_of_doubt_makes_lost(
    silence: float, alive: bool | None, state: str
) -> None:
    assert judge(silence, alive) == state


@given(st.floats(0, 1e6), st.sampled_from([True, False, None]))
def test_who_is_known_to_live_is_never_lost_and_who_was_silent_briefly_neither(
    silence: float, alive: bool | None
) -> None:
    is_lost = judge(silence, alive) is State.LOST
    assert is_lost == ((silence > 15 and alive is False) or (silence > 60 and alive is None))


def test_only_those_who_were_silent_for_long_are_asked_after() -> None:
    asked: list[str] = []

    def is_alive(silent: Any) -> bool:
        asked.append(silent.member)
        return True

    processes = [seen(report(slot=slot, slots=3), silent=silent) for slot, silent in enumerate((1, 10, 16))]
    found = assess(reading(*processes), is_alive=is_alive)
    assert asked == ["w1@h/2"]
    assert states(found) == {"w1@h/0": "live", "w1@h/1": "stale", "w1@h/2": "busy"}


def test_the_time_when_nobody_could_report_is_nobodys_silence() -> None:
    process = seen(report(), silent=300)
    assert silence_of(reading(process, silent_until=NOW - 4), process) == 4
    gap = assess(reading(process, silent_until=NOW - 4), is_alive=lambda _: False)
    assert states(gap) == {"w1@h/0": "live"}


def test_a_sibling_that_is_heard_can_tell_that_a_process_is_busy() -> None:
    teller = seen(report(slot=0, slots=2, busy=[1]))
    silent = seen(report(slot=1, slots=2), silent=100)
    assert states(fleet(teller, silent, alive=False))["w1@h/1"] == "busy"
    silent_teller = seen(report(slot=0, slots=2, busy=[1]), silent=100)
    assert states(fleet(silent_teller, silent, alive=False))["w1@h/1"] == "lost"


def test_a_slot_that_nobody_reports_is_missing_by_name() -> None:
    processes = [seen(report(slot=slot, slots=4)) for slot in (0, 3)]
    found = fleet(*processes, *node("w2@h", 2))
    assert found.missing == ["w1@h/1", "w1@h/2"]
    assert found.expected == 6


def test_the_holes_that_a_shrunken_pool_leaves_are_not_missing() -> None:
    found = fleet(*[seen(report(slot=slot, slots=2)) for slot in (1, 3)])
    assert (found.missing, found.expected) == ([], 2)


def test_the_newest_report_of_a_node_says_how_many_slots_it_has() -> None:
    before = seen(report(slot=0, slots=2), silent=3)
    after = seen(report(slot=1, slots=3), silent=1)
    assert fleet(before, after).missing == ["w1@h/2"]


def test_a_lost_process_is_not_missing_too() -> None:
    found = fleet(*node(slots=2)[:1], seen(report(slot=1, slots=2), silent=20), alive=False)
    assert (found.names(State.LOST), found.missing, found.expected) == (["w1@h/1"], [], 2)
    assert [process.member for process in found.present] == ["w1@h/0"]


def test_a_node_that_is_gone_stays_lost_for_ten_minutes() -> None:
    buried = [mortem("w2@h", slot, silent=500) for slot in (0, 1)]
    found = fleet(*node(slots=1), buried=buried)
    assert found.names(State.LOST) == ["w2@h/0", "w2@h/1"]
    assert found.expected == 3
    later = [mortem("w2@h", slot, silent=601) for slot in (0, 1)]
    assert fleet(*node(slots=1), buried=later).names(State.LOST) == []


def test_a_node_that_came_back_is_not_lost_any_more() -> None:
    found = fleet(*node(slots=2), buried=[mortem("w1@h", 1, silent=30)])
    assert states(found) == {"w1@h/0": "live", "w1@h/1": "live"}


def test_a_buried_process_of_a_node_that_lives_is_missing_until_it_is_replaced() -> None:
    found = fleet(*node(slots=2)[:1], buried=[mortem("w1@h", 1, silent=30)])
    assert (states(found), found.missing) == ({"w1@h/0": "live"}, ["w1@h/1"])


def test_two_post_mortems_of_one_slot_are_one_lost_process() -> None:
    twice = [mortem("w2@h", 0, silent=silent) for silent in (20, 90)]
    assert fleet(buried=twice).names(State.LOST) == ["w2@h/0"]


def test_a_report_of_which_little_is_known_breaks_nothing() -> None:
    found = fleet(seen({"node": "old@h", "slot": "x"}))
    assert (states(found), found.expected, found.missing) == ({"old@h/x": "live"}, 1, [])
