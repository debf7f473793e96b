"""What one process has of MongoDB: the composition root, and the only module state of the project."""

import atexit
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import pymongo
from pymongo.errors import PyMongoError
from redis import RedisError

from .. import events
from ..board import counters, memory
from ..board.board import Board
from ..board.row import Predecessor, PrivateRow, Row
from ..board.siblings import Company as Siblings
from ..board.siblings import moved
from ..connection import background
from ..connection.circuit import Change
from ..connection.client import Identity, build_client
from ..connection.link import Link
from ..connection.node_peers import Alone, Company
from ..errors import ClientInMainError, SettingsError, TwoCopiesError
from ..events import Event
from ..log_text import Lines
from ..mongo import calls
from ..mongo.backoff import Backoff
from ..mongo.holder import Client, ClientHolder
from ..mongo.reasons import summary
from ..pool.adapter import keep_open, read_gauges
from ..pool.missing_names import lacking, looks_up_when_made
from ..pool.monitor import PoolMonitor
from ..pool.suspicion import Suspicion
from ..settings import client_options, schedule, uris
from ..settings.fields import Settings, load_settings, settings_warnings, unused_by_an_app
from ..store import records, redis_errors
from ..store.app_redis import address
from ..store.records import Unreadable, UnreadableError
from ..text import count
from ..tracking.flight import Kind
from ..tracking.guard import ClientGuard, Sighting, sightings
from ..tracking.makers import instead
from ..tracking.work import Work

T = TypeVar("T")
Keeper = TypeVar("Keeper", bound=Callable[[Client], object])
logger = logging.getLogger("celery_pymongo.client")

# How soon a new primary has the pool's minimum.
_KEEP_SECONDS = 10.0

# The task's own end, in monotonic seconds; set by MongoTask around each run.
task_ends_at: ContextVar[float | None] = ContextVar("task_ends_at", default=None)


@dataclass(frozen=True)
class Place:
    """Where this process stands: its node, how many tasks it runs at a time, the name of its pool."""

    node: str
    concurrency: int = 1
    kind: str = "none"


