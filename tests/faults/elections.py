"""The faults of a replica set of three: each strikes a rig under load, and ends with all members back."""

from __future__ import annotations

from collections.abc import Iterable

from ops.local.replica_set import ReplicaSet
from ops.local.servers import LocalServer
from tests.e2e.workers import wait_until
from tests.faults.rig import Rig

_BACK_SECONDS = 60.0

_TERM_SECONDS = 4.0
"""How long each primary stays before it steps down too."""
_INELIGIBLE_SECONDS = 5
"""Of three members one may always be elected, where the one before the last has been forgiven again."""


def step_down(rig: Rig, seconds: float) -> None:
    """One primary after the other steps down."""
    replica_set = _set_of(rig)
    for _ in range(max(1, round(seconds / _TERM_SECONDS))):
        rig.strike()
        old = replica_set.step_down(seconds=_INELIGIBLE_SECONDS)
        replica_set.primary(other_than=old)
        rig.last(min(seconds, _TERM_SECONDS))
    rig.heal()


def kill_primary(rig: Rig, seconds: float) -> None:
    """SIGKILL of the primary, and its return as a secondary."""
    replica_set = _set_of(rig)
    rig.strike()
    old = replica_set.primary()
    old.kill()
    rig.last(seconds)
    replica_set.primary(other_than=old)
    _bring_back(rig, [old])


def suspend_primary(rig: Rig, seconds: float) -> None:
    """SIGSTOP of the primary: another is elected, while connections to the old one stay open."""
    replica_set = _set_of(rig)
    old = replica_set.primary()
    rig.strike()
    old.suspend()
    try:
        rig.last(seconds)
    finally:
        old.resume()
    replica_set.wait_for_members()
    rig.heal()


def lose_majority(rig: Rig, seconds: float) -> None:
    """SIGKILL of both secondaries: no write has its majority, and after a while the primary steps down."""
    replica_set = _set_of(rig)
    primary = replica_set.primary()
    others = [member for member in replica_set.members if member is not primary]
    rig.strike()
    for member in others:
        member.kill()
    replica_set.wait_without_primary()
    rig.last(seconds)
    _bring_back(rig, others)


def lose_secondary(rig: Rig, seconds: float) -> None:
    """SIGKILL of a secondary, and its return: a majority remains."""
    replica_set = _set_of(rig)
    primary = replica_set.primary()
    lost = next(member for member in replica_set.members if member is not primary)
    rig.strike()
    lost.kill()
    rig.last(seconds)
    _bring_back(rig, [lost])


def partition(rig: Rig, seconds: float) -> None:
    """The primary and its secondaries refuse each other; the workers reach all of them."""
    _partition(rig, seconds, silently=False)


def partition_silently(rig: Rig, seconds: float) -> None:
    """They drop what they send to each other: a secondary goes on waiting for what the old primary sends."""
    _partition(rig, seconds, silently=True)


def _partition(rig: Rig, seconds: float, *, silently: bool) -> None:
    replica_set = _set_of(rig)
    old = replica_set.primary()
    rig.strike()
    rig.network.partition(old, silently=silently)
    try:
        replica_set.primary(other_than=old)
        rig.last(seconds)
    finally:
        rig.network.clear()
    replica_set.wait_for_members()
    rig.heal()


def _bring_back(rig: Rig, members: Iterable[LocalServer]) -> None:
    """Start members again; the fault is over once they take connections."""
    for member in members:
        member.launch()
        wait_until(member.listens, what=f"{member.name} that listens", seconds=_BACK_SECONDS)
    rig.heal()
    _set_of(rig).wait_for_members()


def _set_of(rig: Rig) -> ReplicaSet:
    if not isinstance(rig.mongo, ReplicaSet):
        raise TypeError("a fault of a replica set of three needs one")
    return rig.mongo
