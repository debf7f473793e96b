"""All that can be known of the fleet, source by source: Redis, the broker, the nodes' MAINs, MongoDB.

`app.mongo.view` is what the watch and the command line look through. Each method asks one source, blocks as
that source may, and raises its errors; whoever calls decides what is asked at once and what is done without.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..board import process_identity
from ..broker import kind, queues
from ..broker.amqp_queues import AmqpQueues
from ..broker.queues import Queues, Waiting
from ..broker.shared_queues import SharedQueues, broker_of
from ..connection.client import own_version
from ..fleet import own_collections, snapshot, timeline
from ..fleet.beat_pulse import newest
from ..fleet.drill_notes import DrillNotes
from ..fleet.fleet import Fleet, assess
from ..fleet.history import collection_name
from ..pool.histogram import BOUNDS
from ..server import connections as server_connections
from ..server import info
from ..server.members import MemberProblem
from ..settings import schedule, secret_values
from ..store import records
from ..store.records import Read, Unreadable, UnreadableError
from . import audit, inquiry, layers, overview
from .overview import Found

if TYPE_CHECKING:
    from celery import Celery

    from ..delivery.stores import Stores
    from ..fleet.beat_pulse import Pulse
    from ..fleet.registry import Reading
    from ..process.process import Mongo

VERDICT = "verdict"
"""The document in the registry that holds what the last check found."""

_QUEUES, _BOUND, _SNAPSHOTS = 50, 200, 20


@dataclass(frozen=True)
class Sight:
    """What Redis tells at one moment; `before` is what the last check found.

    `refusal` is with which word Redis refuses to write: then nobody can report, and beat's tick is unknown.
    """

    reading: "Reading"
    buried: list[dict[str, Any]]
    before: dict[str, Any]
    pulse: "Pulse | None"
    unreadable: tuple[Unreadable, ...] = ()
    refusal: str | None = None


class View:
    """What can be asked, of one app's deployment; no I/O until it is."""

    def __init__(self, app: "Celery", mongo: "Mongo", stores: "Stores") -> None:
        self.app = app
        self.mongo = mongo
        self.stores = stores

    @cached_property
    def broker(self) -> str:
        """Which kind of broker the app's messages go by, see `broker.kind`; no I/O."""
        return kind.kind(self.app)

    @cached_property
    def _queues(self) -> Queues | AmqpQueues | None:
        return AmqpQueues(self.app) if self.broker == kind.AMQP else queues.of(self.app)

    # -- Redis -------------------------------------------------------------------------------------

    def look(self) -> Sight:
        """Return what Redis knows of the fleet: reports, post-mortems, the last verdict, beat's pulse."""
        registry = self.stores.registry
        refusal = registry.refusal()
        reading, buried, pulses = registry.fleet(), registry.postmortems(), self.stores.pulse.read_all()
        bad = [*reading.unreadable, *buried.unreadable, *pulses.unreadable]
        try:
            before = registry.load(records.VERDICT, VERDICT) or {}
        except UnreadableError as error:
            before = {}
            bad.append(error.record)
        if refusal is not None:
            # Silence says nothing of who cannot write.
            reading = replace(reading, silent_until=reading.now)
        pulse = newest(pulses.found) if refusal is None else None
        return Sight(reading, buried.found, before, pulse, tuple(bad), refusal)

    def waiting(self, fleet: Fleet | None, *, bound: bool = False) -> Waiting | None:
        """Return what waits in the queues that are known, consumed or under a closed gate; with `bound`, in
        those that anybody has ever declared.

        None where a broker of this kind does not say.
        """
        source = self._queues
        if source is None:
            return None
        declared = source.bound() if bound else ()
        reports = [process.report for process in fleet.present] if fleet else []
        names = queues.to_ask(reports, {*schedule.QUEUES, *self.app.amqp.queues})
        others = [name for name in declared if name not in names]
        return source.read((names + others)[: _BOUND if bound else _QUEUES])

    def records(self, nodes: Sequence[str]) -> Read[dict[str, dict[str, Any]]]:
        """Return what these nodes say of themselves, see `node_record`."""
        return self.stores.registry.nodes(nodes)

    def counters(self, nodes: Sequence[str]) -> Read[dict[str, dict[str, Any]]]:
        """Return what all processes of these nodes have counted, see `node_counters`."""
        return self.stores.registry.counters(nodes)

    @property
    def bucket_bounds(self) -> tuple[float, ...]:
        """The upper bounds of all histograms' buckets but the last, in seconds."""
        return BOUNDS

    @property
    def version(self) -> str:
        """The version of this package."""
        return own_version()

    def beats(self) -> Read[list["Pulse"]]:
        """Return the last pulse of each beat."""
        return self.stores.pulse.read_all()

    def unreadable(self, nodes: Sequence[str]) -> tuple[Unreadable, ...]:
        """Return the records that cannot be read, of the kinds that no other question is about."""
        bad: list[Unreadable] = list(self.counters(nodes).unreadable)
        if (shared := self.shared_queues()) is not None:
            shared.others(self.mongo.settings.deployment, bad)
        return (*bad, *audit.unreadable(self.stores, self.mongo, nodes))

    def redis(self) -> dict[str, Any]:
        """Return what Redis tells of its clients, memory and persistence."""
        return self.stores.registry.server()

    def dead_letters(self) -> int:
        """Return how many dead letters there are."""
        count: int = self.mongo.deliveries.letters.count()
        return count

    def past(
        self, fields: timeline.Fields, span: Callable[[float], tuple[float, float]], *, seconds: float
    ) -> timeline.Past:
        """Return what the fleet was in a span, from Redis and, where that is older, from MongoDB."""
        settings = self.mongo.settings
        question = timeline.Question(fields, span, settings.snapshot_interval_seconds, seconds)
        kept = self.kept if settings.history_days else None
        return timeline.read(self.stores.history, kept, question, drills=self.drill_notes)

    def shared_queues(self) -> SharedQueues | None:
        """Return who consumes which queue of the app's broker; None where that is no server."""
        settings = self.mongo.redis_settings
        place = broker_of(self.app.conf, settings)
        return None if place is None else SharedQueues(self.stores.client, settings.key_beside, place)

    def last_counts(self) -> dict[str, Any]:
        """Return what the server said of its connections at the last snapshot that has it, and when (`at`);
        empty where none has. One at its limit does not say how many are left: what it said before counts.
        """
        entries = self.stores.history.read(count=_SNAPSHOTS)
        told = [{**(entry.snapshot.get("server") or {}), "at": entry.at} for entry in entries]
        known = [server for server in told if server.get("current")]
        limits = [server["current"] + server["available"] for server in known if server.get("available")]
        if not known:
            return {}
        return known[-1] | {"available": limits[-1] - known[-1]["current"] if limits else None}

    def queues_of_others(self) -> Mapping[str, tuple[str, ...]]:
        """Return the queues of the app's broker that other deployments consume, with their names."""
        shared = self.shared_queues()
        return {} if shared is None else shared.others(self.mongo.settings.deployment)

    @property
    def drill_notes(self) -> DrillNotes:
        """What drills note of themselves."""
        return DrillNotes(self.stores.client, self.stores.key)

    # -- settings ----------------------------------------------------------------------------------

    def secrets(self) -> dict[str, set[str]]:
        """Return every text that nobody may be shown, by the setting that it is of: ours and Celery's."""
        celery = secret_values.of_values(dict(self.app.conf))
        return celery | secret_values.of_settings(self.mongo.settings)

    # -- the nodes ---------------------------------------------------------------------------------

    def assess(self, sight: Sight, *, must_ask: bool = True) -> Fleet:
        """Return the fleet that Redis shows; MAINs of silent processes are asked whether they live.

        Without `must_ask` nobody is asked, and what is long silent is lost after a minute.
        """
        here = process_identity.boot_id()
        is_alive = inquiry.inquire(sight.reading, self._rows if must_ask else lambda _nodes: {}, here=here)
        return assess(sight.reading, is_alive=is_alive, buried=sight.buried)

    def ask(self, command: str, *, nodes: Sequence[str], seconds: float, **arguments: Any) -> dict[str, Any]:
        """Return what these nodes' MAINs answer to a command of remote control, by node, in `seconds`."""
        return inquiry.ask(self.app, command, nodes, seconds=seconds, arguments=arguments)

    def _rows(self, nodes: list[str]) -> inquiry.Rows:
        try:
            return inquiry.ask_mains(self.app, nodes)
        except Exception:  # noqa: BLE001 - each transport has errors of its own; then nobody can tell
            return {}

    # -- MongoDB -----------------------------------------------------------------------------------

    def kept(self) -> Any:
        """Return the collection of the history that lasts; no I/O."""
        settings = self.mongo.settings
        return self.mongo.get_client()[settings.history_database][collection_name(settings.deployment)]

    def mongodb(self, seconds: float) -> info.Asked:
        """Ping MongoDB from here and ask what it is and who is connected, in at most `seconds`.

        Never raises for what MongoDB does.
        """
        settings = self.mongo.settings
        return info.ask(
            self.mongo.get_client(),
            prefix=self._prefix,
            own=self.mongo.appname,
            ping_seconds=settings.ping_timeout_seconds,
            seconds=seconds,
        )

    def collections(self, seconds: float) -> dict[str, Any]:
        """Return which of our collections MongoDB does not let us see, and which have no TTL index."""
        settings = self.mongo.settings
        kept = own_collections.expected(
            database=settings.mongodb_database,
            history=settings.history_database if settings.history_days else None,
            deployment=settings.deployment,
        )
        return own_collections.look(self.mongo.get_client(), kept, seconds=seconds)

    def connections(self, seconds: float) -> server_connections.Connections:
        """Return what the primary alone says of its connections: of a process's own client, which asks again
        and again, no secondary shall have a connection for that.
        """
        client, own = self.mongo.get_client(), self.mongo.appname
        return server_connections.read(client, prefix=self._prefix, own=own, timeout_seconds=seconds)

    @property
    def _prefix(self) -> str:
        """What the application names of this deployment begin with."""
        settings = self.mongo.settings
        return f"{settings.appname}/{settings.deployment}/"

    def snapshot(self, fleet: Fleet, connections: server_connections.Connections | None) -> dict[str, Any]:
        """Return the pools of the fleet, see `snapshot`; nothing is kept of it."""
        return snapshot.snapshot(fleet, deployment=self.mongo.settings.deployment, connections=connections)

    # -- all of it -----------------------------------------------------------------------------------

    def survey(self, **seen: Any) -> dict[str, Any]:
        """Return the verdict and the numbers behind it, of what was seen: the fields of `survey.Found`."""
        settings = self.mongo.settings
        found = Found(
            deployment=settings.deployment,
            database=settings.mongodb_database,
            write_concern=settings.effective_write_concern,
            **seen,
        )
        return overview.survey(found)

    def member_problems(self, asked: info.Asked, fleet: Fleet | None) -> list[MemberProblem]:
        """Return what is wrong with MongoDB's members as seen from here; the survey judges the same."""
        concern = self.mongo.settings.effective_write_concern
        return layers.member_problems(fleet, asked.topology, overview.HERE, write_concern=concern)
