"""Several configurations of a pool under the same concurrent load, in turns, so that each meets the same
server in the same minute; ratios to the app's own, since the server says more about itself than a pool does.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .ground import Load, Terms, ground
from .interrupts import Caller
from .pools import Configuration
from .refused import Refused, Unreachable
from .trial import Outcome

LEAST_SECONDS = 0.3
"""A turn that is shorter says nothing."""


@dataclass
class Side:
    """A configuration under load: what came of all its turns, and how many operations a second of each."""

    configuration: Configuration
    load: Load
    outcome: Outcome = field(default_factory=Outcome)
    rates: list[float] = field(default_factory=list)

    def add(self, turn: Outcome) -> None:
        """Take in a turn."""
        self.outcome.add(turn)
        self.rates.append(turn.per_second)

    def to_dict(self, own: Sequence[float]) -> dict[str, Any]:
        """Return plain JSON types; `own` are the rates of the app's configuration, turn by turn."""
        return {
            **self.configuration.to_dict(),
            **self.outcome.to_dict(),
            **self.load.to_dict(),
            "ratio": ratio(self.rates, own),
        }


def run(
    mongo: Any, terms: Terms, caller: Caller, *, configurations: Sequence[Configuration], rounds: int
) -> dict[str, Any]:
    """Run the drill and return its document; each turn is told: its number, how many there are, and whose."""
    turns = rounds * len(configurations)
    seconds = terms.seconds / turns
    if seconds < LEAST_SECONDS:
        raise Refused(
            f"{turns} turns of {LEAST_SECONDS:g} s at least need --seconds {turns * LEAST_SECONDS:g}"
        )
    with ground(mongo, terms, name="compare") as found, ExitStack() as stack:
        sides = [Side(each, stack.enter_context(found.loaded(dict(each.options)))) for each in configurations]
        with caller.interrupts.allowed():
            for number, side in enumerate(order(sides, rounds)):
                caller.tell({"turn": number + 1, "of": turns, "name": side.configuration.name})
                turn = side.load.run(seconds=seconds)
                if not turn.took and set(turn.errors) == {"outage"}:
                    # Each turn to come would wait for it, too.
                    raise Unreachable("MongoDB stopped answering")
                side.add(turn)
        body = {
            "rounds": rounds,
            "turn_seconds": round(seconds, 3),
            "configurations": [side.to_dict(sides[0].rates) for side in sides],
        }
    return found.to_dict() | body


def order(sides: Sequence[Side], rounds: int) -> list[Side]:
    """Return whose turn it is, one after the other: each begins one round after the other."""
    turned = [(*sides[n % len(sides) :], *sides[: n % len(sides)]) for n in range(rounds)]
    return [side for round_ in turned for side in round_]


def ratio(rates: Sequence[float], own: Sequence[float]) -> dict[str, float] | None:
    """Return the median and the extremes of rate by rate over the app's own of the same round."""
    ratios = sorted(rate / base for rate, base in zip(rates, own, strict=True) if base > 0)
    if not ratios:
        return None
    found = {"median": median(ratios), "min": ratios[0], "max": ratios[-1]}
    return {name: round(value, 3) for name, value in found.items()}
