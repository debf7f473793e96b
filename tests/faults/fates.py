"""What became of the tasks of a load: from the ledger, the dead letters and the documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.e2e.workers import wait_until
from tests.faults.ledger import Account, Happened
from tests.faults.load import KINDS
from tests.faults.rig import Rig

COLLECTIONS: Mapping[str, str] = {"put": "puts", "count": "counts", "add": "adds"}

_SETTLE_SECONDS = 150.0


@dataclass(frozen=True)
class Fate:
    """What became of the tasks of one kind; each is a number of tasks.

    `lost`: accepted by the broker, and neither an effect nor a dead letter tells of them. `doubled`: took
    effect more than once. `unknown`: in the dead letters, since they may have written and must not run twice.
    `failed`: ended with another error. `again`: began more than once.
    """

    kind: str
    accepted: int
    lost: int
    doubled: int
    unknown: int
    failed: int
    again: int

    @property
    def problems(self) -> list[str]:
        """What must not be."""
        found = [f"no {self.kind} was accepted"] * (not self.accepted)
        found += [f"{self.lost} {self.kind} lost"] * bool(self.lost)
        found += [f"{self.doubled} {self.kind} doubled"] * bool(self.doubled)
        found += [f"{self.failed} {self.kind} failed"] * bool(self.failed)
        if self.kind != "add":
            found += [f"{self.unknown} {self.kind} in the dead letters"] * bool(self.unknown)
        return found


def settle(rig: Rig) -> None:
    """Wait until each accepted task has ended and the broker holds no message.

    What has not ended by then counts as lost: the time is several times what a redelivery takes.
    """
    accepted = set().union(*rig.load.sent.accepted.values())

    def is_over() -> bool:
        ended = {one for one, account in rig.accounts().items() if _is_over(account)}
        # A process that was killed after it had stored a result, and before it told the ledger.
        return rig.waiting() == 0 and rig.have_results(accepted - ended)

    try:
        wait_until(is_over, what="the end of every task", seconds=_SETTLE_SECONDS)
    except TimeoutError:
        return


def fates(rig: Rig) -> dict[str, Fate]:
    """Count what became of each kind of task."""
    accounts, dead = rig.accounts(), rig.dead().keys()
    with rig.database() as client:
        database = client[rig.database_name]
        effects = {
            kind: {row["_id"]: row.get("n", 1) for row in database[COLLECTIONS[kind]].find()}
            for kind in KINDS
        }
    return {
        kind: fate(kind, rig.load.sent.accepted[kind], effects[kind], accounts=accounts, dead=dead)
        for kind in KINDS
    }


def fate(
    kind: str,
    accepted: set[str],
    effects: Mapping[str, int],
    *,
    accounts: Mapping[str, Account],
    dead: Iterable[str],
) -> Fate:
    """Count what became of the `accepted` tasks; `effects` says how often each task took effect."""
    letters = accepted & set(dead)
    failed = {one for one in accepted - letters if one in accounts and _has_failed(accounts[one])}
    return Fate(
        kind=kind,
        accepted=len(accepted),
        lost=len(accepted - effects.keys() - letters - failed),
        # A message that may not have reached the broker must not count twice either.
        doubled=sum(number > 1 for number in effects.values()),
        unknown=len(letters),
        failed=len(failed),
        again=sum(accounts[one].started > 1 for one in accepted if one in accounts),
    )


def _has_failed(account: Account) -> bool:
    return bool(account.count(Happened.FAILED)) and not account.count(Happened.SUCCEEDED)


def _is_over(account: Account) -> bool:
    return bool(account.count(Happened.SUCCEEDED) or account.count(Happened.FAILED))
