"""Numbers and names in a sentence."""

from collections.abc import Collection, Iterable

from .. import text

_NAMES = 5


def names(members: Collection[str]) -> str:
    """Return the first five of the names, sorted, and how many there are more."""
    return text.names(sorted(members), _NAMES)


def seconds(duration: float) -> str:
    """Return a duration in the unit that a person would use."""
    if duration < 10:
        return f"{duration:.1f} s"
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if duration < limit:
            return f"{duration / size:.0f} {unit}"
    return f"{duration / 86_400:.0f} days"


def most(values: Iterable[float]) -> float:
    """Return the largest; 0.0 of none."""
    return max(values, default=0.0)
