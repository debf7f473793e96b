"""One cell of the matrix: a pool, a fault, a load of three kinds of writes, and what became of it all."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tests.faults.fates import Fate, fates, settle
from tests.faults.ledger import Happened
from tests.faults.load import KINDS
from tests.faults.matrix import FAULTS, Fault
from tests.faults.plain import PlainClient
from tests.faults.rig import Look, Rig
from tests.faults.settings import PAUSE_SECONDS, TRANSACTION, concurrency

_BEFORE_SECONDS, _AFTER_SECONDS = 1.0, 2.0
_BUSY = 0.7
_BACKLOG = 150


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    `retries` and `requeues` are those of all its tasks. In seconds: `elected` from each strike to the new
    primary, `resumed` from there (where there was none, from the end of the fault) to the next task done, and
    `plain` to the next write done by a plain client.
    """

    fault: str
    pool: str
    members: int
    fates: Mapping[str, Fate]
    retries: int
    requeues: int
    look: Look
    elected: Sequence[float]
    resumed: Sequence[float]
    plain: Sequence[float]
    has_struck: bool
    labels: Mapping[str, str]

    @property
    def problems(self) -> list[str]:
        """What must not be."""
        found = [] if self.has_struck else ["nothing shows that the fault struck"]
        for fate in self.fates.values():
            found += fate.problems
        if FAULTS[self.fault].is_outage and self.retries:
            found.append(f"{self.retries} retries spent in an outage")
        if not self.resumed:
            found.append("no task succeeded after the fault")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self) | {"problems": self.problems}


def run(name: str, pool: str, folder: Path, *, members: int = 1) -> Outcome:
    """Run one cell in an empty folder, on a replica set of so many members."""
    fault = FAULTS[name]
    with Rig.open(
        pool,
        folder,
        members=members,
        is_secured=fault.is_secured,
        settings=fault.settings,
        per_second=per_second(fault, pool),
    ) as rig:
        rig.start_worker(*fault.options)
        plain = rig.start_plain_client()
        rig.load.start()
        rig.wait_for_success()
        time.sleep(_BEFORE_SECONDS)
        fault.strike(rig, fault.seconds)
        time.sleep(_AFTER_SECONDS)
        rig.load.stop()
        settle(rig)
        return _judge(name, members, rig, plain)


def per_second(fault: Fault, pool: str) -> float:
    """Return how many tasks of each kind keep the slots busy, and are worked off soon after a long fault."""
    busy = 2 * PAUSE_SECONDS + float(fault.settings.get(TRANSACTION, 0)) / len(KINDS)
    return min(_BUSY * concurrency(pool) / busy / len(KINDS), _BACKLOG / fault.seconds)


def delays(moments: Sequence[float], done_after: Callable[[float], float | None]) -> list[float]:
    """Return the seconds from each moment to what was next done, unless the next moment came before that."""
    found = []
    for moment, following in zip_longest(moments, moments[1:], fillvalue=math.inf):
        done = done_after(moment)
        if done is not None and done <= following:
            found.append(round(done - moment, 3))
    return found


def _judge(name: str, members: int, rig: Rig, plain: PlainClient) -> Outcome:
    fault, accounts = FAULTS[name], rig.accounts().values()
    elected = rig.elected()
    moments = elected or [at for at in [rig.healed_at] if at is not None]
    return Outcome(
        fault=name,
        pool=rig.pool,
        members=members,
        fates=fates(rig),
        retries=sum(account.retries for account in accounts),
        requeues=sum(account.count(Happened.REQUEUED) for account in accounts),
        look=rig.look,
        elected=[round(at - max(one for one in rig.strikes if one < at), 3) for at in elected],
        resumed=delays(moments, rig.done_after),
        plain=delays(moments, plain.done_after),
        has_struck=re.search(fault.evidence, rig.text) is not None,
        labels={"mongo": rig.mongo.label, "redis": rig.redis.label},
    )
