"""What every drill stands on: a server that answers, a setting where it may run, a database of its own."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pymongo
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError
from redis import RedisError

from . import safety, site
from .refused import Refused, Unreachable
from .trial import Outcome, Plan, Trial, summary
from .work import Waits, Work

_EVERY_SECONDS = 0.1
_CLOSE_SECONDS = 1.0


@dataclass(frozen=True)
class Terms:
    """What a drill is asked for: `threads` at once, each operation held `hold_ms` by the server, `seconds` in
    all. `database` None is the app's own with _drill behind it; `yes` lets it run in production.
    """

    threads: int
    hold_ms: int
    seconds: float
    database: str | None = None
    yes: bool = False


@dataclass(frozen=True)
class Ground:
    """Where a drill runs: `drills` is the app's, `server` says which one answers."""

    drills: Any
    terms: Terms
    site: site.Site
    server: str | None
    marks: list[str]

    @contextmanager
    def loaded(self, options: dict[str, Any], *, writes: int = 0) -> Iterator["Load"]:
        """Hand out a load on a client of these options, which has connected once."""
        waits = Waits()
        try:
            with self.drills.client(options, concurrency=self.terms.threads, listeners=[waits]) as client:
                client.admin.command("ping")
                work = Work(client[self.site.name], hold_ms=self.terms.hold_ms, writes=writes)
                try:
                    yield Load(self, client, work, waits)
                finally:
                    work.close()
        except ConfigurationError as error:
            raise Refused(f"PyMongo does not take these options: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return what every drill's document says, as plain JSON types."""
        return {
            "server": self.server,
            "production": self.marks,
            "threads": self.terms.threads,
            "hold_ms": self.terms.hold_ms,
            "database": self.site.to_dict(),
        }


@dataclass
class Load:
    """A client under the load of a drill, and the most that its pool has held and kept waiting meanwhile."""

    ground: Ground
    client: Any
    work: Work
    waits: Waits
    most_in_use: int = 0
    most_waiting: int = 0

    def run(
        self,
        *,
        seconds: float,
        times: float = float("inf"),
        look: Callable[[float, Outcome], object] | None = None,
        every: float = 1.0,
    ) -> Outcome:
        """Run the drill's threads for so long; `look` sees each `every` seconds what came of it so far."""
        drills = self.ground.drills
        trial = Trial(self.work, Plan(self.ground.terms.threads, times, seconds), classify=drills.classify)

        due = every

        def watch(elapsed: float) -> None:
            nonlocal due
            gauges = drills.gauges(self.client)
            self.most_in_use = max(self.most_in_use, gauges.in_use)
            self.most_waiting = max(self.most_waiting, gauges.waiting)
            if look is not None and elapsed >= due:
                due += every
                look(elapsed, trial.so_far())

        # Whoever waits for a connection of a server that hangs would wait on.
        return trial.run(watch, every=_EVERY_SECONDS, abandon=self._abandon)

    def _abandon(self) -> None:
        with suppress(PyMongoError), pymongo.timeout(_CLOSE_SECONDS):
            self.client.close()

    def to_dict(self) -> dict[str, Any]:
        """Return what became of the pool, as plain JSON types. It takes the waits."""
        return {
            "wait_ms": summary(self.waits.take()),
            "wait_timeouts": self.waits.timeouts,
            "connections": {
                "created": self.waits.created,
                "most_in_use": self.most_in_use,
                "most_waiting": self.most_waiting,
            },
        }


@contextmanager
def _in_history(notes: Any, name: str, seconds: float) -> Iterator[None]:
    """Mark the drill in the history; where Redis is away there is none either."""
    drill_id = uuid.uuid4().hex
    with suppress(RedisError, OSError):
        notes.note(drill_id, name, seconds=seconds)
    try:
        yield
    finally:
        with suppress(RedisError, OSError):
            notes.note(drill_id, name, seconds=0)


@contextmanager
def ground(mongo: Any, terms: Terms, *, name: str) -> Iterator[Ground]:
    """Hand out the ground of the drill of this name, of which nothing is left afterwards but a mark in the
    history; `mongo` is `app.mongo`.

    Raises Refused with a sentence, and Unreachable where MongoDB does not answer.
    """
    settings, drills = mongo.settings, mongo.drills
    database = safety.database(terms.database, settings.mongodb_database)
    with drills.client({}, concurrency=1) as client:
        site.connect(client, drills.reason)
        marks = safety.production(
            site.hosts_of(client), deployment=settings.deployment, environment=settings.sentry_environment
        )
        safety.permit(marks, yes=terms.yes)
        try:
            with (
                site.prepared(client, database, seconds=terms.seconds) as made,
                _in_history(mongo.view.drill_notes, name, terms.seconds),
            ):
                yield Ground(drills, terms, made, drills.server(client), marks)
        except OperationFailure as error:
            # The code alone: the text of an operation's error may quote documents.
            raise Refused(
                f"MongoDB refuses the drill (code {error.code}); its user needs readWrite on {database}"
            ) from None
        except (PyMongoError, OSError) as error:
            raise Unreachable(f"MongoDB stopped answering: {drills.reason(error)}") from None
