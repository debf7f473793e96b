"""Times in buckets."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.pool.histogram import BOUNDS, BUCKETS, Histogram, Times

SECONDS = st.floats(0, 100, allow_nan=False)


def histogram(*seconds: float) -> Histogram:
    made = Histogram()
    for each in seconds:
        made.observe(each)
    return made


def test_the_buckets_can_be_added_up_to_those_of_opentelemetry():
    assert set(BOUNDS) >= {0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}
    assert list(BOUNDS) == sorted(BOUNDS)


def test_a_time_on_a_bound_counts_below_it_and_the_longest_have_a_bucket():
    times = histogram(0.0001, 0.00011, 10.0, 11.0).read()
    assert times.counts[0] == 1
    assert times.counts[1] == 1
    assert times.counts[-2:] == (1, 1)
    assert (times.number, len(times.counts)) == (4, BUCKETS)


def test_nothing_has_no_average_and_no_quantile():
    assert json.loads(json.dumps(Times().to_dict())) == dict.fromkeys(("avg", "p50", "p99", "max")) | {"n": 0}


def test_times_are_told_in_milliseconds():
    told = histogram(0.001, 0.003).read().to_dict()
    assert told == {"n": 2, "avg": 2.0, "p50": 1.0, "p99": 3.0, "max": 3.0}


@given(st.lists(SECONDS, min_size=1), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(seconds: list[float], share: float):
    times = histogram(*seconds).read()
    found = times.quantile(share)
    rank = next(n for n in range(1, len(seconds) + 1) if n >= share * times.number)
    true = sorted(seconds)[rank - 1]
    bucket = sum(bound < true for bound in BOUNDS)
    assert found is not None
    assert (BOUNDS[bucket - 1] if bucket else 0) <= found <= max(seconds)
    if bucket < len(BOUNDS):
        assert found <= BOUNDS[bucket]


def test_what_came_between_two_moments_is_the_difference():
    made = histogram(0.01, 0.02)
    before = made.read()
    made.observe(4.0)
    between = made.read().since(before, 4.0)
    assert (between.number, between.longest) == (1, 4.0)
    assert between.total == pytest.approx(4.0)


def test_servers_are_added_up():
    together = histogram(0.01).read() + histogram(2.0, 3.0).read()
    assert (together.number, together.longest, together.total) == (3, 3.0, 5.01)


def test_the_longest_is_that_since_it_was_last_taken():
    made = histogram(3.0)
    assert made.take_longest() == 3.0
    made.observe(1.0)
    assert made.read().longest == 1.0
