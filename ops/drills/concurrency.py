"""So many threads through one client, each with so many operations: really at once, or not?"""

from typing import Any

from .ground import Terms, ground
from .interrupts import Caller


def run(mongo: Any, terms: Terms, caller: Caller, *, queries: int) -> dict[str, Any]:
    """Run the drill with the options of the app's own client and return its document."""
    with ground(mongo, terms, name="concurrency") as found, found.loaded({}) as load:
        with caller.interrupts.allowed():
            outcome = load.run(seconds=terms.seconds, times=queries)
        body = {
            "asked": terms.threads * queries,
            "pool": mongo.drills.own_pool(terms.threads),
            **outcome.to_dict(),
            **load.to_dict(),
        }
    return found.to_dict() | body
