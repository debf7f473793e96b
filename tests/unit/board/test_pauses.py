"""What operators paused: whose word counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.board.pauses import Known, Orders, add, carry, key, paused, said

NAMES = st.sampled_from(["a", "b", "c"])


def give(orders: Orders, queue: str, known: Known | None = None, *, pause: bool = True) -> Orders:
    return add(orders, known, [queue], pause=pause)


def test_nobody_knows_what_is_paused_before_redis_was_asked() -> None:
    assert paused(Orders(), None) is None
    assert Known.read("") is None
    assert paused(Orders(), Known(0, {})) == set()


def test_an_order_counts_at_once_and_goes_on_to_count_once_it_is_carried() -> None:
    orders = give(Orders(), "a")
    assert paused(orders, None) == {"a"}
    known = carry(orders, None, {}, now=10.0)
    assert known.said == {"a": (True, 10.0)}
    assert paused(orders, known) == {"a"}


def test_an_order_that_was_carried_is_not_given_again() -> None:
    """Or it would take back what somebody else has said since."""
    orders = give(Orders(), "a")
    known = carry(orders, None, {}, now=10.0)
    elsewhere = {"a": (False, 11.0)}
    known = carry(orders, known, elsewhere, now=12.0)
    assert paused(orders, known) == set()
    orders = give(orders, "b", known)
    assert orders.wanted == {"b": True}
    assert paused(orders, known) == {"b"}


def test_orders_that_were_not_carried_stay_when_others_follow() -> None:
    orders = give(give(Orders(), "a"), "b")
    assert paused(orders, None) == {"a", "b"}
    orders = give(orders, "a", pause=False)
    assert paused(orders, None) == {"b"}
    assert carry(orders, None, {"a": (True, 5.0)}, now=6.0).said == {"a": (False, 6.0), "b": (True, 6.0)}


def test_a_pause_from_before_a_restart_counts_for_the_queues_that_no_order_names() -> None:
    orders = give(Orders(), "a", pause=False)
    known = carry(orders, None, {"a": (True, 5.0), "b": (True, 5.0)}, now=6.0)
    assert paused(orders, known) == {"b"}


def test_what_redis_forgot_comes_back_from_the_board() -> None:
    orders = give(Orders(), "a")
    known = carry(orders, None, {}, now=10.0)
    assert carry(orders, known, {}, now=20.0) == known


@given(st.dictionaries(NAMES, st.tuples(st.booleans(), st.floats(0, 100))), st.lists(NAMES), st.booleans())
def test_carrying_twice_changes_nothing_more(
    stored: dict[str, tuple[bool, float]], queues: list[str], pause: bool
) -> None:
    orders = add(Orders(), None, queues, pause=pause)
    known = carry(orders, None, stored, now=200.0)
    assert carry(orders, known, known.said, now=300.0) == known
    assert carry(orders, known, stored, now=300.0) == known


def test_of_an_order_for_all_nodes_and_one_for_this_node_the_later_counts() -> None:
    everywhere = key("a", everywhere=True)
    orders = add(Orders(), None, ["a"], pause=True, everywhere=True)
    assert paused(orders, None) == {"a"}
    known = carry(orders, None, {"a": (False, 5.0)}, now=10.0)
    assert known.said == {everywhere: (True, 10.0)}
    assert paused(orders, known) == {"a"}
    orders = give(orders, "a", known, pause=False)
    known = carry(orders, known, {everywhere: (True, 10.0)}, now=20.0)
    assert known.said == {"a": (False, 20.0)}
    assert paused(orders, known) == set()
    assert paused(orders, carry(orders, known, {everywhere: (True, 30.0)}, now=40.0)) == {"a"}


@pytest.mark.parametrize("everywhere", [True, False])
def test_an_order_takes_back_one_that_nobody_has_carried_yet(everywhere: bool) -> None:
    orders = add(Orders(), None, ["a", "b"], pause=True, everywhere=not everywhere)
    orders = add(orders, None, ["a"], pause=False, everywhere=everywhere)
    assert paused(orders, None) == {"b"}
    assert len(orders.wanted) == 2


def test_both_travel_as_text() -> None:
    orders = give(Orders(), "a")
    known = carry(orders, None, {"b": (False, 1.5)}, now=10.0)
    assert Orders.read(orders.text()) == orders
    assert Known.read(known.text()) == known
    assert Orders.read("") == Orders()


@pytest.mark.parametrize("value", [None, 1, "x", [], [True], [True, None], ["x", 1.0]])
def test_what_a_stored_document_does_not_say_in_this_form_is_not_said(value: object) -> None:
    assert said({"a": value, "b": [True, 2]}) == {"b": (True, 2.0)}
