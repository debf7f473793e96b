"""Chaos: documents are loaded while one random fault after the other strikes, and must all arrive.

Loads begin and end in faults too. Beside them runs the load of the matrix, which counts effects per task.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.faults import elections, strikes
from tests.faults.fates import Fate, fates, settle
from tests.faults.loader import COLLECTION, Loader, documents
from tests.faults.rig import Rig

POOL = "prefork"

FAULTS: Mapping[str, Callable[[Rig, float], None]] = {
    "MongoDB SIGKILL": strikes.kill_mongo,
    "MongoDB SIGTERM": strikes.terminate_mongo,
    "MongoDB SIGSTOP": strikes.suspend_mongo,
    "connections refused": strikes.refuse,
    "blackhole": strikes.blackhole,
    "half-open": strikes.half_open,
    "reset storm": strikes.reset_storm,
    "not-primary errors": strikes.not_primary,
    "one process cut off": strikes.cut_off_process,
    "Redis SIGKILL": strikes.kill_redis,
    "Redis SIGSTOP, worker SIGTERM": strikes.suspend_redis_and_terminate,
    "child SIGKILL": strikes.kill_children,
    "MAIN SIGKILL": strikes.kill_main,
    "worker SIGTERM": strikes.terminate_worker,
    "cold shutdown": strikes.quit_worker,
}
"""Those of the matrix that need neither a server nor settings of their own; children are recycled always."""

ELECTIONS: Mapping[str, Callable[[Rig, float], None]] = {
    "step down": elections.step_down,
    "primary SIGKILL": elections.kill_primary,
    "primary SIGSTOP": elections.suspend_primary,
    "majority SIGKILL": elections.lose_majority,
    "primary partitioned": elections.partition,
    "secondary SIGKILL": elections.lose_secondary,
}
"""Those that a replica set of three has besides."""

_SHORTEST, _LONGEST, _CALMEST = 0.5, 6.0, 3.0
_PART_SECONDS = 5.0
_PER_SECOND = 4.0

# Each kill is ours: a message that was hit three times is no poison.
SETTINGS = {"CELERY_PYMONGO_POISON_LIMIT": "1000"}
OPTIONS = ("--max-tasks-per-child=50",)


@dataclass(frozen=True)
class Step:
    """So much calm, then a fault for so long; seconds."""

    calm: float
    fault: str
    lasts: float


def faults_of(members: int) -> Mapping[str, Callable[[Rig, float], None]]:
    """Return the faults of a replica set of so many members."""
    return FAULTS if members == 1 else {**FAULTS, **ELECTIONS}


def plan(seed: int, seconds: float, *, members: int = 1) -> list[Step]:
    """Return the faults of a run of about so many seconds: the same for the same seed.

    They are dealt like cards, so that each has struck before one strikes again.
    """
    dice = random.Random(seed)  # noqa: S311 - nothing to keep secret
    names, deck = sorted(faults_of(members)), list[str]()
    steps: list[Step] = []
    while seconds > 0:
        deck = deck or dice.sample(names, len(names))
        calm, lasts = dice.uniform(0, _CALMEST), dice.uniform(_SHORTEST, _LONGEST)
        steps.append(Step(round(calm, 2), deck.pop(), round(lasts, 2)))
        seconds -= calm + lasts
    return steps


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    `missing`, `different` and `unexpected` are documents; `loads` were begun for `parts` of the input; `runs`
    are numbers of tasks by how often they ran, and `ended` numbers of runs by how they ended.
    """

    seed: int
    seconds: float
    documents: int
    missing: int
    different: int
    unexpected: int
    parts: int
    loads: int
    faults: Mapping[str, int]
    fates: Mapping[str, Fate]
    runs: Mapping[int, int]
    ended: Mapping[str, int]
    labels: Mapping[str, str]

    @property
    def problems(self) -> list[str]:
        """What must not be."""
        found = [f"{self.missing} documents missing"] * bool(self.missing)
        found += [f"{self.different} documents different"] * bool(self.different)
        found += [f"{self.unexpected} documents that nobody loaded"] * bool(self.unexpected)
        for fate in self.fates.values():
            found += fate.problems
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self) | {"problems": self.problems}


