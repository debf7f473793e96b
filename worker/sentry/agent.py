"""What one process tells Sentry: the composition of this package's parts."""

import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import events
from ..board import siblings
from ..board.row import PrivateRow
from ..errors import DeadLetteredError
from ..events import Said
from ..process.process import Mongo, current_slot
from ..settings import secret_values
from ..text import shorten
from ..tracking.work import current_work
from . import context, deaths, hooks, messages, sdk
from .crons.checkins import CheckIns
from .crons.windows import Windows
from .held_errors import Circumstances, Episode, Fate, Held, Shelf, fate
from .issues import ISSUES, OF_THE_OUTAGE, Issue, issue_of
from .outage_errors import is_explained
from .outages.ledger import Ledger
from .outages.sender import Own, Teller
from .outages.state import Terms
from .outbox import Letter, Outbox
from .scrub import Scrubber

if TYPE_CHECKING:
    from ..fleet.registry import Registry
    from ..settings.fields import Settings

logger = logging.getLogger("celery_pymongo.sentry")

Event = dict[str, Any]
Hint = Mapping[str, Any]

# Told by events of their own, or by the outage's.
_TOLD = OF_THE_OUTAGE | ISSUES.keys()
_SAID = 2000
# A password that is shorter would be found in every other word.
_SHORTEST = 4


