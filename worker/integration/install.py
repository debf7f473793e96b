"""`install(app)`: what a Celery app has to say to get its MongoDB client."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module

from celery import Celery

from ..broker import message, own_queues, queues, requeue
from ..broker.copies import Copies
from ..broker.request import KnowConsumer
from ..delivery import failures
from ..delivery.deliveries import Deliveries
from ..delivery.stores import Stores
from ..delivery.task import OwnTask
from ..errors import SettingsError, end_command
from ..health.facts import View
from ..health.watch import Watch
from ..node import control as control  # noqa: PLC0414 - importing it registers its commands
from ..node.gate import Gate
from ..node.headcount import Headcount
from ..process.drills import Drills
from ..process.process import Mongo, adopt, shared
from ..sentry import Agent
from ..settings import schedule
from ..settings.fields import Settings, load_settings
from ..tracking.writes import count_fork, enter_fork
from . import fixes, logs, merging
from .signals import Lifecycle

# In a checkout the packages stand side by side; in the wheel `tasks` is nested in this one. Imported
# with this module: Celery's command line has the working directory on its path only while it imports.
_TOP = __name__.partition(".")[0]
_ABOVE = "" if _TOP == "worker" else f"{_TOP}."
_NAMES = ("health", "pool", "reconnect", "data", "rollup", "expiry", "diagnostics")
_TASK_MODULES = [import_module(f"{_ABOVE}tasks.{name}") for name in _NAMES]
_TASK_MODULES += [import_module(f"{_ABOVE}ops.{name}.tasks") for name in ("doctor", "drills")]


def install(
    app: Celery,
    settings: Settings | None = None,
    *,
    mongodb_uri: str | None = None,
    redis_url: str | None = None,
) -> Mongo:
    """Give `app` one client per process, health checks, snapshots and reconnection; return `app.mongo`.

    Merges beat entries and routes into the app's configuration and changes nothing else there; an entry or
    a route of the same name that the app has already stays the app's. Idempotent. Settings come from the
    environment where none are given; `mongodb_uri` and `redis_url`, for an app that keeps them elsewhere,
    win over MONGODB_URI and REDIS_URL. Raises SettingsError; a command of Celery's ends with one line per
    problem and exit code 78 instead.
    """
    present: Mongo | None = getattr(app, "mongo", None)
    if present is not None:
        return present
    fixup = Fixup(settings, mongodb_uri, redis_url)
    try:
        mongo = _equip(app, fixup)
    except SettingsError as error:
        end_command(error)
        raise
    # Celery runs fixups wherever it rebuilds the app: in the children of a spawning pool, too.
    app.fixups = {*app.fixups, fixup}
    merging.connect(app, mongo.settings)
    _when_configured(app, lambda: mongo.view.stores.follow(app.conf, mongo))
    return mongo


def _equip(app: Celery, fixup: "Fixup") -> Mongo:
    mongo = _shared(fixup) or _first(app, fixup)
    app.mongo = mongo
    app.steps["consumer"].update({Headcount, Gate, KnowConsumer})
    fixes.install(app)
    own_queues.declare(app)
    requeue.hush()
    failures.shorten(lambda: mongo.link.circuit)
    for module in _TASK_MODULES:
        module.register(app)
    return mongo


def _shared(fixup: "Fixup") -> Mongo | None:
    """Return the Mongo of an app before this one: two of the same settings would be two clients."""
    mongo = shared()
    if mongo is None or mongo.holder.state == "closed":
        return None
    return mongo if mongo.settings == fixup.load() else None


def _first(app: Celery, fixup: "Fixup") -> Mongo:
    mongo = Mongo(fixup.load(), reload=None if fixup.settings else fixup.load)
    mongo.Task = OwnTask
    mongo.is_shared = True
    adopt(mongo)
    mongo.guard.install()
    stores = Stores.of(mongo.settings)
    mongo.view = View(app, mongo, stores)
    mongo.watch = Watch(mongo.view)
    mongo.drills = Drills(mongo)
    mongo.copies = Copies(app)
    mongo.deliveries = Deliveries.of(mongo, stores)
    mongo.counts_writes = lambda: _must_any_run_once(app)
    queues.connect()
    message.connect()
    os.register_at_fork(after_in_parent=lambda: count_fork(mongo.works), after_in_child=enter_fork)
    logs.quiet(schedule.entries(mongo.settings).keys())
    agent = Agent(mongo, stores.registry, stores.ledger, stores.windows)
    Lifecycle(app, mongo, stores, agent).connect()
    return mongo


def _must_any_run_once(app: Celery) -> bool:
    return not all(getattr(task, "idempotent", True) for task in app.tasks.values())


@dataclass(frozen=True)
class Fixup:
    """Travels with a pickled app and installs it again in a spawned child."""

    settings: Settings | None
    mongodb_uri: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)

    def load(self) -> Settings:
        """Return the settings, read anew where they are not given whole; raises SettingsError."""
        given = {"MONGODB_URI": self.mongodb_uri, "REDIS_URL": self.redis_url}
        named = {name: value for name, value in given.items() if value is not None}
        if self.settings is None:
            return load_settings(given=named)
        if named:
            raise SettingsError(
                [f"install(): settings are given, so these belong there, too: {', '.join(named)}"]
            )
        return self.settings

    def __call__(self, app: Celery) -> "Fixup":
        """Celery calls this while it makes the app, whose configuration came along, merged already."""
        _equip(app, self)
        return self


def _when_configured(app: Celery, act: Callable[[], None]) -> None:
    """Act at once, or when the app's configuration is first read: reading it here would be too early."""
    if app.configured:
        act()
    else:
        app.on_after_configure.connect(lambda **_kwargs: act(), weak=False)
