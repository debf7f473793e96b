"""What a process shows of itself: on its node's board at once, in the registry while Redis is there."""

import json
import logging
import os
import time
from typing import Any

from redis import RedisError

from .. import events
from ..board import dumps, memory, pauses, post_mortem, report, siblings
from ..board.board import leftovers
from ..board.post_mortem import PostMortem
from ..board.process_identity import boot_id, born
from ..board.row import Command, RowState
from ..connection.circuit import CircuitState
from ..connection.client import own_version
from ..events import Event
from ..fleet.registry import PAUSED
from ..server import pings
from ..store import records
from ..store.records import UnreadableError
from ..text import shorten
from ..tracking.guard import sightings
from . import findings, node_counters
from .attribution import Attribution
from .denials import Denials
from .exhaustion import Exhaustion
from .held_time import HeldTime
from .process import Mongo, current_slot
from .publisher import Publisher

logger = logging.getLogger("celery_pymongo.monitor")

# Reading it costs milliseconds in a big process.
_MEMORY_SECONDS = 30.0
_FINDINGS = ("long_holds", "leaks", "false_alarms")
# Of the place where a client was made: the end of it, which has the file's name.
_SITE = 100
# A Redis that lost its memory has the node's record again after so long.
_RECORD_SECONDS = 300.0
# As often as metrics are read where they are read often.
_COUNTERS_SECONDS = 10.0
# How long a report says when an outage ended: a snapshot has taken it over by then.
_RECOVERED_SECONDS = 130.0


