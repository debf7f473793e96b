"""How large a pool should be: Little's law of what is measured, or planned, and what the fleet comes to.

Connections in use on average = operations per second x seconds that each holds one. Operations come when
they come, so the number in use is about Poisson's: the pool is sized for its 99th percentile, and never
beyond what can run at a time. One more is for the health check.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .doctor.budget import MONITORING, RESERVE, limit_of, members_of, shares
from .doctor.facts import ONE_TASK, Facts, Process

P99 = 2.326
"""Standard deviations below which 99 of 100 lie."""

_EXACT_BELOW = 500.0
# Of a fleet, per second; what is beyond it no snapshot of ours says.
_MOST_RATE = 1e9
_FEWEST, _GUIDE_FEWEST, _GUIDE_MOST, _GUIDE_MARGIN = 1, 10, 100, 1.5


@dataclass(frozen=True)
class Load:
    """What one process does: operations per second, seconds that each holds a connection, tasks at a time.

    `concurrency` None: nothing bounds it.
    """

    rate: float
    hold: float
    concurrency: int | None

    @property
    def in_use(self) -> float:
        """Connections in use on average."""
        mean = self.rate * self.hold
        return mean if self.concurrency is None else min(mean, float(self.concurrency))

    @property
    def in_use_p99(self) -> int:
        """Connections in use at the 99th percentile."""
        p99 = poisson_p99(self.rate * self.hold)
        return p99 if self.concurrency is None else min(p99, self.concurrency)

    @property
    def recommended(self) -> int:
        """The maxPoolSize that this takes."""
        return max(_FEWEST, self.in_use_p99) + 1


@dataclass(frozen=True)
class Pool:
    """Alike processes: their load, the busiest one's, what they have now and what they should have."""

    kind: str
    processes: int
    load: Load
    max_pool: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `each` and `total` are connections to one member."""
        each = self.load.recommended + MONITORING
        return {
            "kind": self.kind,
            "processes": self.processes,
            "concurrency": self.load.concurrency,
            "rate": round(self.load.rate, 3),
            "hold_ms": round(self.load.hold * 1000, 3),
            "in_use": round(self.load.in_use, 3),
            "in_use_p99": self.load.in_use_p99,
            "max_pool_size": self.max_pool,
            "recommended": self.load.recommended,
            "each": each,
            "total": self.processes * each,
        }


@dataclass(frozen=True)
class Plan:
    """What is planned in place of what is measured: of one process, and how many there will be."""

    rate: float
    hold_ms: float
    concurrency: int | None = None
    processes: int | None = None


def plan_of(
    rate: float | None, hold: float | None, *, concurrency: int | None, processes: int | None
) -> Plan | None:
    """Return the plan that these make, None without any; raises ValueError where they are no plan."""
    if rate is None and hold is None:
        if concurrency is not None or processes is not None:
            raise ValueError("a plan needs both --rate and --hold")
        return None
    if rate is None or hold is None:
        raise ValueError("a plan needs both --rate and --hold")
    numbers = {"rate": rate, "hold": hold, "concurrency": concurrency, "processes": processes}
    wrong = [name for name, number in numbers.items() if number is not None and not _is_fit(number)]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: a number above 0 is expected")
    return Plan(rate, hold, concurrency, processes)


def _is_fit(number: Any) -> bool:
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    return is_number and 0 < number < math.inf


def poisson_p99(mean: float) -> int:
    """Return the least number that a Poisson variable of this mean stays at or below 99 times of 100."""
    if mean <= 0:
        return 0
    if mean > _EXACT_BELOW:
        return math.ceil(mean + P99 * math.sqrt(mean))
    number, share = 0, math.exp(-mean)
    below = share
    while below < 0.99:
        number += 1
        share *= mean / number
        below += share
    return number


def guide(concurrent: int, seconds: float) -> int:
    """Return what the usual guide's formula gives: concurrent requests x duration x 1.5, from 10 to 100."""
    return max(_GUIDE_FEWEST, min(int(concurrent * seconds * _GUIDE_MARGIN), _GUIDE_MOST))


