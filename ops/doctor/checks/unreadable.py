"""Is all that stands in Redis readable?"""

from collections.abc import Iterator

from ...text import count
from ..facts import Facts
from ..finding import Check, Finding, Severity

_KEYS = 10


def records(facts: Facts) -> Iterator[Finding]:
    """Records that are there and tell nothing: each is left out, and what it would have told is not known."""
    if not facts.unreadable:
        return
    number = sum(map(len, facts.unreadable.values()))
    one = next(iter(facts.unreadable.values()))[0]
    yield Finding(
        "records-unreadable",
        Severity.UNKNOWN,
        f"{count(number, 'record')} in Redis {'is' if number == 1 else 'are'} not readable.",
        tuple(
            f"{kind}, {count(len(keys), 'key')}: {', '.join(keys[:_KEYS])}"
            + (f" and {len(keys) - _KEYS:,} more" if len(keys) > _KEYS else "")
            for kind, keys in facts.unreadable.items()
        ),
        "Somebody else writes under this prefix, or another version of this package: what these records "
        "would have told is unknown, and no verdict is better than that.",
        (
            "do all nodes run the same version? Does another program use this Redis with the same prefix?",
            f"redis-cli -u REDIS_URL TYPE {one.split(' ')[0]}  # what stands there",
            f"redis-cli -u REDIS_URL DEL {one.split(' ')[0]}  # once it is clear whose it is; of a hash or a "
            "sorted set the one member. Reports, verdicts and ticks come anew within seconds",
        ),
    )


CHECKS = (Check("records-unreadable", "Is all that stands in Redis readable?", records),)