class Presence:
    """The monitor's tick of one process, from its start to its goodbye. One thread calls it."""

    def __init__(
        self,
        mongo: Mongo,
        attribution: Attribution,
        publisher: Publisher,
        denials: Denials | None = None,
    ) -> None:
        self._mongo = mongo
        self._attribution = attribution
        self._denials = denials or Denials()
        self._held = HeldTime()
        self._publisher = publisher
        self._dumps = dumps.Dumps()
        self._exhaustion = Exhaustion()
        self._uss: int | None = None
        self._uss_due = 0.0
        self._dead: set[tuple[int, int]] = set()
        self._deaths: list[PostMortem] = []
        pid = os.getpid()
        self._origin = report.Origin(
            node=mongo.place.node,
            slot=current_slot(),
            pid=pid,
            host=boot_id(),
            born=born(pid),
            started=mongo.row.read().started_at or time.time(),
            version=own_version(),
            kind=mongo.place.kind,
            appname=mongo.appname,
        )
        self._is_first = True
        self._is_lowest = False
        self._has_asked_redis = False
        self._record, self._record_due = "", 0.0
        self._noted, self._noted_due = "", 0.0
        self._counters_due = 0.0
        if mongo.predecessor is not None:
            self._found_dead(self._origin.slot, mongo.predecessor.row, mongo.predecessor.flight)

    @property
    def is_redis_away(self) -> bool:
        """Whether Redis did not take the last report."""
        return self._publisher.is_away

    def tick(self, now: float) -> None:
        """Look at the pool, obey MAIN, show the report. `now` is monotonic seconds."""
        if self._is_first and self._origin.slot == 0:
            self._find_leftovers()
        self._is_first = False
        self._look(now)
        self._obey()
        self._show(now)
        self._tell_deaths()

    def goodbye(self, now: float) -> None:
        """Take the process out of the registry: it ends as it should. Bounded to some 25 ms."""
        self._publisher.goodbye(self._origin.member)
        mongo = self._mongo
        has_failed, is_open = mongo.monitor.totals(now).rate["failed"] > 0, not mongo.link.circuit.is_closed
        if why := self._dumps.reason_at_end(now, has_failed=has_failed, is_open=is_open):
            dumps.say(mongo.flight(), why)

    def _look(self, now: float) -> None:
        mongo = self._mongo
        client = mongo.holder.client
        if client is not None and mongo.monitor.tick(client, now).adapter_gone:
            events.say(
                logger, logging.WARNING, Event.POOL_DRIFT, "PyMongo has no pool counters to compare with"
            )
        findings.say(mongo.suspicion.tick(now), logger)

    def _obey(self) -> None:
        taken = self._mongo.row.taken()
        if Command.RESET in taken:
            self._mongo.pop_stats()
        if Command.PING in taken:
            self._mongo.link.ping_as_asked()
        if Command.PROBE in taken or Command.REPLACE in taken:
            # All processes of a fleet may be asked at once: each does it at a moment of its own.
            self._mongo.link.order(replaces=Command.REPLACE in taken)

    def _show(self, now: float) -> None:
        busy = self._look_at_siblings(now)
        told = report.build(self._origin, self._moment(now, busy))
        text = report.encode(told)
        self._mongo.row.write_report(text)
        self._mongo.write_counters(now)
        published = self._publisher.publish(now, self._origin.member, text)
        if published is not None and published.previous is not None:
            self._judge_previous(published.previous)
        if published is not None and self._is_lowest:
            self._carry_pauses(published.now)
            self._introduce_node(now)
            self._count_node(now)
            self._note_queues(now, published.now)
            self._doubt_redis()
        self._exhaustion.look(now, told, self._mongo.monitor.tasks)
        is_open = told["circuit"] == CircuitState.OPEN
        if why := self._dumps.reason(now, timeouts=told["count"]["timeouts"], is_open=is_open):
            dumps.say(self._mongo.flight(), why, is_open=is_open)

    def _doubt_redis(self) -> None:
        """Say once per node, here and not in MAIN, which may not wait for Redis, what it may lose."""
        if not self._has_asked_redis:
            self._has_asked_redis = True
            board, is_broker = self._mongo.board, self._mongo.is_redis_the_broker
            name = f"doubts:{self._origin.node}:{board and board.main_pid}"
            for doubt in self._publisher.doubts(name, is_broker=is_broker):
                events.say(logger, logging.WARNING, Event.REDIS_DOUBTFUL, "%s", doubt)

    def _introduce_node(self, now: float) -> None:
        """Take what MAIN wrote of its node to Redis: at first, when it changed, and now and then."""
        board = self._mongo.board
        text = "" if board is None else board.record
        if text and (text != self._record or now >= self._record_due):
            self._publisher.introduce(self._origin.node, text)
            self._record, self._record_due = text, now + _RECORD_SECONDS

    def _count_node(self, now: float) -> None:
        """Take what all processes of the node have counted to Redis, from where metrics are made."""
        board = self._mongo.board
        if board is not None and now >= self._counters_due:
            self._counters_due = now + _COUNTERS_SECONDS
            self._publisher.count(board.node, node_counters.document(board, self._origin.kind, now))

    def _note_queues(self, now: float, at: float) -> None:
        """Take what the node consumes to where other deployments see it, at the same times; `at` is unix
        seconds by Redis' clock.
        """
        board, view = self._mongo.board, self._mongo.view
        text = "" if board is None else board.queues
        if view is None or not text or (text == self._noted and now < self._noted_due):
            return
        self._noted, self._noted_due = text, now + _RECORD_SECONDS
        try:
            if (shared := view.shared_queues()) is not None:
                shared.note(self._mongo.settings.deployment, json.loads(text), now=at)
        except (RedisError, OSError) as error:
            # Access rules may keep it to its deployment's own keys.
            logger.debug("what the node consumes was not noted: %s", type(error).__name__)

    def _carry_pauses(self, now: float) -> None:
        """Take what MAIN was told to pause to Redis, and tell MAIN what stands there."""
        board = self._mongo.board
        if board is None:
            return
        orders, known = pauses.Orders.read(board.orders), pauses.Known.read(board.paused)
        for_all = self._carried(PAUSED, orders, known, now=now)
        if known is None and for_all is None:
            return
        of_node = self._carried(f"{PAUSED}:{self._origin.node}", orders, for_all or known, now=now)
        # What one of them cannot take, or does not say, stands on the board until it does.
        found = of_node or for_all
        if found is not None and found != known:
            board.paused = found.text()

    def _carried(
        self, name: str, orders: pauses.Orders, known: pauses.Known | None, *, now: float
    ) -> pauses.Known | None:
        """Take what is known to one of Redis' documents, for all nodes or for this one, and what stands there
        to what is known; None where Redis fails.
        """
        everywhere, found = name == PAUSED, known

        def change(stored: dict[str, Any]) -> dict[str, Any]:
            nonlocal found
            said = {pauses.key(q, everywhere=everywhere): word for q, word in pauses.said(stored).items()}
            found = pauses.carry(orders, known, said, now=now)
            own = {n: word for n, word in found.said.items() if pauses.is_everywhere(n) is everywhere}
            return stored | {pauses.queue_of(n): word for n, word in own.items()}

        return None if self._publisher.amend(records.PAUSED, name, change) is None else found

    def _moment(self, now: float, busy: list[int]) -> report.Moment:
        mongo, link = self._mongo, self._mongo.link
        board = mongo.board
        succeeded_at = link.succeeded_at
        return report.Moment(
            at=round(time.time(), 3),
            slots=1 if board is None else board.expected,
            queues=[] if board is None else json.loads(board.queues or "[]"),
            task=self._task(now),
            circuit=str(link.circuit.state),
            outage=round(link.circuit.outage_seconds(now), 1),
            ok=None if succeeded_at is None else round(now - succeeded_at, 1),
            error=None if link.error is None else shorten(link.error, report.ERROR_LENGTH),
            server=link.server,
            uss=self._memory(now),
            totals=mongo.monitor.totals(now).to_dict(),
            counts=self._counts(),
            busy=busy,
            done=report.done(now, ping=link.pinged, reconnect=link.reconnected),
            gate={} if board is None else {queue: why for queue, (why, _) in board.gate.items()},
            trouble=self._trouble(now),
            cluster=pings.cluster(mongo.holder.client),
        )

    def _trouble(self, now: float) -> dict[str, Any]:
        mongo, link = self._mongo, self._mongo.link
        foreign = sightings(own_too=False)
        overloaded_at, hung = link.overloaded_at, link.hung_seconds(now)
        recovered = link.circuit.closed_seconds(now)
        return {
            "cause": None if link.circuit.is_closed else link.error_class,
            "hung": None if hung is None else round(hung, 1),
            "recovered": None if recovered is None or recovered > _RECOVERED_SECONDS else round(recovered, 1),
            "held": mongo.suspicion.held(now),
            "most_held": self._held.report(now, mongo.monitor.tasks, list(mongo.monitor.holders.values())),
            "leak": mongo.suspicion.left(),
            "denied": self._denials.report(now),
            "refused": self._denials.report_refused(now),
            "made": mongo.guard.most_made(),
            "foreign": shorten(foreign[0].site, _SITE, keep_end=True) if foreign else None,
            "overload": None if overloaded_at is None else round(now - overloaded_at, 1),
        }

    def _counts(self) -> dict[str, int]:
        mongo, board = self._mongo, self._mongo.board
        # One process tells what its node counted, so that sums are right.
        expired = board.expired if board is not None and self._is_lowest else 0
        found = {name: getattr(mongo.suspicion, name) for name in _FINDINGS}
        return found | {"requeued": mongo.requeued, "expired": expired, "overloads": mongo.link.overloads}

    def _task(self, now: float) -> dict[str, Any] | None:
        works = self._attribution.running()
        if not works:
            return None
        seconds = round(now - works[0].started_at, 1)
        return {
            "name": shorten(works[0].name, 80),
            "id": works[0].id,
            "seconds": seconds,
            "running": len(works),
        }

    def _memory(self, now: float) -> int | None:
        if now >= self._uss_due:
            self._uss, self._uss_due = memory.unique_set_size(), now + _MEMORY_SECONDS
        return self._uss

    def _look_at_siblings(self, now: float) -> list[int]:
        board = self._mongo.board
        if board is None:
            return []
        seen = siblings.look(board.rows, self._origin.slot, now=now)
        self._is_lowest = seen.is_first
        if seen.is_first:
            for slot, row, state in seen.dead:
                self._found_dead(slot, state, row.recorder.read())
        return seen.busy

    def _judge_previous(self, previous: bytes) -> None:
        """Tell what became of a process of another host, or container, that had this slot without a goodbye.

        One of our own host left its board.
        """
        try:
            stood = records.REPORT.read(previous, self._origin.member)
        except UnreadableError as error:
            logger.debug("who had the slot before is unknown: %s", error)
            return
        if stood.get("host") != self._origin.host:
            own = {"node": self._origin.node, "slot": self._origin.slot}
            self._deaths.append(post_mortem.of_report({"started": 0.0} | stood | own))

    def _find_leftovers(self) -> None:
        """Tell what became of the processes of this node's MAIN before, where it was killed."""
        for board in leftovers(self._mongo.settings.deployment):
            if board.node == self._origin.node:
                for slot, row in enumerate(board.rows):
                    state = row.read()
                    if state.state == "open" and not state.is_alive:
                        self._found_dead(slot, state, row.recorder.read())
                board.unlink()

    def _found_dead(self, slot: int, state: RowState, records: list[dict[str, Any]]) -> None:
        if (slot, state.pid) not in self._dead:
            self._dead.add((slot, state.pid))
            self._deaths.append(_post_mortem(self._origin.node, slot, state, records))

    def _tell_deaths(self) -> None:
        while self._deaths:
            found = self._deaths.pop()
            if self._publisher.bury(found.to_dict()):
                post_mortem.say(found)


def _post_mortem(node: str, slot: int, state: RowState, records: list[dict[str, Any]]) -> PostMortem:
    work, ticked_at = state.work, state.ticked_at
    # The task that the row names is the last one; that of the report may be two seconds older.
    end = max(ticked_at or 0.0, work.since if work else 0.0)
    seconds = 0.0 if work is None else round(end - work.since, 1)
    return PostMortem(
        node=node,
        slot=slot,
        pid=state.pid,
        started=state.started_at,
        seen=None if ticked_at is None else round(time.time() - time.monotonic() + ticked_at, 3),
        task=None if work is None else {"name": work.name, "id": work.id, "seconds": seconds},
        report=state.report,
        flight=records,
    )