class Mongo:
    """The client of this process and all that keeps it healthy. `app.mongo` is one of these.

    `reload` reads the settings again, so that rotated credentials take effect without a restart.
    """

    def __init__(self, settings: Settings, *, reload: Callable[[], Settings] | None = None) -> None:
        self.settings = settings
        # The same, with the Redis of the app where REDIS_URL is not set: install(app) knows that later.
        self.redis_settings = settings
        # False where nobody names a Redis: then nothing is known of the fleet.
        self.has_redis = True
        self.is_redis_the_broker = True
        self.place = Place(node=socket.gethostname())
        # Set by install(app): the base class of tasks, which lives a layer above.
        self.Task: type[Any] = object
        # Tasks of this process that went back to the broker since MongoDB was away.
        self.requeued = 0
        # Set by install(app); see shared().
        self.is_shared = False
        # Set by the service, whose Celery settings are ours: it does not start with risky ones.
        self.is_service = False
        # Set by install(app): what can be known of the fleet, and who looks; both live a layer above.
        self.view: Any = None
        self.watch: Any = None
        # Set by install(app): what drills need of this process, which lives a layer above.
        self.drills: Any = None
        # Options of the client that win over all others; the process that a drill starts has some.
        self.options: Mapping[str, Any] = {}
        # Set by install(app): who knows whether a message may run, which lives a layer above.
        self.deliveries: Any = None
        # Set by install(app): who sends a copy of a message where it must not go back; a layer above, too.
        self.copies: Any = None
        # Set in MAIN: Celery's consumer of messages.
        self.consumer: Any = None
        # Set by install(app): whether a task of the app must not run twice, so that its writes are counted;
        # and the works that run now.
        self.counts_writes: Callable[[], bool] = lambda: False
        self.works: Callable[[], list[Work]] = list
        self.has_write_counter = False
        # Set where a reporter runs, which calls keep_open(): the driver keeps no minimum then.
        self.keeps_minimum = False
        # Made by MAIN before its pool; a process outside a worker has none.
        self.board: Board | None = None
        # The node's hard and soft limit of a task, in seconds: its command line may set them.
        self.time_limits: tuple[float | None, float | None] = (None, None)
        self._reload = reload
        self._main_pid: int | None = None
        self._pid: int | None = None
        self._told: set[str] = set()
        # What the present client was made of, and why the settings could not be read again.
        self._made_of: tuple[Any, ...] = client_options.made_of(settings)
        self._refused = ""
        self._databases: dict[str, tuple[Any, Any]] = {}
        # What tests have in place of the settings' database, the last one in force.
        self._test_databases: list[str] = []
        self.holder = ClientHolder(self._build, _tell_of_replacement)
        self.guard = ClientGuard(lambda: self.holder.client is not None, self._say_foreign)
        self._begin()

    def _begin(self, opened_by: int | None = None) -> None:
        # What a fork inherits of these is the parent's story.
        settings = self.settings
        self.row, self.predecessor = self._take_row(opened_by)
        self.monitor = PoolMonitor(record=self._record, commands=settings.command_statistics)
        self.suspicion = Suspicion(self.monitor, limit=settings.long_hold_seconds, record=self._record)
        self.backoff = Backoff(settings.backoff_base_seconds, settings.backoff_cap_seconds)
        self.link = Link(
            self.holder,
            self.backoff,
            timeout_seconds=settings.ping_timeout_seconds,
            renew=self._settings_changed,
            on_change=self._circuit_changed,
            record=self._record,
            company=self._company(),
            waits=self.monitor.oldest,
            give_up_seconds=settings.give_up_seconds,
        )

    @property
    def expiries(self) -> Mapping[str, float]:
        """Return by task the seconds after which a message of it tells nothing any more."""
        return schedule.expiries(self.settings)

    def leads(self) -> bool:
        """Say whether this process speaks for its node of what each of them meets."""
        return self._company().leads()

    def _company(self) -> Company:
        if self.board is None or isinstance(self.row, PrivateRow):
            return Alone()
        return Siblings(self.board.rows, current_slot())

    def _take_row(self, opened_by: int | None) -> tuple[Row | PrivateRow, Predecessor | None]:
        """Return this process's row on its node's board, and who had it before and died without a word.

        `opened_by` is the process that had a client before, as a fork inherits it.
        """
        slot = current_slot()
        if self.board is None or slot >= len(self.board.rows) or not self._has_slot(self.board, opened_by):
            return PrivateRow(), None
        row = self.board.rows[slot]
        return row, row.begin(os.getpid())

    def _has_slot(self, board: Board, opened_by: int | None) -> bool:
        """Say whether this process runs tasks for its node: MAIN, or a child of its pool.

        What a task forks has its parent's index in the pool, or one of a pool of its own; what else MAIN
        forks, as an embedded beat, has none.
        """
        if os.getpid() == board.main_pid:
            return self._main_pid is None
        is_of_main = os.getppid() == board.main_pid and opened_by in (None, board.main_pid)
        return is_of_main and _pool_index() is not None

    # -- use ---------------------------------------------------------------------------------------

    def get_client(self) -> Client:
        """Return the one client of this process, opened on first use; no I/O.

        Raises ClientInMainError in a prefork worker's main process, which must not hold one.
        """
        if self._main_pid == os.getpid():
            raise ClientInMainError(self.place.node)
        client: Client = self.holder.get()
        return client

    def get_database(self, name: str | None = None) -> Any:
        """Return a database of the one client: `name`, or the one that the settings name."""
        wanted = name or (self._test_databases or [self.settings.mongodb_database])[-1]
        client = self.get_client()
        # PyMongo makes a new object each time, which costs as much as all else that a task of ours adds.
        owner, database = self._databases.get(wanted, (None, None))
        if owner is not client:
            database = client[wanted]
            self._databases[wanted] = (client, database)
        return database

    @contextmanager
    def use_client(self, client: Any, *, database: str | None = None) -> Iterator[Any]:
        """Hand out another client, or a fake, while a `with` block runs: for tests of tasks.

        `database` is the name of what `self.db` is meanwhile; not given: of what the settings name.
        """
        before = list(self._test_databases)
        self._test_databases += [] if database is None else [database]
        try:
            with self.holder.use(client):
                yield client
        finally:
            self._test_databases[:] = before

    def call(self, operation: Callable[[], T], *, attempts: int = 3, deadline: float | None = None) -> T:
        """Run a database operation, tried again on transient errors; see `mongo.calls.call`.

        `deadline` is seconds for all attempts together. Inside a task the task's own time limit counts.
        """

        def observe(error: BaseException) -> None:
            # Asked for late: the operation may be the first to open the client, which makes the link anew.
            self.link.observe(error)

        limits = self.limits(deadline)
        return calls.call(operation, attempts=attempts, limits=limits, observe=observe)

    def limits(self, deadline: float | None = None) -> calls.Limits:
        """Return how long an operation that starts now may take.

        The settings' own deadline of an operation is the client's `timeoutMS`: `pymongo.timeout()` around a
        task's body would make it the deadline of all its operations together.
        """
        ends_at = task_ends_at.get()
        settings = self.settings
        driver_ms = (
            settings.server_selection_timeout_ms + settings.wait_queue_timeout_ms + settings.socket_timeout_ms
        )
        return calls.Limits(
            asked=deadline,
            left=None if ends_at is None else ends_at - time.monotonic(),
            driver=settings.operation_deadline_seconds or driver_ms / 1000,
        )

    @staticmethod
    def reason(error: BaseException) -> str:
        """Return what a person may be told of an error of the driver's; see `reasons.summary`."""
        return summary(error)

    @staticmethod
    def is_redis_away(error: BaseException) -> bool:
        """Say whether an error means that Redis did not answer, rather than that it refused."""
        return redis_errors.is_away(error)

    @staticmethod
    def redis_reason(error: BaseException) -> str:
        """Return what Redis does, as a predicate, where it is or refuses: see `redis_words`."""
        return redis_errors.what_it_does(error)

    @staticmethod
    def unreadable(found: Sequence[Unreadable]) -> str | None:
        """Return what a person is told of records in Redis that cannot be read; None where there are none."""
        return records.words(found) if found else None

    def redis_problem(self, error: BaseException) -> str | None:
        """Return what a person may be told of an error of Redis', or of a record in it; None for others."""
        if isinstance(error, UnreadableError):
            return str(error)
        if hasattr(error, "why"):
            return str(error)
        if isinstance(error, (RedisError, ConnectionError, TimeoutError)):
            return f"Redis at {self.redis_address} {redis_errors.what_it_does(error)}"
        return None

    # -- lifecycle ---------------------------------------------------------------------------------

    def enter_main(self, node: str) -> None:
        """Take the part of a prefork MAIN: no client here, the children open their own."""
        self.place = Place(node)
        self._main_pid = os.getpid()

    def enter_process(self, place: Place) -> None:
        """Take the part of a process that runs tasks, and make its client; no I/O. Idempotent.

        Where making it would ask the DNS the first use makes it: the reporter's, in a thread of its own.
        """
        self.place = place
        if looks_up_when_made() and uris.is_srv(self.settings.mongodb_uri.get_secret_value()):
            self.holder.allow()
        else:
            self.holder.open()

    def close(self, budget_seconds: float = 2.0) -> bool:
        """Close this process's client; False where none was open. Never raises: it runs in shutdowns.

        The end of the sessions is sent at once; its answer is waited for as long as the budget.
        """
        started = time.monotonic()
        if self._pid == os.getpid():
            # First of all: whoever kills the process from here on interrupts an orderly end.
            self.row.close()
            self.write_counters(time.monotonic())
        gauges = self.pool()["servers"]
        try:
            with calls.bounded(budget_seconds):
                was_open = self.holder.close()
        except Exception:
            # Whatever a driver does here, the process still has to end.
            logger.exception("%s: could not close the client", Event.CLIENT_CLOSE_SLOW)
            return False
        if was_open:
            self._say_closed(time.monotonic() - started, budget_seconds, gauges)
        return was_open

    def _build(self) -> Client:
        if self._pid != os.getpid():
            opened_by, self._pid = self._pid, os.getpid()
            self._begin(opened_by)
            # Children of a prefork pool end in os._exit: this serves scripts, web processes and solo.
            atexit.register(self.close)
        self._made_of = client_options.made_of(self.settings)
        identity, appname = self.identity(), self.appname
        self.has_write_counter = self.counts_writes()
        writers = self.works if self.has_write_counter else None
        with self.guard.expected():
            client = build_client(
                self.settings,
                identity,
                concurrency=self.place.concurrency,
                listeners=[*self.monitor.listeners(writers=writers), self.link.listener()],
                is_away=self._is_away,
                options={**({"minPoolSize": 0} if self.keeps_minimum else {}), **self.options},
            )
        self._say_lacking(client)
        background.watch(lambda: not self.link.circuit.is_closed)
        self._record(Kind.CLIENT_OPENED, 0.0, appname)
        events.say(logger, logging.INFO, Event.CLIENT_OPENED, "opened as %s", appname, appname=appname)
        return client

    def _say_lacking(self, client: Client) -> None:
        for what in lacking(client):
            message = "this PyMongo (%s) is not as we know it: %s"
            events.say(logger, logging.WARNING, Event.CLIENT_LACKING, message, pymongo.version, what)

    def _is_away(self) -> bool:
        """Whether MongoDB has been away for longer than an operation waits for a server."""
        longest = self.settings.server_selection_timeout_ms / 1000
        return self.link.circuit.outage_seconds(time.monotonic()) >= longest

    def identity(self) -> Identity:
        """Return who this process is, as its server sees it."""
        return Identity(self.settings.deployment, self.place.node, current_slot(), os.getpid())

    @property
    def appname(self) -> str:
        """The application name that the server shows for this process's connections."""
        return self.identity().appname(self.settings.appname)

    def _record(self, kind: Kind, number: float, text: str) -> None:
        self.row.recorder.record(kind, number, text)

    def _circuit_changed(self, change: Change) -> bool:
        """Show the change on the board; say whether this process speaks for its node of it."""
        board, move = self.board, partial(self.row.set_circuit, change.after)
        if board is None or isinstance(self.row, PrivateRow):
            move()
            return True
        with board.turn():
            return moved(board.rows, current_slot(), move)

    def _settings_changed(self) -> bool:
        """Read the settings again; say whether a client that is made now would be another."""
        if self._reload is not None:
            try:
                self.settings = self._reload()
            except SettingsError as error:
                self._say_refused(str(error))
                return False
        self._refused = ""
        return client_options.made_of(self.settings) != self._made_of

    def _say_refused(self, why: str) -> None:
        # The reconnector asks twice a second.
        if why != self._refused:
            self._refused = why
            message = "settings were read again and refused: %s"
            events.say(logger, logging.WARNING, Event.SETTINGS_WARNING, message, why)

    def _say_closed(self, seconds: float, budget_seconds: float, gauges: Any) -> None:
        counters = self.monitor.totals(time.monotonic()).count
        self._record(Kind.CLIENT_CLOSED, seconds, "")
        message = "closed in %.1f ms; %s created, %s"
        made, used = count(counters["created"], "connection"), count(counters["checked_out"], "checkout")
        numbers = (seconds * 1000, made, used)
        fields = {"counters": counters, "pools": gauges}
        events.say(logger, logging.INFO, Event.CLIENT_CLOSED, message, *numbers, **fields)
        if seconds > budget_seconds and self.link.circuit.is_closed:
            message = "closing the client took %.2f s, longer than its %.2f s"
            args = (seconds, budget_seconds)
            events.say(logger, logging.WARNING, Event.CLIENT_CLOSE_SLOW, message, *args)

    # -- reports -----------------------------------------------------------------------------------

    def check(self) -> dict[str, Any]:
        """Ping under the settings' deadline; return the verdict and what supports it (`Link.check`)."""
        # The first use makes the link anew. Where no client can be made the ping says why.
        with suppress(PyMongoError, OSError):
            self.get_client()
        return self._stamp() | self.link.check()

    def keep_open(self) -> float:
        """Use the pool's minimum at once, of the member that takes writes, so that it stays open; return in
        how many seconds to do so again.
        """
        options = {name: value for name, value, _ in self.settings.effective_options(self.place.concurrency)}
        client, number = self.holder.client, options["minPoolSize"]
        if client is not None and number and self.keeps_minimum and self.link.circuit.is_closed:
            keep_open(client, number, timeout_seconds=self.settings.ping_timeout_seconds)
        idle = (options.get("maxIdleTimeMS") or 0) / 1000
        return min(_KEEP_SECONDS, idle / 2) if idle else _KEEP_SECONDS

    def write_counters(self, now: float) -> None:
        """Put what this process has counted so far on its node's board; memory only."""
        ever = self.monitor.ever(now)
        outages, seconds = self.link.circuit.outages(now)
        own = {
            "requeued": self.requeued,
            "long_holds": self.suspicion.long_holds,
            "leaks": self.suspicion.leaks,
            "overloads": self.link.overloads,
            "outages": outages,
            "outage_seconds": seconds,
        }
        self.row.write_counters(counters.values(ever.counts | own, ever.times))

    def pool(self) -> dict[str, Any]:
        """Return this process's pool: gauges per server, counters since the last reset. Memory only."""
        client = self.holder.client
        gauges = read_gauges(client) if client is not None else {}
        return self._stamp() | {
            "servers": None if gauges is None else {name: g.to_dict() for name, g in gauges.items()},
            "counters": self.monitor.totals(time.monotonic()).count,
            "circuit": self.link.circuit.state,
        }

    def get_stats(self) -> dict[str, Any]:
        """Return every statistic of this process's pools (docs/reference/statistics.md). No I/O."""
        return self._stats(self.monitor.get_stats)

    def pop_stats(self) -> dict[str, Any]:
        """Return what `get_stats()` does, and begin anew to count; gauges stay."""
        return self._stats(self.monitor.pop_stats)

    def _stats(self, read: Callable[[float], dict[str, dict[str, Any]]]) -> dict[str, Any]:
        monitor = self.monitor
        size = sum(gauges.size for gauges in monitor.gauges().values())
        # What pop_stats() resets is read before it does.
        told = {
            "tasks": {name: times.to_dict() for name, times in list(monitor.tasks.items())},
            "slowest": [hold.to_dict() for hold in monitor.slowest],
            "memory": {"uss": memory.unique_set_size(), "server": size * memory.SERVER_BYTES_PER_CONNECTION},
        }
        return self._stamp() | told | {"servers": read(time.monotonic())}

    def flight(self) -> list[dict[str, Any]]:
        """Return the last events of this process's pool, oldest first. Memory only."""
        return self.row.recorder.read()

    def reconnect(self, *, force: bool = False) -> dict[str, Any]:
        """Make a reconnection attempt if one is due (always, with `force`) and say what came of it.

        Where another thread is in the middle of one, `force` waits for its end, a ping's timeout at most.
        """
        self.get_client()
        attempt = self.link.reconnect(force=force)
        if force and attempt is None:
            self.link.circuit.wait_closed(self.settings.ping_timeout_seconds)
        return self._stamp() | {
            "circuit": self.link.circuit.state,
            "attempt": None if attempt is None else attempt.to_dict(),
        }

    @property
    def redis_address(self) -> str:
        """Host, port and database of the Redis that the fleet's view is kept in."""
        return address(self.redis_settings.redis_url.get_secret_value())

    def settings_warnings(self) -> list[str]:
        """Return a line for each setting of the environment that is accepted but looks wrong."""
        if self._reload is None:
            return []
        return settings_warnings() + ([] if self.is_service else unused_by_an_app(self.settings))

    def warn_of_foreign(self) -> list[Sighting]:
        """Return the open clients that are not ours, each warned of once: all, in a prefork MAIN."""
        found = sightings(own_too=self._main_pid == os.getpid())
        for sighting in found:
            self._say_foreign(sighting)
        return found

    def _say_foreign(self, sighting: Sighting) -> None:
        if sighting.site in self._told:
            return
        self._told.add(sighting.site)
        is_main = self._main_pid == os.getpid()
        if is_main:
            message = "a MongoClient from before the fork is copied into every child. It was made by %s"
        else:
            advice = instead(sighting.site).replace("%", "%%")
            message = f"a second MongoClient doubles this process's connections; {advice}. It was made by %s"
        fields = {"site": sighting.site, "is_before_fork": is_main}
        events.say(logger, logging.WARNING, Event.CLIENT_FOREIGN, message, Lines(sighting), **fields)

    def _stamp(self) -> dict[str, Any]:
        return {
            "deployment": self.settings.deployment,
            "node": self.place.node,
            "slot": current_slot(),
            "pid": os.getpid(),
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }


