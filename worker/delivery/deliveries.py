"""Whether a delivered message may run, and what becomes of one that must not."""

import logging
import math
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from billiard import current_process
from kombu.exceptions import KombuError, OperationalError
from kombu.serialization import dumps, loads
from redis import RedisError

from .. import events
from ..board import process_identity
from ..broker import message, original
from ..broker.original import is_redelivered
from ..errors import DeadLetteredError
from ..events import Event
from ..process.process import Mongo, current_slot
from ..store import records
from ..store.records import UnreadableError
from ..text import count
from .attempts import Admission, Attempt, Attempts, Delivered, Rule, admit, last_killed
from .dead_letters import DeadLetters, Letter

if TYPE_CHECKING:
    from ..fleet.registry import Registry
    from .stores import Stores

logger = logging.getLogger("celery_pymongo.task")

ALIVE_SECONDS = 60.0
"""How long a process of another host may be silent before a run of its counts as ended by force."""

# Told of a letter; never the arguments, nor their representation.
_HEADERS = ("retries", "eta", "expires", "timelimit", "root_id", "parent_id", "group", "origin")
_POST_MORTEMS = 50
# Of a process that was killed.
_PROCESS = ("node", "slot", "pid")


class Deliveries:
    """The deliveries of this process's tasks. `task` is a task with its request, in its own thread."""

    def __init__(self, mongo: Mongo, registry: "Registry", attempts: Attempts, letters: DeadLetters) -> None:
        self._mongo = mongo
        self._registry = registry
        self._attempts = attempts
        self.letters = letters

    @classmethod
    def of(cls, mongo: Mongo, stores: "Stores") -> "Deliveries":
        """Return those of the deployment that the settings name; no I/O."""
        settings, redis = mongo.settings, stores.client
        # As the results, by which Celery knows what is done.
        done_seconds = math.ceil(2 * settings.visibility_timeout_seconds)
        attempts = Attempts(redis, stores.key, done_seconds=done_seconds)
        return cls(mongo, stores.registry, attempts, DeadLetters(redis, stores.key))

    def begin(self, task: Any) -> str | None:
        """Ask whether this run may begin, where that is a question; return its own id, for `end`.

        None where nothing was noted: the first delivery of an idempotent task, or Redis is away and such a
        task runs all the same. Raises DeadLetteredError where it must not run, RedisError where nobody can
        tell and the task must not run twice, StillRunningError where another run has not ended.
        """
        if task.idempotent and not is_redelivered(task.request):
            return None
        run_id = uuid.uuid4().hex
        try:
            earlier = self._attempts.begin(_delivered(task), run_id, self._own(task))
        except RedisError:
            if task.idempotent:
                return None
            raise
        rule = Rule(task.idempotent, self._mongo.settings.poison_limit)
        admission, forced = admit(earlier, rule, lives=self._lives, goes_on=_goes_on)
        if admission is Admission.RUN:
            return run_id
        self.end(task, run_id)
        if admission is Admission.WAIT:
            raise StillRunningError(task.request.id)
        killed = last_killed(earlier, lives=self._lives, goes_on=_goes_on)
        raise self.refuse(task, admission, forced=forced, killed=killed)

    def end(self, task: Any, run_id: str, *, is_done: bool = False) -> None:
        """Note that a run ended; `is_done`: and that none may follow. Never raises Redis' errors: a run
        ends with its process at the latest.
        """
        must_not_follow = is_done and not task.idempotent
        try:
            (self._attempts.finish if must_not_follow else self._attempts.end)(_delivered(task), run_id)
        except RedisError as error:
            logger.debug("the end of a run was not noted: %s", type(error).__name__)

    def give_back(self, task: Any) -> None:
        """Note that a first delivery goes back to the broker, by us. Never raises Redis' errors."""
        if not task.idempotent or is_redelivered(task.request):
            return
        try:
            self._attempts.give_back(_delivered(task))
        except RedisError as error:
            logger.debug("that a task went back was not noted: %s", type(error).__name__)

    def interrupt(self, task: Any, run_id: str | None) -> None:
        """Note that a signal ends this process in the middle of a run that may follow again; `run_id` is what
        `begin` returned. Never raises Redis' errors.
        """
        main = os.getppid() if current_process().name != "MainProcess" else os.getpid()
        own = replace(self._own(task), main_pid=main, main_born=process_identity.born(main))
        try:
            self._attempts.interrupt(_delivered(task), run_id or uuid.uuid4().hex, own)
        except RedisError as error:
            logger.debug("that a run was interrupted was not noted: %s", type(error).__name__)

    def refuse(
        self,
        task: Any,
        reason: Admission,
        *,
        forced: int = 0,
        error: BaseException | None = None,
        killed: Attempt | None = None,
    ) -> DeadLetteredError:
        """Put the message to the dead letters; return the error with which its task ends.

        Raises NotKeptError where it could not be kept: then it has to go back to the broker.
        """
        try:
            letter = self._keep(self._letter(task, reason, forced=forced, error=error, killed=killed), task)
        except Exception as cause:
            # Redis away, a header that cannot be stored, a serializer of the app's: whatever it is.
            raise NotKeptError(f"its message could not be kept ({type(cause).__name__})") from cause
        text = "%s[%s] goes to the dead letters: %s"
        args = (task.name, task.request.id, _words(letter))
        fields = {"reason": letter.reason, "task": task.name, "task_id": task.request.id}
        events.say(logger, logging.ERROR, Event.TASK_DEAD, text, *args, **fields)
        return DeadLetteredError(f"{_words(letter)}; it is kept: celery -A … mongo dead show {letter.id}")

    def _keep(self, letter: Letter, task: Any) -> Letter:
        # The runs stay known: the acknowledgement of this one may be lost, too.
        return self.letters.put(letter, original.of(task.request) or _signature(task))

    def _letter(
        self,
        task: Any,
        reason: Admission,
        *,
        forced: int,
        error: BaseException | None,
        killed: Attempt | None,
    ) -> Letter:
        request = task.request
        return Letter(
            id=request.id,
            task=task.name,
            queue=(request.delivery_info or {}).get("routing_key") or "",
            reason=str(reason),
            at=round(time.time(), 3),
            node=self._mongo.place.node,
            slot=current_slot(),
            pid=os.getpid(),
            forced=forced,
            # The class alone: its text may quote documents.
            error=None if error is None else type(error).__name__,
            headers={name: value for name in _HEADERS if (value := getattr(request, name, None))},
            post_mortem=self._post_mortem(request.id),
            task_id=request.id,
            message=message.name_of(task),
            killed=None if killed is None else {name: getattr(killed, name) for name in _PROCESS},
        )

    def send_again(self, app: Any, letter_id: str) -> bool:
        """Send a letter's message to its queue, as it was but for its `expires`; False where there is none.

        Raises RedisError, the broker's OperationalError or UnreadableError; the letter stays until the broker
        has the message.
        """
        letter, kept = self.letters.find(letter_id), self.letters.message(letter_id)
        if letter is None or kept is None:
            return False
        self._attempts.forget(Delivered(letter.task_id, letter.message))
        # Confirmed, where the broker would else say nothing of a message that it never got.
        confirmed = self._mongo.copies.options()
        if isinstance(kept, str):
            _signature_of(app, kept, letter_id).apply_async(**confirmed)
        else:
            _send(app, kept, letter_id, confirmed)
        # It may be back already.
        self.letters.drop_same(letter)
        return True

    def _own(self, task: Any) -> Attempt:
        left = task.seconds_left()
        pid = os.getpid()
        return Attempt(
            node=self._mongo.place.node,
            slot=current_slot(),
            pid=pid,
            born=process_identity.born(pid),
            host=process_identity.boot_id(),
            until=time.time()
            + (self._mongo.settings.visibility_timeout_seconds if left is None else 2 * left),
        )

    def _lives(self, attempt: Attempt) -> bool:
        """Say whether the process of a run lives, and the run with it for all that is known."""
        if time.time() > attempt.until:
            return False
        if attempt.host == process_identity.boot_id():
            return process_identity.is_alive(attempt.pid, attempt.born)
        try:
            silence = self._registry.silence(attempt.member, attempt.pid)
        except (RedisError, UnreadableError):
            return True
        return silence is not None and silence < ALIVE_SECONDS

    def _post_mortem(self, task_id: str) -> dict[str, Any] | None:
        try:
            found = self._registry.postmortems(_POST_MORTEMS).found
        except RedisError:
            return None
        return next((one for one in found if (one.get("task") or {}).get("id") == task_id), None)


