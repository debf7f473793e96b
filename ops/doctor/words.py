"""Numbers and names in a sentence."""

from collections.abc import Collection, Iterable

_NAMES = 5


def names(members: Collection[str]) -> str:
    """Return the first five of the names, sorted, and how many there are more."""
    ordered = sorted(members)
    shown = ", ".join(ordered[:_NAMES])
    return shown if len(ordered) <= _NAMES else f"{shown} and {len(ordered) - _NAMES} more"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return '1 process' or '4,096 processes'."""
    return f"{number:,} {noun if number == 1 else plural or _plural(noun)}"


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


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