def current_slot() -> int:
    """Return this process's index in its node's pool; 0 where there is no pool of processes."""
    return _pool_index() or 0


def _pool_index() -> int | None:
    billiard = sys.modules.get("billiard")
    index = getattr(billiard.current_process(), "index", None) if billiard else None
    return None if index is None else int(index)


_current: Mongo | None = None
_first_use = threading.Lock()
# Whoever keeps the client, or what is made of it; asked for at a module's top, before there is a Mongo.
_keepers: list[Callable[[Client], object]] = []


def adopt(mongo: Mongo) -> None:
    """Make this the process's Mongo; the one before it is closed.

    Raises TwoCopiesError where the same tree was imported under its other name: two copies of the state
    would mean two clients.
    """
    global _current  # noqa: PLW0603 - the one piece of module state; see the module's docstring
    here, _, module = __name__.partition(".")
    other = f"{'celery_pymongo' if here == 'worker' else 'worker'}.{module}"
    if getattr(sys.modules.get(other), "_current", None) is not None:
        raise TwoCopiesError(__name__, other)
    if _current is not None and _current is not mongo:
        _current.close()
    _current = mongo


def shared() -> Mongo | None:
    """Return the Mongo that further apps of this process may share, or None.

    A second app is no oddity: a spawned child gets its app pickled, and importing its task modules makes it
    again. The tasks of one and the signals of the other must meet the same client.
    """
    return _current if _current is not None and _current.is_shared else None


