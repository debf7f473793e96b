"""The fleet's own eyes: gathers what is known, has it judged, and keeps what was found."""

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from .. import events
from ..board import board
from ..connection.circuit import CircuitState
from ..events import Event
from ..fleet.fleet import assess
from ..fleet.snapshot import aggregate, coverage, snapshot
from ..server.pings import Verdict
from ..store import redis_errors
from . import layers, silent_nodes, verdicts
from .facts import VERDICT, View
from .verdicts import Facts, Judgement

if TYPE_CHECKING:
    pass

T = TypeVar("T")
logger = logging.getLogger("celery_pymongo.health")

# Held by whoever checked last, for as long as that check is worth something.
_CHECKED = "checked"
# Long enough for all who find the same change at once.
_CHANGE_SECONDS = 60.0


class Watch:
    """Checks and snapshots of the whole fleet, by whichever process is asked: `app.mongo.watch`.

    While Redis is away a check is of this process alone and a snapshot of its own pool; the rest is unknown.
    """

    def __init__(self, view: View, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._view = view
        self._mongo = view.mongo
        self._registry = view.stores.registry
        self._history = view.stores.history
        self._clock = clock
        self._alone: dict[str, Any] = {}
        self._look_at = float("-inf")

    def check(self, *, is_sent: bool = False) -> dict[str, Any]:
        """Ping, read what the fleet reports, and return the verdict with its reasons and since when it holds.

        `is_sent`: a message asks for it, and it is kept that one has arrived. Takes a few seconds at most,
        whatever is away. A change of verdict is logged once in the fleet.
        """
        ping = self._mongo.check()
        topology, concern = ping.get("topology"), self._mongo.settings.effective_write_concern
        own = f"{ping['node']}/{ping['slot']}"
        is_cut_off = ping["circuit"] != CircuitState.CLOSED
        try:
            known = self._view.look()
        except Exception as error:  # noqa: BLE001 - whatever it is, monitoring goes on
            alone = Facts(own=own, ping=ping, topology=topology, write_concern=concern)
            return ping | self._conclude_alone(_unseen(verdicts.judge(alone), error), is_cut_off=is_cut_off)
        fleet = self._view.assess(known)
        lasting = verdicts.since(fleet, known.before.get("lasting", {}), known.unreadable)
        waiting = _tried(lambda: self._view.waiting(fleet))
        facts = Facts(
            own=own,
            ping=ping,
            fleet=fleet,
            queues=None if waiting is None else waiting.queues,
            beat=None if known.pulse is None else known.pulse.silence,
            topology=topology,
            write_concern=concern,
            since=lasting,
            unreadable=(*known.unreadable, *(() if waiting is None else waiting.unreadable)),
            refusal=known.refusal,
        )
        judgement = verdicts.judge(facts)
        is_cut_off = is_cut_off or any(map(layers.is_cut_off, fleet.present))
        if known.refusal is not None:
            # What is found cannot be kept: whoever checks says it by himself.
            found = self._conclude_alone(judgement, is_cut_off=is_cut_off)
            return ping | found | {"fleet": coverage(fleet)}
        found = _settled(judgement, known.before, fleet.at)
        arrived_at = round(fleet.at, 3) if is_sent else known.before.get("arrived_at")
        kept = found | {"lasting": lasting, "cut_off": is_cut_off, "arrived_at": arrived_at}
        _tried(lambda: self._keep(kept, known.before))
        return ping | found | {"fleet": coverage(fleet)}

    def run_if_stale(self) -> bool:
        """Check if nobody has for two intervals: all slots may be busy, or no beat run.

        For each tick of each process: it asks Redis once per interval or two, and one process is enough.
        Never raises.
        """
        now, interval = self._clock(), self._mongo.settings.health_interval_seconds
        if now < self._look_at:
            return False
        self._look_at = now + interval * random.uniform(1, 2)  # noqa: S311 - spreads load, keeps no secret
        is_mine = _tried(lambda: self._registry.lead(_CHECKED, 2 * interval))
        return bool(is_mine and _tried(self.check))

    def gates(self) -> dict[str, str]:
        """Return the queues that a node leaves alone, and why (outage, operator); none if Redis is away."""
        known = _tried(self._view.look)
        return {} if known is None else layers.gates(assess(known.reading, is_alive=lambda _seen: None))

    def snapshot(self) -> dict[str, Any]:
        """Return the fleet's pools (see `snapshot`), keep them in the history, and bury the lost."""
        process = self._mongo.pool()
        known = _tried(self._view.look)
        if known is None:
            return {"deployment": process["deployment"], "coverage": None, "process": process}
        fleet = self._view.assess(known)
        _tried(lambda: silent_nodes.bury(fleet, self._registry.bury, self._leftovers))
        connections = self._view.connections(self._mongo.settings.ping_timeout_seconds)
        document = snapshot(fleet, deployment=process["deployment"], connections=connections)
        _tried(lambda: self._remember(document))
        return document | {"process": process}

    # -- what is kept ------------------------------------------------------------------------------

    def _leftovers(self) -> list[board.Board]:
        return board.leftovers(self._mongo.settings.deployment)

    def _conclude_alone(self, judgement: Judgement, *, is_cut_off: bool) -> dict[str, Any]:
        before, found = self._alone, _settled(judgement, self._alone, time.time())
        self._alone = found | {"cut_off": is_cut_off}
        if _is_change(found, before):
            _say_change(self._alone, before)
        return found | {"fleet": None}

    def _keep(self, found: dict[str, Any], before: Mapping[str, Any]) -> None:
        # What began at one moment ends once, however many find that it did.
        is_new = _is_change(found, before)
        if is_new and self._registry.lead(f"change-of-{before.get('since')}", _CHANGE_SECONDS):
            _say_change(found, before)
        self._registry.store(VERDICT, found)
        self._registry.hold(_CHECKED, 2 * self._mongo.settings.health_interval_seconds)

    def _remember(self, document: Mapping[str, Any]) -> None:
        settings = self._mongo.settings
        # Two beats, or a person who asks, make no second entry.
        if self._registry.lead("history", settings.snapshot_interval_seconds / 2):
            self._history.append(aggregate(document))
        self._history.backfill(self._view.kept())


def _unseen(judgement: Judgement, error: Exception) -> Judgement:
    """Return what a process finds alone. Where Redis is away that is its verdict, as far as it goes; where it
    answered and told nothing, nobody knows that all is well.
    """
    if redis_errors.is_away(error):
        return judgement
    reason = f"Redis {redis_errors.what_it_does(error)}: nothing is known of the fleet"
    verdict = Verdict.UNKNOWN if judgement.verdict is Verdict.OK else judgement.verdict
    return replace(judgement, verdict=verdict, reasons=[*judgement.reasons, reason])


def _settled(judgement: Judgement, before: Mapping[str, Any], now: float) -> dict[str, Any]:
    since = verdicts.settle(before, judgement.verdict, now)
    return judgement.to_dict() | {"since": round(since, 3), "judged_at": round(now, 3)}


def _is_change(found: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return bool(found["verdict"] != before.get("verdict", Verdict.UNKNOWN))


def _say_change(found: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    verdict, reasons = found["verdict"], found["reasons"]
    level = logging.INFO if verdict == Verdict.OK else logging.WARNING
    if _is_of_outage(found, before):
        level = logging.DEBUG
    args = (before.get("verdict", Verdict.UNKNOWN), verdict, "; ".join(reasons) or "all well")
    fields = {"verdict": verdict, "reasons": reasons, "layers": found["layers"]}
    events.say(logger, level, Event.HEALTH_CHANGED, "%s -> %s (%s)", *args, **fields)


def _is_of_outage(found: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Say whether an outage explains all that was, or is, wrong: each node has told of it."""
    wrong = [one for one in (found, before) if one.get("verdict") in (Verdict.DEGRADED, Verdict.DOWN)]
    return bool(wrong) and all(
        one.get("cut_off") and one.get("layers", {}).get("reachability") == one["verdict"] for one in wrong
    )


def _tried(ask: Callable[[], T]) -> T | None:
    """Return what is found out, or None where Redis, the broker or whatever else does not answer."""
    try:
        return ask()
    except Exception as error:  # noqa: BLE001 - each transport has errors of its own, and monitoring goes on
        # The class alone: texts name hosts. That Redis is away is told by who reports there.
        logger.debug("not known: %s", type(error).__name__)
        return None
