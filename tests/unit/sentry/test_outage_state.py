"""When an outage is told, decided by a pure function: by whom, how often, and for how long."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sentry.outages.state import Facts, Kind, Outage, Pending, Terms, merge, quiet_seconds, step

TERMS = Terms(confirm=5.0, give_up=3600.0)
T = 1_700_000_000.0


class Fleet:
    """A fleet's state, one look after the other, and what was told."""

    def __init__(self, terms: Terms = TERMS) -> None:
        self.terms = terms
        self.state: Outage | None = None
        self.told: list[tuple[float, Kind]] = []
        self.now = T
        self.down_since: float | None = None

    def run(
        self, seconds: float, *, is_down: bool, own: str = "a", tick: float = 2.0, is_known: bool = True
    ) -> None:
        end = self.now + seconds
        while self.now < end:
            self.down_since = (self.down_since or self.now) if is_down else None
            down = None if self.down_since is None else self.now - self.down_since
            self.state, kind = step(self.state, Facts(self.now, down, is_known), self.terms, own=own)
            if kind is not None:
                self.told.append((self.now - T, kind))
            self.now += tick

    @property
    def kinds(self) -> list[Kind]:
        return [kind for _, kind in self.told]


def test_a_blip_is_not_told() -> None:
    fleet = Fleet()
    fleet.run(4, is_down=True)
    fleet.run(60, is_down=False)
    assert fleet.told == []


def test_an_outage_is_opened_once_confirmed_and_recovered_once_quiet() -> None:
    fleet = Fleet()
    fleet.run(60, is_down=True)
    fleet.run(60, is_down=False)
    assert fleet.told == [(6.0, Kind.OPENED), (64.0, Kind.RECOVERED)]
    assert fleet.state is not None
    assert fleet.state.is_over
    assert fleet.state.seconds == 58


def test_it_is_told_again_each_quarter_of_an_hour() -> None:
    fleet = Fleet()
    fleet.run(2000, is_down=True)
    assert fleet.told == [(6.0, Kind.OPENED), (906.0, Kind.STILL), (1806.0, Kind.STILL)]


def test_it_is_given_up_once_and_goes_on() -> None:
    fleet = Fleet(Terms(confirm=5.0, give_up=600.0))
    fleet.run(1400, is_down=True)
    fleet.run(60, is_down=False)
    assert fleet.told == [(6, Kind.OPENED), (600, Kind.GIVEN_UP), (1404, Kind.RECOVERED)]
    fleet.run(20, is_down=True)
    assert fleet.kinds[-1] is Kind.OPENED


def test_another_sender_goes_on_where_the_first_one_died() -> None:
    fleet = Fleet()
    fleet.run(20, is_down=True, own="a")
    fleet.run(20, is_down=True, own="b")
    fleet.run(20, is_down=False, own="c")
    assert fleet.kinds == [Kind.OPENED, Kind.RECOVERED]


def test_what_a_sender_may_have_died_of_sending_is_sent_by_the_next() -> None:
    fleet = Fleet()
    fleet.run(8, is_down=True, own="a")
    assert fleet.state is not None
    assert fleet.state.pending == Pending(Kind.OPENED, "a")
    fleet.run(8, is_down=True, own="b")
    assert fleet.kinds == [Kind.OPENED, Kind.OPENED]
    assert fleet.state.pending is None


def test_nothing_is_over_while_processes_may_be_cut_off_that_cannot_say_so() -> None:
    fleet = Fleet()
    fleet.run(10, is_down=True)
    fleet.run(60, is_down=False, is_known=False)
    assert fleet.kinds == [Kind.OPENED]
    fleet.run(2, is_down=False)
    assert fleet.kinds == [Kind.OPENED, Kind.RECOVERED]


def test_short_gaps_are_one_outage() -> None:
    fleet = Fleet()
    for _ in range(10):
        fleet.run(8, is_down=True)
        fleet.run(4, is_down=False)
    fleet.run(10, is_down=False)
    assert fleet.kinds == [Kind.OPENED, Kind.RECOVERED]


def test_a_server_that_comes_and_goes_for_an_hour_is_told_of_a_few_times() -> None:
    fleet = Fleet()
    for _ in range(180):
        fleet.run(10, is_down=True)
        fleet.run(10, is_down=False)
    assert len(fleet.told) < 12
    assert Kind.STILL in fleet.kinds


def test_each_relapse_doubles_the_quiet_that_an_end_takes_up_to_five_minutes() -> None:
    outage = Outage(T, T, T)
    quiet = [quiet_seconds(replace(outage, relapses=n), TERMS) for n in range(9)]
    assert quiet == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_an_outage_long_after_the_last_is_no_relapse() -> None:
    fleet = Fleet()
    for _ in range(2):
        fleet.run(20, is_down=True)
        fleet.run(1000, is_down=False)
    assert fleet.state is not None
    assert fleet.state.relapses == 0


def test_it_survives_redis() -> None:
    for pending in (None, Pending(Kind.GIVEN_UP, "n/0:1")):
        outage = Outage(T, T + 1, T + 2, relapses=3, given_up=True, is_over=False, pending=pending)
        assert Outage.decode(outage.encode()) == outage
    with pytest.raises((ValueError, TypeError, KeyError)):
        Outage.decode("{}")


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(1, 40), st.sampled_from("abc"), st.booleans()),
        min_size=1,
        max_size=40,
    )
)
def test_no_outage_is_opened_twice_and_none_ends_that_was_not_opened(looks) -> None:
    """Whoever sends, however it flaps; what a dead sender left is told again and changes nothing."""
    fleet = Fleet()
    for is_down, seconds, own, is_known in looks:
        fleet.run(seconds, is_down=is_down, own=own, is_known=is_known)
    kinds = [kind for n, (at, kind) in enumerate(fleet.told) if (at, kind) not in fleet.told[:n]]
    state = [kind for kind in kinds if kind in (Kind.OPENED, Kind.RECOVERED)]
    resent = [kind for n, kind in enumerate(state) if n == 0 or kind is not state[n - 1]]
    assert resent == [Kind.OPENED, Kind.RECOVERED] * (len(resent) // 2) + [Kind.OPENED] * (len(resent) % 2)


# -- with Redis away for a while -------------------------------------------------------------------


def test_what_a_node_told_alone_is_not_told_again_by_the_fleet() -> None:
    alone = Outage(T, T + 30, T + 6, pending=Pending(Kind.OPENED, "a"))
    assert merge(None, alone) == replace(alone, pending=None)
    assert merge(Outage(T - 5000, T - 4000, T - 4000, is_over=True), alone) == replace(alone, pending=None)


def test_an_end_that_a_node_told_alone_ends_the_fleets_outage() -> None:
    known = Outage(T, T + 10, T + 6)
    merged = merge(known, Outage(T + 1, T + 50, T + 60, is_over=True))
    assert merged is not None
    assert (merged.is_over, merged.last_down, merged.since) == (True, T + 50, T)


def test_where_a_node_knew_nothing_else_the_fleets_state_stands() -> None:
    known = Outage(T, T + 10, T + 6)
    assert merge(known, None) == known
    assert merge(known, Outage(T - 900, T - 800, T - 800, is_over=True)) == known
