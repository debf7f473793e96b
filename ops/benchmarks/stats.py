"""The median of a few noisy measurements, and how far it can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb
from statistics import median


@dataclass(frozen=True)
class Estimate:
    """A median and the interval that covers the true one; None where there are too few values for one.

    `coverage` is the interval's exact probability, at least the confidence that was asked for.
    """

    median: float
    low: float | None
    high: float | None
    coverage: float
    count: int


def estimate(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """Return the median of `values` with its order-statistic interval.

    It assumes independent values and nothing of their distribution: the number of values below the true
    median is binomial with p = 1/2 (David and Nagaraja, Order Statistics, 7.1). Needs six values for 95 %.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    rank = _rank(len(ordered), confidence)
    if rank == 0:
        return Estimate(median(ordered), None, None, 0.0, len(ordered))
    low, high = ordered[rank - 1], ordered[-rank]
    return Estimate(median(ordered), low, high, _coverage(len(ordered), rank), len(ordered))


def paired_ratios(pairs: Sequence[tuple[float, float]]) -> list[float]:
    """Return first / second of each pair: what disturbs both halves of a pair cancels out."""
    return [first / second for first, second in pairs]


def paired_differences(pairs: Sequence[tuple[float, float]]) -> list[float]:
    """Return first - second of each pair: what one costs more than the other."""
    return [first - second for first, second in pairs]


def _rank(count: int, confidence: float) -> int:
    """Return the largest rank from either end whose interval covers enough; 0 where none does."""
    ranks = range(count // 2, 0, -1)
    return next((rank for rank in ranks if _coverage(count, rank) >= confidence), 0)


def _coverage(count: int, rank: int) -> float:
    """Return the probability that the median lies between the rank-th smallest and the rank-th largest."""
    outside: int = 2 * sum(comb(count, below) for below in range(rank))
    return 1 - float(Fraction(outside, 2**count))