class Agent:
    """Sentry in one process of a worker, or in beat. Does nothing at all where there is no SDK.

    It is made before the fork and begins anew in each child.
    """

    def __init__(self, mongo: Mongo, registry: "Registry", ledger: Ledger, windows: Windows) -> None:
        self._mongo = mongo
        self._registry = registry
        self._ledger = ledger
        self._scrubber = Scrubber()
        settings = mongo.settings
        self._check_ins = CheckIns(windows, settings, lambda: self._is_on and settings.sentry_crons)
        self._settings: Settings | None = None
        self._begin()

    def _begin(self) -> None:
        settings = self._mongo.settings
        self._is_on = False
        # Where nobody ticks nothing may be held: a prefork MAIN, beat.
        self._is_ticking = False
        self._episode = Episode()
        self._requeued = self._mongo.requeued
        self._shelf = Shelf(sdk.send)
        self._outbox = Outbox(self._registry, sdk.capture)
        self._teller = Teller(
            self._ledger,
            self._registry,
            Terms(settings.sentry_outage_seconds, settings.give_up_seconds),
            deployment=settings.deployment,
            send=sdk.capture,
            flight=self._mongo.flight,
        )

    # -- the process's life ------------------------------------------------------------------------

    def start(self, node: str) -> None:
        """Set the SDK up, where a DSN is set and the app has not; chain ours to what the app has set up."""
        sdk.start(self._mongo.settings)
        self._attach(node)

    def attach_beat(self, scheduler: Any) -> None:
        """Show in Crons what this scheduler sends."""
        self._check_ins.attach(scheduler)

    def enter(self, node: str) -> None:
        """Begin in a new process, or where the app may have set up the SDK since; learn the node's name."""
        sdk.after_fork()
        self._begin()
        self._attach(node)

    def tick(self, now: float, *, is_redis_away: bool) -> None:
        """Sort what is held, and do this process's part in telling of an outage. `now` is monotonic."""
        if not self._is_on:
            return
        self._is_ticking = True
        self._learn_credentials()
        own = self._own(now)
        self._episode = self._episode.seen(now, down_seconds=own.down_seconds)
        self._count(now)
        self._teller.tick(now, own, is_redis_away=is_redis_away)
        self._outbox.empty(now, may_ask=not is_redis_away)
        if not is_redis_away:
            self._check_ins.tick()

    def end(self) -> None:
        """Hand over and flush: the process ends. Bounded to `FLUSH_SECONDS` and some 50 ms."""
        if not self._is_on:
            return
        if self._is_ticking:
            self._is_ticking = False
            now = time.monotonic()
            self._count(now, is_last=True)
            self._outbox.empty(now, may_ask=False)
            self._check_ins.leave()
            sdk.end()
            # What this process was about to tell is told.
            self._teller.leave(self._own(now))
            return
        sdk.end()

    def _attach(self, node: str) -> None:
        client = sdk.client()
        if client is None:
            return
        self._learn_credentials()
        hooks.attach(client, self._scrubber, self)
        sdk.tag(self._mongo.settings.deployment, node)
        events.tell(self.hear)
        self._check_ins.connect()
        self._is_on = True

    def _learn_credentials(self) -> None:
        # They are read again when they were rotated; those before may stand in a text still.
        if self._settings is not self._mongo.settings:
            self._settings = self._mongo.settings
            self._scrubber.learn(_credentials(self._settings))

    # -- events on their way -----------------------------------------------------------------------

    def look(self, event: Event, hint: Hint) -> Event | None:
        """Leave out what something of ours tells better."""
        if hint.get(sdk.OURS):
            return event
        record = hint.get("log_record")
        if getattr(record, "event", None) in _TOLD or self._is_told(hint):
            return None
        board = self._mongo.board
        if record is not None and board is not None and board.main_pid == os.getpid():
            if deaths.is_duplicate(record):
                return None
            if deaths.is_time_limit(record):
                return deaths.of_time_limit(event, record, board, self._mongo.settings.deployment)
        return context.add(event, self._mongo)

    def hold(self, event: Event, hint: Hint) -> Event | None:
        """Count what an outage explains, or wait until it is known whether one does."""
        if hint.get(sdk.OURS) or not self._is_ticking:
            return event
        error = (hint.get("exc_info") or (None, None))[1]
        if error is None or not is_explained(error, self._servers()):
            return event
        now, work = time.monotonic(), current_work.get()
        task = "no task" if work is None else work.name
        began = now if work is None else work.started_at
        decided = fate(now, began, now, self._circumstances(now))
        if decided is Fate.COUNT:
            self._teller.count(errors={task: 1})
            return None
        is_kept = decided is Fate.KEEP and self._shelf.put(Held(now, began, task, event))
        return None if is_kept else event

    def _is_told(self, hint: Hint) -> bool:
        """Say whether a task ended as it did since its message went to the dead letters."""
        return isinstance((hint.get("exc_info") or (None, None))[1], DeadLetteredError)

    # -- what is said ------------------------------------------------------------------------------

    def hear(self, said: Said) -> None:
        """Tell what is worth a person, in the thread that says it or at the next tick. Never raises."""
        try:
            issue = issue_of(said)
            if issue is None or (issue.follows and self._is_near_an_outage()):
                return
            event = self._message(said, issue)
        except Exception as error:  # noqa: BLE001 - whoever says something must not fail of who hears it
            logger.debug("%s is not told: %s", said.event, type(error).__name__)
            return
        if issue.every and self._is_ticking:
            self._outbox.put(Letter(event, issue.every))
        else:
            sdk.capture(event)

    def _is_near_an_outage(self) -> bool:
        return not self._mongo.link.circuit.is_closed or self._teller.is_near(time.time())

    def _message(self, said: Said, issue: Issue) -> dict[str, Any]:
        mongo, fields = self._mongo, said.fields
        deployment = mongo.settings.deployment
        dead = fields.get("post_mortem") or {}
        told = {name: value for name, value in fields.items() if name not in ("post_mortem", "records")}
        event = messages.message(
            issue.title(fields),
            name=said.event,
            level=issue.level,
            fingerprint=(deployment, said.event, *issue.by(fields)),
            section=issue.section,
            context=context.of_process(mongo, time.monotonic()) | {"said": shorten(said.text, _SAID)},
            flight=dead["flight"] if dead else mongo.flight(),
        )
        event["contexts"]["what"] = told | ({"report": dead.get("report")} if dead else {})
        return event

    def _count(self, now: float, *, is_last: bool = False) -> None:
        requeued = self._mongo.requeued
        errors = self._shelf.sort(now, self._circumstances(now), is_last=is_last)
        self._teller.count(requeued=requeued - self._requeued, errors=errors)
        self._requeued = requeued

    def _circumstances(self, now: float) -> Circumstances:
        settings = self._mongo.settings
        # The circuit may have opened since the last tick.
        down = self._mongo.link.circuit.outage_seconds(now)
        episode = self._episode.seen(now, down_seconds=down) if down else self._episode
        echo_ms = settings.server_selection_timeout_ms + settings.socket_timeout_ms
        return Circumstances(
            episode, settings.sentry_outage_seconds, echo_ms / 1000, is_open=self._teller.is_open
        )

    def _servers(self) -> frozenset[str]:
        client = self._mongo.holder.client
        if client is None:
            return frozenset()
        described = client.topology_description.server_descriptions()
        return frozenset(f"{host}:{port}" for host, port in described)

    def _own(self, now: float) -> Own:
        mongo, pid = self._mongo, os.getpid()
        node, slot = mongo.place.node, current_slot()
        link = mongo.link
        # An instant after it opened, too, it is open.
        down = 0.0 if link.circuit.is_closed else max(link.circuit.outage_seconds(now), 1e-3)
        member = f"{node}/{slot}"
        if mongo.board is None or isinstance(mongo.row, PrivateRow):
            return Own(member, f"{member}:{pid}", down, leads=True, error=link.error)
        rows = mongo.board.rows
        return Own(
            member,
            f"{member}:{pid}",
            down,
            leads=siblings.leads(rows, slot, now=now),
            node_down=tuple(f"{node}/{row}" for row in siblings.cut_off(rows, now=now)),
            node_size=siblings.reporting(rows, now=now),
            error=link.error,
        )


def _credentials(settings: "Settings") -> list[str]:
    """Return what the settings hold that nobody may see. A DSN's key is public, and may be any word."""
    by_variable = secret_values.of_settings(settings)
    texts = {text for name, found in by_variable.items() if name != "SENTRY_DSN" for text in found}
    return sorted(text for text in texts if len(text) >= _SHORTEST)
