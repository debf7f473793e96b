"""From Celery's signals to the life of a client: who opens, who closes, who must not have one.

| pool | opens | closes |
|---|---|---|
| prefork (fork or spawn) | worker_process_init, in the child | worker_process_shutdown |
| solo | worker_process_init | worker_shutdown, atexit |
| threads, gevent | celeryd_after_setup | worker_shutdown, atexit |
"""

import atexit
import gc
import logging
import os
import time
import weakref
from typing import Any

import celery
from celery import Celery, signals
from celery.concurrency import get_implementation

from .. import events
from ..board.board import RECORD_BYTES, Board, NoBoardError
from ..broker import kind as broker
from ..broker import own_queues, receivers
from ..delivery.stores import Stores
from ..errors import SettingsError
from ..events import Event
from ..fleet import node_record
from ..mongo.backoff import Backoff
from ..node import addressed
from ..node.expired import Expired
from ..process.attribution import Attribution
from ..process.denials import Denials
from ..process.presence import Presence
from ..process.process import Mongo, Place
from ..process.publisher import Publisher
from ..sentry import Agent
from ..store import app_redis
from . import config, logs, merging, versions
from .advice import advise
from .reporter import Reporter

logger = logging.getLogger("celery_pymongo.lifecycle")

# The client goes first: with a server that answers it takes milliseconds, and a hard time limit leaves 0.1 s
# until SIGKILL. This is for a server that does not: the driver alone would wait 5 s or, if it hangs, 20 s.
_CLOSE_SECONDS = 1.0
# A ping in flight holds a session, which a client that closes meanwhile would not end at the server.
_PING_SECONDS = 0.03
_REPORTER_SECONDS = 0.5

# How a spawned child, which inherits no mapping, finds the board of its node.
_BOARD_VARIABLE = "_CELERY_PYMONGO_BOARD"
# As the command line has them.
_POOL_NAMES = {"thread": "threads"}