def _signature(task: Any) -> str:
    """Return all that is known of a message that was taken in a way of the app's own."""
    _, _, text = dumps(task.signature_from_request(task.request), serializer="json")
    return str(text)


def _signature_of(app: Any, text: str, letter_id: str) -> Any:
    """Return the signature of an old letter, without its `expires`."""
    try:
        told = loads(text, "application/json", "utf-8", accept={"application/json"})
        told["options"].pop("expires", None)
        return app.signature(told)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, KombuError) as error:
        raise UnreadableError(records.MESSAGE.at(letter_id)) from error


def _send(app: Any, kept: original.Original, letter_id: str, options: Mapping[str, Any]) -> None:
    """Send a message as it was. Raises UnreadableError where what was kept of it makes no message."""
    try:
        message.send(app, kept, **options)
    except OperationalError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, KombuError) as error:
        raise UnreadableError(records.MESSAGE.at(letter_id)) from error


def _delivered(task: Any) -> Delivered:
    return Delivered(task.request.id, message.name_of(task), is_first=message.is_first_delivery(task))


def _goes_on(attempt: Attempt) -> bool:
    """Say whether the node of an interrupted run certainly goes on; of another host's nobody can tell.

    A message that interrupts its process each time comes to a host that knows it before long.
    """
    if attempt.main_pid is None or attempt.host != process_identity.boot_id():
        return False
    return process_identity.is_alive(attempt.main_pid, attempt.main_born)


class NotKeptError(RuntimeError):
    """A message could not be put to the dead letters, and must not be acknowledged."""


class StillRunningError(RuntimeError):
    """Another run of the message has not ended, and its task must not run twice."""


def _words(letter: Letter) -> str:
    if letter.reason == Admission.POISON:
        return f"its process was killed {count(letter.forced, 'time')} in the middle of it"
    return "it may have written, and must not run twice" + (f" ({letter.error})" if letter.error else "")
