"""`mongo load`: a file's rows through the queue into a collection, each one accounted for."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from ..problems import InputProblem, Problem
from ..text import agree, count
from .batches import Sorter
from .columns import named_types
from .flight import Flight, Target, refuse_app
from .identity import Identity, SeenKeys
from .journal import Journal, Progress, default_folder
from .outcome import LoadOptions, Outcome
from .place import collection_of, ensure_unique, is_empty, refuse_key, servers_of
from .progress import Screen
from .readers import Opened, open_rows
from .rejects import RejectsFile
from .rows import Row
from .source import Source, Survey
from .stopping import Stopping
from .tally import Tally

_POLL_SECONDS = 0.02
_TURN_SECONDS = 0.2
_SAVE_SECONDS = 0.5
_STOP_SECONDS = 10.0
_SAID = 100
"""Columns that are told one by one."""


def load(app: Any, options: LoadOptions, screen: Screen) -> Outcome:
    """Load a file and return what became of it. Raises Problem where nothing could be done."""
    refuse_app(app)
    named = named_types(options.types)
    collection_of(app, options.database, options.collection)
    with Source(options.file, screen.read) as source:
        survey = source.survey()
        database = options.database or app.mongo.settings.mongodb_database
        if not survey.size:
            screen.say(f"{options.file} is empty: there is nothing to load")
            return Outcome(options.file, f"{database}.{options.collection}")
        opened = open_rows(source, survey, format=options.format, types=named)
        refuse_key(options.key, opened.columns)
        same = _same(app, options, survey, opened)
        with SeenKeys() as seen, Journal(options.state or default_folder(), same) as journal:
            _say_types(screen, opened)
            ensure_unique(app, database, options, say=screen.say)
            content = _Content(source, survey, opened, seen, journal, database)
            return _Load(app, options, screen, content).run()


@dataclass(frozen=True)
class _Content:
    """What is loaded, what was seen of it, and how far it came before."""

    source: Source
    survey: Survey
    opened: Opened
    seen: SeenKeys
    journal: Journal
    database: str


def _same(app: Any, options: LoadOptions, survey: Survey, opened: Opened) -> dict[str, Any]:
    """Return what makes a load the same load, to be resumed and never to run twice at once."""
    database = options.database or app.mongo.settings.mongodb_database
    return {
        "content": survey.digest,
        "format": opened.format,
        "types": dict(opened.types),
        "into": [servers_of(app), database, options.collection],
        "key": list(options.key or ("_id",)),
    }


class _Stopped(Exception):
    """A signal came while a row was looked for."""


class _Load:
    """One load under way."""

    def __init__(self, app: Any, options: LoadOptions, screen: Screen, content: "_Content") -> None:
        target = Target(options.collection, options.database, options.key or ("_id",))
        self._options, self._screen, self._content = options, screen, content
        self._sorter = Sorter(
            content.opened.reader, Identity(options.key, content.survey.digest), content.seen
        )
        self._flight = Flight(app, target, limit=options.in_flight)
        self._journal = content.journal
        self._rejects = RejectsFile(options.rejects, content.source.label)
        self._stopping = Stopping()
        self._progress = self._begin(app)
        self._tally = Tally(self._progress, self._rejects)
        self._saved_at = time.monotonic()
        self._is_read = False
        self._turned_at = 0.0
        content.source.on_read = self._on_read
        self._outcome = Outcome(
            options.file,
            f"{content.database}.{options.collection}",
            self._progress.counts,
            resumed_after=self._progress.number,
            types=dict(content.opened.types),
        )

    def run(self) -> Outcome:
        started = time.monotonic()
        self._take_up()
        try:
            with self._stopping:
                self._fly()
                self._end()
        except Problem as problem:
            self._outcome.exit_code, self._outcome.problem = problem.exit_code, problem.message
        finally:
            self._keep()
        self._outcome.seconds = time.monotonic() - started
        self._refuse_nothing_loaded()
        return self._outcome

    def _refuse_nothing_loaded(self) -> None:
        """Let a load of which every row was rejected end non-zero: it was about another file."""
        counts, outcome = self._outcome.counts, self._outcome
        if outcome.exit_code == 0 and counts.read and counts.rejected == counts.read:
            outcome.exit_code, outcome.problem = 1, "every row was rejected: nothing was written"

    # -- the course of it --------------------------------------------------------------------------

    def _begin(self, app: Any) -> Progress:
        done, options = self._journal.read(), self._options
        if done.counts.written and is_empty(app, self._content.database, options.collection):
            self._screen.say(f"{options.collection} was emptied since this load was interrupted: begun again")
            return Progress()
        return done

    def _take_up(self) -> None:
        done = self._progress
        if done.number:
            self._screen.say(f"going on after row {done.number:,}, where this load was interrupted")
        if done.rejects:
            self._rejects.go_on(done.rejects, done.rejects_size)
        else:
            self._rejects.refuse_taken()

    def _fly(self) -> None:
        problem: InputProblem | None = None
        try:
            for batch in self._sorter.batches(self._rows(), after=self._progress.number):
                self._wait_while(partial(self._flight.is_full, batch))
                if self._is_stopping:
                    return
                self._flight.put(batch)
                self._turn()
        except InputProblem as error:
            problem = InputProblem(f"{self._outcome.file}: {error.message}; the rows before it are loaded")
        except _Stopped:
            return
        self._is_read = not self._is_stopping
        self._wait_while(lambda: self._flight.batches > 0)
        if problem:
            raise problem

    def _rows(self) -> Iterator[Row]:
        return takewhile(lambda _row: not self._is_stopping, self._content.opened.reader.rows())

    def _on_read(self, _size: int) -> None:
        """Go on with the batches under way, and hear of signals, also where no row comes for long."""
        if self._is_stopping:
            raise _Stopped
        if time.monotonic() - self._turned_at > _TURN_SECONDS:
            self._turn()

    @property
    def _is_stopping(self) -> bool:
        return self._stopping.number is not None

    def _wait_while(self, condition: Callable[[], bool]) -> None:
        while condition() and not self._is_stopping:
            if not self._turn():
                time.sleep(_POLL_SECONDS)

    def _turn(self, *, publish: bool = True) -> bool:
        self._turned_at = time.monotonic()
        acted = self._flight.step(publish=publish)
        for sent in self._flight.landed():
            self._flight.put_first(self._tally.take(sent))
        if time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self._save()
        self._screen.show(self._progress, self._content.survey.size, self._flight.trouble)
        return acted

    def _end(self) -> None:
        outcome, counts = self._outcome, self._progress.counts
        if self._is_stopping:
            self._land_within(_STOP_SECONDS)
        if not self._is_read or self._flight.batches:
            outcome.exit_code = self._stopping.exit_code
            done = f"{self._progress.number:,}"
            outcome.problem = f"interrupted after row {done}; the same command goes on from there"
        elif self._content.source.is_changed:
            raise Problem(f"{outcome.file} was changed while it was read; load it again")
        elif counts.accounted != counts.read:
            self._journal.remove()
            missing = counts.read - counts.accounted
            verb = agree(missing, "is", "are")
            raise Problem(f"{count(missing, 'row')} {verb} not accounted for; load it again")

    def _land_within(self, seconds: float) -> None:
        under_way = self._flight.batches
        self._screen.say(f"stopping once the batches under way ({under_way}) are done; again to stop at once")
        deadline = time.monotonic() + seconds
        while self._flight.is_any_under_way and time.monotonic() < deadline:
            if not self._turn(publish=False):
                time.sleep(_POLL_SECONDS)

    def _keep(self) -> None:
        self._outcome.rejects = str(self._rejects.path) if self._rejects.size else None
        self._rejects.close()
        if self._outcome.exit_code == 0 and self._outcome.problem is None and not self._flight.batches:
            self._journal.remove()
        else:
            self._save()
            self._outcome.exit_code = self._outcome.exit_code or 1
        if self._journal.problem:
            self._screen.say(f"{self._journal.problem}; an interrupted load will start from the beginning")

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        self._journal.save(self._progress)


def _say_types(screen: Screen, opened: Opened) -> None:
    if opened.types:
        types = [f"{name}={kind}" for name, kind in opened.types.items()]
        more = f" and {len(types) - _SAID:,} more" if len(types) > _SAID else ""
        screen.say(f"types: {','.join(types[:_SAID])}{more}")
    for note in opened.notes[:_SAID]:
        screen.say(note)
    if len(opened.notes) > _SAID:
        screen.say(f"so it is with {len(opened.notes) - _SAID:,} more columns")
