"""When a silent server is asked, and what it means that it does not answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.connection import hang
from worker.connection.hang import LATE_SECONDS, STALLED_SECONDS, Outcome, Patience

USUAL = Patience(heartbeat=2.0, ping=2.0)
RARE = Patience(heartbeat=10.0, ping=2.0)
SECONDS = st.floats(min_value=0.05, max_value=3600)


@pytest.mark.parametrize(
    ("patience", "awaited_since", "due"),
    [
        (USUAL, None, 102.25),
        (USUAL, 90.0, 102.25),
        (USUAL, 101.5, 102.25),
        (RARE, None, 110.25),
        (RARE, 90.0, 102.25),
        (RARE, 104.0, 106.25),
        (RARE, 109.5, 110.25),
        (Patience(heartbeat=0.5, ping=2.0), None, 100.75),
        (Patience(heartbeat=10.0, ping=0.5), 100.0, 100.75),
    ],
)
def test_a_server_is_asked_once_it_is_late(
    patience: Patience, awaited_since: float | None, due: float
) -> None:
    """With its heartbeat, or sooner where an operation has waited for longer than a ping may take."""
    assert hang.ask_at(100.0, patience, awaited_since=awaited_since) == pytest.approx(due)


@given(heartbeat=SECONDS, ping=SECONDS, awaited_since=st.none() | st.floats(min_value=0, max_value=1e6))
def test_a_server_whose_heartbeats_come_in_time_is_asked_only_for_something_that_waits(
    heartbeat: float, ping: float, awaited_since: float | None
) -> None:
    since = 1000.0
    due = hang.ask_at(since, Patience(heartbeat, ping), awaited_since=awaited_since)
    if awaited_since is None:
        assert due == pytest.approx(since + heartbeat + LATE_SECONDS)
    else:
        assert since + min(heartbeat, ping) + LATE_SECONDS <= due + 1e-9
        assert due <= since + heartbeat + LATE_SECONDS + 1e-9


def test_by_the_usual_settings_a_server_hangs_after_four_seconds() -> None:
    due = hang.ask_at(0.0, USUAL, awaited_since=None)
    assert due + USUAL.answer == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("has_answered", "took", "outcome"),
    [
        (True, 0.01, Outcome.ALIVE),
        (True, 60.0, Outcome.ALIVE),
        (False, USUAL.answer, Outcome.HUNG),
        (False, USUAL.answer + STALLED_SECONDS, Outcome.HUNG),
        (False, USUAL.answer + STALLED_SECONDS + 0.01, Outcome.UNKNOWN),
    ],
)
def test_a_process_that_stood_still_itself_says_nothing_of_the_server(
    has_answered: bool, took: float, outcome: Outcome
) -> None:
    assert hang.outcome(USUAL, has_answered=has_answered, took=took) is outcome


def test_a_short_deadline_of_pings_leaves_a_server_a_second() -> None:
    assert Patience(heartbeat=2.0, ping=0.05).answer == 1.0