class Lifecycle:
    """The signal handlers of one app. An exception in a handler would only be logged by Celery, so the
    guarantee is the lazy `get_client()`; the signals are the eager start and the clean end.
    """

    def __init__(self, app: Celery, mongo: Mongo, stores: Stores, agent: Agent) -> None:
        self._app = app
        self._mongo = mongo
        self._stores = stores
        self._registry = stores.registry
        self._pulse = stores.pulse
        self._agent = agent
        self._expired = Expired(lambda: mongo.board)
        self._attribution = Attribution(lambda: mongo.suspicion)
        self._denials = Denials()
        mongo.works = self._attribution.running
        self._reporter: Reporter | None = None
        self._presence: Presence | None = None
        self._worker: Any = None
        self._kind = "none"
        self._is_prefork_main = False
        self._is_memory_shared = False
        self._record: dict[str, Any] = {}

    def connect(self) -> None:
        """Connect every handler; the newest Lifecycle of a process is the one that hears."""
        self._attribution.connect()
        self._denials.connect()
        for signal, handler in (
            (signals.celeryd_init, self.celeryd_init),
            (signals.beat_init, self.beat_init),
            (signals.beat_embedded_init, self.beat_embedded_init),
            (signals.import_modules, self.import_modules),
            (signals.worker_init, self.worker_init),
            (signals.celeryd_after_setup, self.celeryd_after_setup),
            (signals.worker_before_create_process, self.worker_before_create_process),
            (signals.task_revoked, self.task_revoked),
            (signals.worker_process_init, self.worker_process_init),
            (signals.worker_process_shutdown, self.worker_process_shutdown),
            (signals.worker_shutdown, self.worker_shutdown),
        ):
            receivers.connect(signal, handler, f"celery_pymongo.{handler.__name__}")

    def celeryd_init(self, sender: str, instance: Any, **_kwargs: Any) -> None:
        """In MAIN, before anything of the worker exists: -Q and -X still have their say on our queues."""
        self._agent.start(sender)
        merging.again(instance.app)
        own_queues.consume(instance.app)
        addressed.note(instance.app)

    def beat_init(self, sender: Any, **_kwargs: Any) -> None:
        """In a process of beat's own."""
        logs.enable()
        settings = self._mongo.settings
        if self._mongo.is_service and settings.scheduler == "redbeat" and not config.has_redbeat():
            message = (
                "celery-redbeat is not installed: this is Celery's own scheduler, of which one may run; "
                "pip install 'celery-pymongo[redbeat]', or set CELERY_PYMONGO_SCHEDULER=plain"
            )
            events.say(logger, logging.WARNING, Event.SETTINGS_WARNING, "%s", message)
        self._agent.start("beat")
        self._pulse.attach(sender.scheduler)
        self._agent.attach_beat(sender.scheduler)

    def beat_embedded_init(self, sender: Any, **_kwargs: Any) -> None:
        """In the process that a worker with -B starts."""
        self._agent.enter("beat")
        self._pulse.attach(sender.scheduler)
        self._agent.attach_beat(sender.scheduler)

    def import_modules(self, sender: Any = None, **_kwargs: Any) -> None:
        """In a worker, a beat, and a spawned child, which hears no celeryd_init. No tracer is built yet."""
        if sender is not None:
            merging.again(sender)
        if _is_spawned_child():
            self._agent.start(self._mongo.place.node)

    def worker_init(self, sender: Any, **_kwargs: Any) -> None:
        """In MAIN, before its pool exists and before logging is set up."""
        self._mongo.time_limits = (sender.time_limit, sender.soft_time_limit)
        kind = _pool_kind(sender.pool_cls)
        name = get_implementation(sender.pool_cls).__module__.rpartition(".")[2]
        self._worker, self._kind = sender, _POOL_NAMES.get(name, name)
        if kind == "prefork":
            self._is_prefork_main = True
            self._mongo.enter_main(sender.hostname)
        else:
            # From here on get_client() may be called; the client says that it opens once there is a log.
            concurrency = _concurrency(sender) if kind == "shared" else 1
            self._mongo.place = Place(sender.hostname, concurrency, self._kind)
            self._make_board(slots=1, expected=1)

    def celeryd_after_setup(self, **_kwargs: Any) -> None:
        """In MAIN, with logging set up and before any task."""
        logs.enable()
        self._stores.follow(self._app.conf, self._mongo)
        prefetch = getattr(self._worker, "prefetch_multiplier", None)
        kind = broker.kind(self._app)
        risks = advise(self._app.conf, self._longest_time_limit(), broker=kind, prefetch=prefetch)
        place = app_redis.difference(self._mongo.settings, self._app.conf)
        warnings = [*self._mongo.settings_warnings(), *filter(None, [place]), *self._inverted_limits()]
        start_method = self._app.conf.get("worker_pool_start_method")
        warnings += versions.doubts(celery.__version__, start_method=start_method)
        self._say_no_redis()
        for warning in [*warnings, *risks]:
            events.say(logger, logging.WARNING, Event.SETTINGS_WARNING, "%s", warning)
        if risks and (self._mongo.settings.strict or self._mongo.is_service):
            logger.error("not starting with settings that can lose or double work")
            raise SystemExit(SettingsError.exit_code)
        self._record = self._describe_node(risks, prefetch=prefetch, broker=kind)
        self._write_record()
        # The app may have set up Sentry since.
        if self._reporter is None:
            self._agent.enter(self._mongo.place.node)
        if self._is_prefork_main:
            self._refuse_foreign()
        elif self._reporter is None:
            # Not so under solo, where worker_process_init came before.
            self._enter(self._mongo.place)
        if self._mongo.board is not None and self._mongo.board.path is None:
            message = "no file for the board, neither in shared memory nor in the temporary folder"
            events.say(logger, logging.WARNING, Event.BOARD_PRIVATE, message)

    def worker_before_create_process(self, **_kwargs: Any) -> None:
        """In MAIN, before each fork: a client that is open now is a hazard in the child."""
        sites = sorted({sighting.site for sighting in self._mongo.warn_of_foreign()})
        if self._mongo.board is None:
            self._make_board(slots=_rows(self._worker), expected=_concurrency(self._worker))
        if self._record and sites != self._record["before_fork"]:
            self._record["before_fork"] = sites
        self._write_record()
        self._share_memory()

    def task_revoked(self, sender: Any, expired: bool, **_kwargs: Any) -> None:
        """In MAIN, for each message that is not run."""
        self._expired.heard(sender, has_expired=expired)

    def worker_process_init(self, sender: str | None, **_kwargs: Any) -> None:
        """In a new child of a prefork pool, and in MAIN under solo. Constructor only, no I/O."""
        self._is_prefork_main = False
        # A spawned child has imported the app's logging configuration again.
        logs.enable()
        if _is_spawned_child():
            self._attach_board()
        node = sender or self._node()
        self._agent.enter(node)
        # A spawned child has heard no worker_init.
        kind = "prefork" if _is_spawned_child() else self._kind
        self._enter(Place(node, kind=kind))

    def _node(self) -> str:
        """Return the node where Celery does not say it, as before 5.7: from the worker that this process was
        forked of, or from the board of a spawned one.
        """
        if self._worker is not None:
            return str(self._worker.hostname)
        return self._mongo.place.node if self._mongo.board is None else self._mongo.board.node

    def worker_process_shutdown(self, **_kwargs: Any) -> None:
        """In a child that ends, but not by SIGKILL."""
        self._end()

    def worker_shutdown(self, **_kwargs: Any) -> None:
        """In MAIN, after its pool has stopped."""
        self._end()
        self._remove_board()

    def _describe_node(self, risks: list[str], *, prefetch: int | None, broker: str) -> dict[str, Any]:
        worker, receivers = self._worker, signals.worker_process_init.receivers or []
        own = __name__.partition(".")[0]
        told = {
            "node": worker.hostname,
            "began": time.time(),
            "kind": self._kind,
            "broker": broker,
            "concurrency": _concurrency(worker),
            "prefetch": prefetch,
            "max_tasks_per_child": getattr(worker, "max_tasks_per_child", None),
            "init_handlers": node_record.init_handlers(receivers, _referent, own=own),
        }
        limits = {task.name: task.time_limit or self._mongo.time_limits[0] for task in self._tasks()}
        settings = self._mongo.redis_settings
        return node_record.build(self._app.conf, settings, worker=told, limits=limits, risks=risks)

    def _write_record(self) -> None:
        """Put what is known of the node on its board, which is there before the first child."""
        if self._record and self._mongo.board is not None:
            self._mongo.board.record = node_record.encode(self._record, RECORD_BYTES)

    def _make_board(self, *, slots: int, expected: int) -> None:
        node, deployment = self._worker.hostname, self._mongo.settings.deployment
        self._mongo.board = Board.create(node=node, deployment=deployment, slots=slots)
        # A board has rows to spare, and the first processes report before the headcount looks.
        self._mongo.board.expected = expected
        if self._mongo.board.path is not None:
            os.environ[_BOARD_VARIABLE] = str(self._mongo.board.path)
        # A cold shutdown sends no worker_shutdown; children end in os._exit.
        atexit.register(self._remove_board)

    def _attach_board(self) -> None:
        """Take the board by its path: a spawned child has nothing of MAIN's memory but what a file shares."""
        try:
            self._mongo.board = Board.attach(os.environ[_BOARD_VARIABLE])
        except (KeyError, OSError, NoBoardError) as error:
            message = "this process is not on its node's board: %s"
            events.say(logger, logging.WARNING, Event.BOARD_PRIVATE, message, error)

    def _remove_board(self) -> None:
        board = self._mongo.board
        if board is not None and board.main_pid == os.getpid():
            os.environ.pop(_BOARD_VARIABLE, None)
            board.unlink()

    def _share_memory(self) -> None:
        """Keep the children's memory shared with MAIN: Celery collects garbage before each fork, which
        writes to every object of MAIN's and so leaves each child before the last with a copy of its own.
        """
        if not self._is_memory_shared:
            self._is_memory_shared = True
            # Garbage that is frozen would stay for ever.
            gc.collect()
            gc.freeze()

    def _enter(self, place: Place) -> None:
        """Make the client, and start the reporter even where it cannot be made yet, as while a file that its
        options name is away: the first use makes it, and until then the reporter says why there is none.
        """
        # A spawned child's app is built before its configuration can be read.
        self._stores.follow(self._app.conf, self._mongo)
        self._mongo.keeps_minimum = True
        try:
            self._mongo.enter_process(place)
        finally:
            self._start_reporter()

    def _start_reporter(self) -> None:
        settings = self._mongo.settings
        if self._mongo.place.concurrency == 1:
            self._attribution.row = self._mongo.row
        backoff = Backoff(settings.backoff_base_seconds, settings.backoff_cap_seconds)
        publisher = Publisher(self._registry, backoff, speaks=self._mongo.leads, lost=self._lost_with_redis)
        self._presence = Presence(self._mongo, self._attribution, publisher, self._denials)
        self._reporter = Reporter(self._mongo, self._presence, self._agent)
        self._reporter.start()

    def _end(self) -> None:
        """Close in the order: client, reporter, registry, Sentry. A ping of the reporter's that is on its way
        gets a moment to end; the closed client ends any other.
        """
        reporter, self._reporter = self._reporter, None
        presence, self._presence = self._presence, None
        if reporter is not None:
            reporter.stop()
            reporter.join(_PING_SECONDS)
        self._mongo.close(_CLOSE_SECONDS)
        if reporter is not None and not reporter.join(_REPORTER_SECONDS):
            message = "the reporter thread did not end within %.1f s"
            events.say(logger, logging.WARNING, Event.CLIENT_CLOSE_SLOW, message, _REPORTER_SECONDS)
        if presence is not None:
            presence.goodbye(time.monotonic())
        self._agent.end()

    def _longest_time_limit(self) -> float | None:
        """Return the longest hard time limit of the app's tasks but Celery's own; None where one has none.

        As in the tasks' own reckoning, a node's command line counts for those that have none.
        """
        by_task = [task.time_limit or self._mongo.time_limits[0] for task in self._tasks()]
        limits = [limit for limit in by_task if limit is not None]
        return None if len(limits) < len(by_task) else max(limits, default=0.0)

    def _inverted_limits(self) -> list[str]:
        """Return a line per task whose hard limit Celery would not keep: it counts from the soft one on."""
        hard, soft = self._mongo.time_limits
        limits = [(t.name, t.time_limit or hard, t.soft_time_limit or soft) for t in self._tasks()]
        return [
            f"task {name}: its time limit of {hard:g} s is not above its soft one of "
            f"{soft:g} s and would not be kept; give it a shorter soft_time_limit too"
            for name, hard, soft in limits
            if hard and soft and hard <= soft
        ]

    def _say_no_redis(self) -> None:
        """Say once what a worker is without where no Redis is named, and which tasks need one."""
        if self._mongo.has_redis:
            return
        message = "no Redis is named (REDIS_URL, the app's broker or result backend): tasks run without the "
        message += "fleet's view: no status, no history, no dead letters, no limit of kills%s"
        needing = sorted(task.name for task in self._tasks() if not getattr(task, "idempotent", True))
        rest = f"; what must not run twice fails: {', '.join(needing)}" if needing else ""
        fields = {"tasks": needing}
        events.say(logger, logging.WARNING, Event.REGISTRY_NONE, message, rest, **fields)

    def _lost_with_redis(self) -> str:
        """Say which Redis it is, and what is lost while it is away."""
        mongo = self._mongo
        lost = app_redis.lost_while_away(is_broker=mongo.is_redis_the_broker)
        return f". Without the Redis at {mongo.redis_address} {lost}"

    def _tasks(self) -> list[Any]:
        return [task for name, task in self._app.tasks.items() if not name.startswith("celery.")]

    def _refuse_foreign(self) -> None:
        if self._mongo.warn_of_foreign() and self._mongo.settings.strict:
            logger.error("a MongoClient is open before the fork and the strict setting is on: not starting")
            raise SystemExit(SettingsError.exit_code)


def _pool_kind(pool: Any) -> str:
    """Return 'prefork', 'solo' or 'shared' (threads, gevent and whatever else runs many tasks at a time)."""
    bases = {f"{base.__module__}.{base.__qualname__}" for base in get_implementation(pool).__mro__}
    for kind in ("prefork", "solo"):
        if f"celery.concurrency.{kind}.TaskPool" in bases:
            return kind
    return "shared"


def _concurrency(worker: Any) -> int:
    # Celery 5.7 resolves "auto" after worker_init.
    return worker.concurrency if isinstance(worker.concurrency, int) else os.cpu_count() or 1


def _rows(worker: Any) -> int:
    """Return how many rows the board of a prefork pool gets: indexes can exceed the most processes there are,
    as a child that ends overlaps its successor, and an operator may let the pool grow.
    """
    most = max(_concurrency(worker), getattr(worker, "max_concurrency", None) or 0)
    return 2 * most + 8


def _referent(receiver: Any) -> Any:
    """Return what a receiver of a signal is, which Celery keeps weakly unless told otherwise."""
    return receiver() if isinstance(receiver, weakref.ref) else receiver


def _is_spawned_child() -> bool:
    return "FORKED_BY_MULTIPROCESSING" in os.environ