def current() -> Mongo:
    """Return the process's Mongo, made from the environment where `install(app)` has not run."""
    if _current is not None:
        return _current
    with _first_use:
        if _current is None:
            adopt(Mongo(load_settings(), reload=load_settings))
        return _current  # type: ignore[return-value] # adopt() has set it


def get_client() -> Client:
    """Return the one MongoClient of this process, opened on first use: in any thread, after any fork."""
    return current().get_client()


def get_database(name: str | None = None) -> Any:
    """Return a database of the one client: `name`, or the one that the settings name."""
    return current().get_database(name)


def on_replace(callback: Keeper) -> Keeper:
    """Have `callback(client)` called with each client that takes another's place; also as a decorator.

    For whoever keeps the client, or what is made of it, as rotated credentials or a closed client replace it.
    It runs in the thread that replaces, before the old client is closed, and should take no time; what it
    raises is logged. A child of a fork opens its own first client, which replaces none.
    """
    _keepers.append(callback)
    return callback


def _tell_of_replacement(client: Client) -> None:
    for callback in _keepers:
        try:
            callback(client)
        except Exception:
            # It is the app's, and the new client is in its place whatever it does.
            logger.exception("a callback of on_replace() failed: %r", callback)


def call(operation: Callable[[], T], *, attempts: int = 3, deadline: float | None = None) -> T:
    """Run a database operation, tried again on transient errors within `attempts` and `deadline` seconds."""
    return current().call(operation, attempts=attempts, deadline=deadline)


def use_client(client: Any, *, database: str | None = None) -> AbstractContextManager[Any]:
    """Hand out another client, or a fake, while a `with` block runs: for tests of tasks.

    `database` is the name of what `self.db` is meanwhile; not given: of what the settings name.
    """
    return current().use_client(client, database=database)
