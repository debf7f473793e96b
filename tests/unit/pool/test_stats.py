"""Medians and their intervals, as the benchmarks report them."""

import random

import pytest

from ops.benchmarks.stats import estimate, paired_differences, paired_ratios


def test_the_interval_of_a_median_is_the_textbook_one():
    """n = 30: the 10th and the 21st value, 95.7 % (tables of the sign test)."""
    found = estimate([float(n) for n in range(1, 31)])
    assert (found.median, found.low, found.high, found.count) == (15.5, 10.0, 21.0, 30)
    assert found.coverage == pytest.approx(0.9572, abs=1e-4)


def test_the_order_of_the_values_does_not_matter():
    values = [float(n) for n in range(25)]
    assert estimate(values[::-1]) == estimate(values[::2] + values[1::2]) == estimate(values)


@pytest.mark.parametrize(("count", "has_interval"), [(1, False), (5, False), (6, True), (7, True)])
def test_fewer_than_six_values_have_no_interval(count, has_interval):
    found = estimate([float(n) for n in range(count)])
    assert (found.low is not None and found.high is not None) is has_interval


def test_six_values_are_covered_by_their_ends():
    found = estimate([4.0, 2.0, 6.0, 1.0, 5.0, 3.0])
    assert (found.low, found.high) == (1.0, 6.0)
    assert found.coverage == pytest.approx(1 - 2 / 64)


@pytest.mark.parametrize("count", [6, 30, 101, 1000])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_an_interval_covers_what_was_asked_for_and_no_narrower_one_does(count, confidence):
    values = [float(n) for n in range(1, count + 1)]
    found = estimate(values, confidence=confidence)
    if found.low is None:
        assert count == 6
        return
    assert found.coverage >= confidence
    assert found.low <= found.median <= (found.high or 0)
    if found.low < count // 2:
        assert _covered_between(int(found.low) + 1, count) < confidence


def test_the_interval_covers_the_true_median_of_a_skewed_source_as_often_as_it_says():
    """Median of an exponential source: ln 2; 400 samples of 31, tolerance of four standard errors."""
    source = random.Random(7)  # noqa: S311 - a repeatable source is what a test wants
    hits = 0
    for _ in range(400):
        found = estimate([source.expovariate(1.0) for _ in range(31)])
        hits += (found.low or 0) <= 0.693147 <= (found.high or 0)
    assert hits / 400 == pytest.approx(0.9706, abs=0.035)


def test_one_outlier_moves_neither_the_median_nor_the_interval():
    calm = estimate([1.0 + n / 1000 for n in range(31)])
    disturbed = estimate([1.0 + n / 1000 for n in range(30)] + [900.0])
    assert disturbed.median == calm.median
    assert (disturbed.low, disturbed.high) == (calm.low, calm.high)


def test_no_values_are_refused():
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_ratios_are_taken_within_pairs():
    assert paired_ratios([(2.0, 1.0), (30.0, 10.0)]) == [2.0, 3.0]


def test_differences_are_taken_within_pairs():
    assert paired_differences([(3.0, 1.0), (10.0, 30.0)]) == [2.0, -20.0]


def _covered_between(rank: int, count: int) -> float:
    """The same coverage by another way: the recurrence of the binomial's terms."""
    term, outside = 0.5**count, 0.0
    for below in range(rank):
        outside += 2 * term
        term *= (count - below) / (below + 1)
    return 1 - outside
