"""One cell of the matrix: a pool, a fault, a load of three kinds of writes, and what became of it all."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.faults.fates import Fate, fates, settle
from tests.faults.ledger import Happened
from tests.faults.load import KINDS
from tests.faults.matrix import FAULTS, Fault
from tests.faults.rig import Look, Rig
from tests.faults.settings import PAUSE_SECONDS, concurrency

_BEFORE_SECONDS, _AFTER_SECONDS = 1.0, 2.0
_BUSY = 0.7
_BACKLOG = 150


@dataclass(frozen=True)
class Outcome:
    """What became of a cell. `retries` and `requeues` are those of all its tasks; `resumed` is in seconds."""

    fault: str
    pool: str
    fates: Mapping[str, Fate]
    retries: int
    requeues: int
    look: Look
    resumed: float | None
    has_struck: bool
    labels: Mapping[str, str]

    @property
    def problems(self) -> list[str]:
        """What must not be."""
        found = [] if self.has_struck else ["the log shows nothing of the fault"]
        for fate in self.fates.values():
            found += fate.problems
        if FAULTS[self.fault].is_outage and self.retries:
            found.append(f"{self.retries} retries spent in an outage")
        if self.resumed is None:
            found.append("no task succeeded after the fault")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self) | {"problems": self.problems}


def run(name: str, pool: str, folder: Path) -> Outcome:
    """Run one cell in an empty folder."""
    fault = FAULTS[name]
    with Rig.open(
        pool,
        folder,
        settings=fault.settings,
        server=fault.server,
        per_second=per_second(pool, fault.seconds),
    ) as rig:
        rig.start_worker(*fault.options)
        rig.load.start()
        rig.wait_for_success()
        time.sleep(_BEFORE_SECONDS)
        fault.strike(rig, fault.seconds)
        time.sleep(_AFTER_SECONDS)
        rig.load.stop()
        settle(rig)
        return _judge(name, fault, rig)


def per_second(pool: str, seconds: float) -> float:
    """Return how many tasks of each kind keep the slots busy, and are worked off soon after a long fault."""
    capacity = concurrency(pool) / (2 * PAUSE_SECONDS)
    return min(_BUSY * capacity / len(KINDS), _BACKLOG / seconds)


def _judge(name: str, fault: Fault, rig: Rig) -> Outcome:
    accounts = rig.accounts().values()
    resumed = None
    if rig.healed_at is not None and (first := rig.succeeded_since(rig.healed_at)):
        resumed = round(first - rig.healed_at, 3)
    return Outcome(
        fault=name,
        pool=rig.pool,
        fates=fates(rig),
        retries=sum(account.retries for account in accounts),
        requeues=sum(account.count(Happened.REQUEUED) for account in accounts),
        look=rig.look,
        resumed=resumed,
        has_struck=rig.struck_at is not None and re.search(fault.evidence, rig.text) is not None,
        labels={"mongo": rig.mongo.label, "redis": rig.redis.label},
    )
