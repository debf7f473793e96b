"""Which runs of a message began and did not end: Redis keeps no count of deliveries.

The healthy path costs nothing: only a run whose message was delivered before, or whose task must not run
twice, says that it begins and that it ends. One that began and whose process is gone has been ended by force.
One whose process was told to end by a signal says so. In a shutdown its node ends, too, and that is no fault
of the message; where the node goes on the signal was for this process alone, from its own task perhaps.
What must not run twice is remembered beyond its end, too: its acknowledgement may be lost.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ..store import records
from ..store.records import UnreadableError

if TYPE_CHECKING:
    import redis

_GIVEN_BACK = "given-back"
_DONE = "done"

KEPT_SECONDS = 7 * 86_400
"""How long a run that began and did not end is remembered at least: as long as `once` keeps its markers. Its
message may wait in the broker through a long outage before it is delivered again.
"""


@dataclass(frozen=True)
class Attempt:
    """A run that began: in which process, and until when it may last, unix seconds. `host` names the boot and
    namespace of the pid, `born` when the process started in clock ticks; see `process_identity`.

    `main_pid` and `main_born` name the main process of its node where a signal interrupted the run, before it
    wrote anything that must not be written twice; None where none did.
    """

    node: str
    slot: int
    pid: int
    born: int | None
    host: str
    until: float
    main_pid: int | None = None
    main_born: int | None = None

    @property
    def member(self) -> str:
        """The name of its process in the registry."""
        return f"{self.node}/{self.slot}"

    @property
    def was_interrupted(self) -> bool:
        """Whether a signal ended it, harmlessly."""
        return self.main_pid is not None


@dataclass(frozen=True)
class Earlier:
    """What is known of the runs before this one. `was_given_back`: the first delivery, and by us. `is_done`:
    one came to its end, and its task must not run twice. `unreadable` counts the runs that were noted and of
    which nothing can be told.
    """

    was_given_back: bool
    attempts: Sequence[Attempt]
    is_done: bool = False
    unreadable: int = 0


class Admission(StrEnum):
    """Whether a run may begin."""

    RUN = "run"
    WAIT = "another run of it has not ended"
    POISON = "poison"
    UNKNOWN = "outcome unknown"


@dataclass(frozen=True)
class Rule:
    """What a task allows: that it runs more than once, and how many of its runs may be ended by force."""

    is_idempotent: bool
    limit: int


def admit(
    earlier: Earlier,
    rule: Rule,
    *,
    lives: Callable[[Attempt], bool],
    goes_on: Callable[[Attempt], bool] = lambda _attempt: False,
) -> tuple[Admission, int]:
    """Return whether a run may begin, and how many before it were ended by force.

    `lives` says of a run whether it may still go on, `goes_on` of one that was interrupted whether its node
    certainly does. The first delivery of a message says nothing when it begins, unless its task must not run
    twice. So where the broker delivers it again and we did not give it back, it counts as one that was ended
    by force. So does a run of which nothing can be told.
    """
    begun = [attempt for attempt in earlier.attempts if not attempt.was_interrupted]
    interrupted = sum(goes_on(attempt) for attempt in earlier.attempts if attempt.was_interrupted)
    living = sum(map(lives, begun))
    killed = len(begun) - living + earlier.unreadable
    forced = killed + interrupted
    if rule.is_idempotent:
        forced += not earlier.was_given_back
    elif living:
        return Admission.WAIT, forced
    elif killed or earlier.is_done:
        return Admission.UNKNOWN, forced
    return (Admission.POISON if forced >= rule.limit else Admission.RUN), forced


def last_killed(
    earlier: Earlier, *, lives: Callable[[Attempt], bool], goes_on: Callable[[Attempt], bool]
) -> Attempt | None:
    """Return the last of the runs that were ended by force, as far as they are known; see `admit`."""
    killed = [one for one in earlier.attempts if (goes_on(one) if one.was_interrupted else not lives(one))]
    return max(killed, key=lambda attempt: attempt.until, default=None)


@dataclass(frozen=True)
class Delivered:
    """Which message the runs are of: its task's id, and its name beside that, see `message`.

    `is_first`: it is certainly delivered for the first time.
    """

    task_id: str
    message: str
    is_first: bool = False


class Attempts:
    """The runs of each message in Redis. Methods raise redis.RedisError.

    What is done is remembered for `done_seconds`, all else for KEPT_SECONDS, after the last word. What a
    version before has noted, by the task's id alone, counts for each of its messages.
    """

    def __init__(self, redis: "redis.Redis", key: Callable[..., str], *, done_seconds: int) -> None:
        self._redis: Any = redis
        self._key = key
        self._done_seconds = done_seconds

    def begin(self, of: Delivered, run_id: str, own: Attempt) -> Earlier:
        """Say that a run begins; return what is known of those before. One round trip."""
        name = self._name(of)
        with self._redis.pipeline() as pipe:
            if of.is_first:
                pipe.delete(name, self._name_before(of))
            pipe.hgetall(self._name_before(of)).hgetall(name)
            pipe.hset(name, run_id, json.dumps(asdict(own))).expire(name, KEPT_SECONDS)
            replies = pipe.execute(raise_on_error=False)[-4:]
        *hashes, noted, _ = replies
        unreadable = sum(map(records.is_other, hashes))
        if records.is_other(noted):
            # Something else stands there: this run has to be noted all the same.
            with self._redis.pipeline() as pipe:
                pipe.delete(name).hset(name, run_id, json.dumps(asdict(own))).expire(name, KEPT_SECONDS)
                pipe.execute()
        told = {field: text for found in hashes if isinstance(found, dict) for field, text in found.items()}
        was_given_back = told.pop(_GIVEN_BACK.encode(), None) is not None
        is_done = told.pop(_DONE.encode(), None) is not None
        attempts = [_attempt(text, name, field) for field, text in told.items()]
        known = [attempt for attempt in attempts if attempt is not None]
        return Earlier(was_given_back, known, is_done, unreadable + len(attempts) - len(known))

    def end(self, of: Delivered, run_id: str) -> None:
        """Say that a run ended and another may follow."""
        self._redis.hdel(self._name(of), run_id)

    def finish(self, of: Delivered, run_id: str) -> None:
        """Say that a run ended, and that none may follow."""
        name = self._name(of)
        with self._redis.pipeline() as pipe:
            pipe.hdel(name, run_id).hset(name, _DONE, "1").expire(name, self._done_seconds).execute()

    def give_back(self, of: Delivered) -> None:
        """Say that the first delivery goes back to the broker, by us, and was not ended by force."""
        name = self._name(of)
        with self._redis.pipeline() as pipe:
            pipe.hset(name, _GIVEN_BACK, "1").expire(name, KEPT_SECONDS).execute()

    def interrupt(self, of: Delivered, run_id: str, own: Attempt) -> None:
        """Say that a signal ended a run whose message goes back, by us; `own` names the main process."""
        name = self._name(of)
        with self._redis.pipeline() as pipe:
            pipe.hset(name, mapping={run_id: json.dumps(asdict(own)), _GIVEN_BACK: "1"})
            pipe.expire(name, KEPT_SECONDS).execute()

    def forget(self, of: Delivered) -> None:
        """Forget all runs: the message is no more."""
        self._redis.delete(self._name(of), self._name_before(of))

    def _name(self, of: Delivered) -> str:
        return self._key("attempts", of.task_id, of.message)

    def _name_before(self, of: Delivered) -> str:
        return self._key("attempts", of.task_id)


def _attempt(text: bytes, name: str, field: bytes) -> Attempt | None:
    """Return a run as it was noted, None where that cannot be read; a later version may have noted more."""
    try:
        return Attempt(**records.ATTEMPT.read(text, name, field))
    except UnreadableError:
        return None