def run(  # noqa: PLR0913 - what a run is made of
    folder: Path,
    *,
    count: int,
    seconds: float,
    seed: int,
    say: Callable[[str], None],
    members: int = 1,
) -> Outcome:
    """Load `count` documents in an empty folder while faults strike for about so many seconds."""
    steps, parts = plan(seed, seconds, members=members), max(1, round(seconds / _PART_SECONDS))
    with Rig.open(POOL, folder, members=members, settings=SETTINGS, seed=seed, per_second=_PER_SECOND) as rig:
        loader = Loader(rig, seed=seed, count=count, parts=parts, interval=seconds / parts)
        with closing(loader):
            rig.start_worker(*OPTIONS)
            rig.load.start()
            loader.start()
            began = time.monotonic()
            _strike(rig, steps, lambda text: say(f"{time.monotonic() - began:6.1f} s  {text}"))
            rig.load.stop()
            loader.finish()
        settle(rig)
        lasted = time.monotonic() - began
        return _judge(rig, loader, steps, seed=seed, count=count, seconds=lasted)


def lines(outcome: Outcome) -> list[str]:
    """Return an outcome as lines for a person."""
    struck = ", ".join(f"{number} x {fault}" for fault, number in sorted(outcome.faults.items()))
    runs = ", ".join(f"{number:,} ran {_times(times)}" for times, number in outcome.runs.items())
    told = [
        f"{outcome.labels['mongo']}, {outcome.labels['redis']}; seed {outcome.seed}, {outcome.seconds:g} s",
        f"faults: {struck}",
        f"documents: {outcome.documents:,} in {outcome.parts} loads, begun {outcome.loads} times: "
        f"{outcome.missing} missing, {outcome.different} different, {outcome.unexpected} unexpected",
        *(
            f"{fate.kind}: {fate.accepted:,} accepted, {fate.lost} lost, {fate.doubled} took effect twice, "
            f"{fate.unknown} outcome unknown, {fate.failed} failed"
            for fate in outcome.fates.values()
        ),
        f"ledger: tasks: {runs or 'none'}",
        f"ledger: runs: {', '.join(f'{number:,} {end}' for end, number in sorted(outcome.ended.items()))}",
    ]
    return told + [f"not as promised: {problem}" for problem in outcome.problems]


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def _strike(rig: Rig, steps: list[Step], say: Callable[[str], None]) -> None:
    for step in steps:
        time.sleep(step.calm)
        say(f"{step.fault}, {step.lasts:g} s")
        faults_of(len(rig.members))[step.fault](rig, step.lasts)
    say("the last fault is over")


def _judge(  # noqa: PLR0913 - what a run was made of
    rig: Rig, loader: Loader, steps: list[Step], *, seed: int, count: int, seconds: float
) -> Outcome:
    wanted = {row["_id"]: row for row in documents(seed, count)}
    with rig.database() as client:
        there = {row["_id"]: row for row in client[rig.database_name][COLLECTION].find()}
    accounts = rig.accounts().values()
    ended: Counter[str] = Counter()
    for account in accounts:
        ended.update({str(happened): number for happened, number in account.ended.items()})
    return Outcome(
        seed=seed,
        seconds=round(seconds, 1),
        documents=count,
        missing=len(wanted.keys() - there.keys()),
        different=sum(there[key] != row for key, row in wanted.items() if key in there),
        unexpected=len(there.keys() - wanted.keys()),
        parts=loader.parts,
        loads=loader.tries,
        faults=dict(Counter(step.fault for step in steps)),
        fates=fates(rig),
        runs=dict(sorted(Counter(account.started for account in accounts).items())),
        ended=dict(ended),
        labels={"mongo": rig.mongo.label, "redis": rig.redis.label},
    )