def size(facts: Facts, plan: Plan | None, history: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the recommendation as plain JSON types.

    `history` are snapshots of the fleet: the busiest of them says how much busier it gets than it is now.
    """
    peak = peak_of(history, facts.present) if plan is None else 1.0
    pools = list(_planned(facts, plan)) if plan else list(_measured(facts, peak))
    limit, limit_source = limit_of(facts)
    now = sum(share.total for share in shares(facts))
    recommended = sum(pool.to_dict()["total"] for pool in pools)
    is_over = limit is not None and max(recommended, 0 if plan else now) > limit
    return {
        "verdict": "unknown" if not pools else "degraded" if is_over else "ok",
        "source": "plan" if plan else "measured",
        "peak": round(peak, 2),
        "pools": [pool.to_dict() for pool in pools],
        "fleet": {
            "members": members_of(facts),
            "limit": limit,
            "limit_source": limit_source,
            "now": None if not facts.present else now,
            "now_by": [asdict(share) | {"total": share.total} for share in shares(facts)],
            "recommended": recommended,
            "share": None if limit is None else round(recommended / limit, 4),
            "reserve": RESERVE,
        },
        "settings": list(_settings(pools)),
        "guide": _guide(pools),
    }


def peak_of(history: Iterable[Mapping[str, Any]], present: Sequence[Process]) -> float:
    """Return how many times busier the fleet was at its busiest than now, 1.0 at least."""
    now = sum(process.number("rate", "checked_out") for process in present)
    rates = [_rate_of(entry) for entry in history]
    return max(1.0, max(rates, default=0.0) / now) if now > 0 else 1.0


def _rate_of(entry: Mapping[str, Any]) -> float:
    """Return the checkouts per second of a snapshot; 0.0 where it does not say so."""
    found: Any = entry
    for name in ("totals", "rate", "checked_out"):
        found = found.get(name) if isinstance(found, dict) else None
    is_number = isinstance(found, (int, float)) and not isinstance(found, bool)
    return float(found) if is_number and 0 <= found <= _MOST_RATE else 0.0


def _measured(facts: Facts, peak: float) -> Iterator[Pool]:
    alike: dict[tuple[str, int | None, int | None], list[Process]] = defaultdict(list)
    for process in facts.present:
        alike[str(process.report.get("kind")), process.concurrency, process.max_pool].append(process)
    for (kind, concurrency, most), processes in sorted(alike.items(), key=lambda pair: str(pair[0])):
        loads = [
            Load(p.number("rate", "checked_out") * peak, p.number("use", "avg") / 1000, concurrency)
            for p in processes
        ]
        busiest = max(loads, key=lambda load: load.rate * load.hold)
        yield Pool(kind, len(processes), busiest, most)


def _planned(facts: Facts, plan: Plan) -> Iterator[Pool]:
    present = facts.present
    kinds = {str(process.report.get("kind")) for process in present}
    kind = kinds.pop() if len(kinds) == 1 else "any"
    known = {process.concurrency for process in present}
    concurrency = plan.concurrency or (known.pop() if len(known) == 1 else None)
    most = {process.max_pool for process in present}
    processes = plan.processes or len(present) or 1
    load = Load(plan.rate, plan.hold_ms / 1000, concurrency)
    yield Pool(kind, processes, load, most.pop() if len(most) == 1 else None)


def _settings(pools: Sequence[Pool]) -> Iterator[str]:
    by_size: dict[int, list[str]] = defaultdict(list)
    for pool in pools:
        tasks = (
            "any number of tasks" if pool.load.concurrency is None else f"{pool.load.concurrency} at a time"
        )
        by_size[pool.load.recommended].append(f"{pool.kind}, {tasks}")
    for most, kinds in sorted(by_size.items()):
        yield f"MONGODB_MAX_POOL_SIZE={most}  # {'; '.join(kinds)}"
    if pools:
        yield "MONGODB_MIN_POOL_SIZE=auto"


def _guide(pools: Sequence[Pool]) -> dict[str, Any]:
    """Return the guide's formula for the busiest pool beside ours, and where it errs."""
    if not pools:
        return {"formula": GUIDE_FORMULA, "gives": None, "errs": []}
    pool = max(pools, key=lambda pool: pool.load.recommended)
    concurrent = pool.load.concurrency or max(1, math.ceil(pool.load.in_use))
    gives = guide(concurrent, pool.load.hold)
    raw = concurrent * pool.load.hold * _GUIDE_MARGIN
    errs = [f"{concurrent} x {pool.load.hold:g} s x 1.5 = {raw:.3g}, clamped to {gives}"]
    if pool.kind in ONE_TASK:
        errs.append(
            f"a {pool.kind} process runs one task at a time: of {gives} connections it can use one and the "
            "health check's"
        )
    return {"formula": GUIDE_FORMULA, "gives": gives, "errs": errs}


GUIDE_FORMULA = "concurrent requests x average duration x 1.5, from 10 to 100"
