"""The one reader of what stands in Redis: a record is as it should be, or it is unreadable.

Anybody who can write to Redis can leave anything there, and so may another version of this package. Whoever
meets an unreadable record does without it, notes it, and knows less: what it would have told is unknown.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from redis.exceptions import ResponseError

from ..text import agree, count
from . import exact_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

_SHOWN, _KEY = 5, 120
_MOST_COUNTED = 1e15
_ODD = re.compile(r"[^\x20-\x7e]")
# JSON may escape half a character, which no other program takes.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


class UnreadableError(ValueError):
    """A record is there and is not what it should be. `record` says which."""

    def __init__(self, record: "Unreadable") -> None:
        self.record = record
        where = f" in Redis is not readable: {record.key}" if record.key else " is not readable"
        super().__init__(f"{record.kind}{where}")


@dataclass(frozen=True, slots=True, order=True)
class Unreadable:
    """A record that cannot be read: what it is, and its key, printable, with the field or member in it."""

    kind: str
    key: str


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """What was read, and which records could not be."""

    found: T
    unreadable: tuple[Unreadable, ...] = ()


class RecordKind(Generic[T]):
    """A kind of record: `name` for people, with an article, and in `record_shapes` what it has."""

    def __init__(self, name: str, shape: str, *, parse: Callable[[bytes], Any] | None = None) -> None:
        self.name = name
        self._shape = shape
        self._parse = parse

    @cached_property
    def _adapter(self) -> "TypeAdapter[Any]":
        # When the first one is read: to build all of them takes a process tens of milliseconds.
        from pydantic import TypeAdapter
        from typing_extensions import is_typeddict

        from . import record_shapes

        shape = getattr(record_shapes, self._shape)
        return TypeAdapter(shape, config=None if is_typeddict(shape) else record_shapes.RULES)

    def read(self, reply: Any, key: str, *within: str | bytes) -> T:
        """Return the record that Redis replied; `key`, and what is named `within` it, say where that stood.

        Raises UnreadableError for anything else, a value of another type too, and what Redis answers instead.
        """
        text = text_of(reply, self.name, key, *within)
        try:
            record: T = self._read(text)
        except (ValueError, TypeError, LookupError, RecursionError, ArithmeticError) as error:
            raise UnreadableError(self.at(key, *within)) from error
        return record

    def _read(self, text: bytes) -> Any:
        if self._parse is not None:
            return self._adapter.validate_python(self._parse(text))
        try:
            return self._adapter.validate_json(text)
        except ValueError:
            if not _HALF.search(text):
                raise
            return self._adapter.validate_json(_whole(text))

    def check(self, told: Any) -> T:
        """Return what was told by a message, decoded already. Raises UnreadableError for anything else."""
        try:
            record: T = self._adapter.validate_python(told)
        except (ValueError, RecursionError) as error:
            raise UnreadableError(Unreadable(self.name, "")) from error
        return record

    def at(self, key: str, *within: str | bytes) -> Unreadable:
        """Return the record of this kind that stands there, as one that cannot be read."""
        return Unreadable(self.name, shown(key, *within))


def replied(ask: Callable[[], Any]) -> Any:
    """Return what Redis replies, or its error where a key holds a value of another type."""
    try:
        return ask()
    except ResponseError as error:
        if not is_of_another_type(error):
            raise
        return error


def is_other(reply: Any) -> bool:
    """Say whether a key holds a value of another type, by the reply. Raises what else Redis answered."""
    if isinstance(reply, Exception) and not is_of_another_type(reply):
        raise reply
    return isinstance(reply, Exception)


def listed(reply: Any, record: Unreadable, bad: list[Unreadable]) -> Sequence[Any]:
    """Return a reply that is a list; nothing where the key holds something else: then `record`, which stands
    there, is added to `bad`. Raises what else Redis answered.
    """
    if is_other(reply):
        bad.append(record)
        return []
    found: Sequence[Any] = reply
    return found


def counts_of(fields: Mapping[bytes, bytes]) -> dict[str, int | None]:
    """Return the counts of a hash by their names; None for each that is none."""
    read = {name.decode(errors="replace"): number_of(n, most=_MOST_COUNTED) for name, n in fields.items()}
    return {name: None if number is None else int(number) for name, number in read.items()}


def clock(reply: Any) -> float:
    """Return Redis' own time, unix seconds, by its reply to TIME. Raises what it answered instead."""
    if isinstance(reply, Exception):
        raise reply
    seconds, micros = reply
    return float(seconds + micros / 1e6)


def text_of(reply: Any, kind: str, key: str, *within: str | bytes) -> bytes:
    """Return a reply that is text. Raises UnreadableError where the key holds something else, and what Redis
    answers instead of it.
    """
    if isinstance(reply, bytes):
        return reply
    is_other(reply)
    raise UnreadableError(Unreadable(kind, shown(key, *within)))


def is_of_another_type(error: BaseException) -> bool:
    """Say whether Redis answers that a key holds a value of another type than was asked for."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def number_of(text: Any, *, most: float) -> float | None:
    """Return a number of 0 to `most` that stands in Redis by itself; None for anything else."""
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number <= most else None


def shown(key: str, *within: str | bytes) -> str:
    """Return a key and what stands in it in printable ASCII, of bounded length."""
    texts = [part.decode(errors="surrogateescape") if isinstance(part, bytes) else part for part in within]
    plain = [_ODD.sub(_escaped, text[:_KEY]) for text in (key, *texts)]
    return " ".join(plain)


def answer(command: str, told: Any) -> Any:
    """Return what a node answered to a command of remote control, where that is what it should be."""
    kind = _ANSWERS.get(command, _ANSWER)
    try:
        return kind.check(told)
    except UnreadableError as error:
        return {"error": str(error)}


def words(unreadable: Collection[Unreadable]) -> str:
    """Return how many records cannot be read, and the keys of the first."""
    keys: Sequence[str] = sorted({record.key for record in unreadable})
    more = f" and {len(keys) - _SHOWN:,} more" if len(keys) > _SHOWN else ""
    number = len(keys)
    return (
        f"{count(number, 'record')} in Redis {agree(number, 'is', 'are')} not readable: "
        f"{agree(number, 'key', 'keys')} {', '.join(keys[:_SHOWN])}{more}"
    )


def _escaped(odd: re.Match[str]) -> str:
    number = ord(odd[0])
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def _whole(text: bytes) -> bytes:
    """Return JSON with ? for each half of a character."""
    return json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace")


REPORT: RecordKind[dict[str, Any]] = RecordKind("a process's report", "ReportShape")
MEMBER = "a process's name"
SILENT = "the end of the last silence"
NODE: RecordKind[dict[str, Any]] = RecordKind("a node's record", "NodeShape")
COUNTERS: RecordKind[dict[str, Any]] = RecordKind("a node's counters", "NodeCountersShape")
POST_MORTEM: RecordKind[dict[str, Any]] = RecordKind("a post-mortem", "PostMortemShape")
VERDICT: RecordKind[dict[str, Any]] = RecordKind("the last verdict", "VerdictShape")
PAUSED: RecordKind[dict[str, Any]] = RecordKind("what operators paused", "Paused")
BEAT: RecordKind[dict[str, Any]] = RecordKind("a beat's tick", "BeatShape")
ENTRY: RecordKind[dict[str, Any]] = RecordKind("a snapshot of the history", "Entry")
DRILL: RecordKind[dict[str, Any]] = RecordKind("a drill", "DrillShape")
ATTEMPT: RecordKind[dict[str, Any]] = RecordKind("a run", "AttemptShape")
LETTER: RecordKind[dict[str, Any]] = RecordKind("a dead letter", "LetterShape")
MESSAGE: RecordKind[dict[str, Any]] = RecordKind(
    "a dead letter's message", "MessageShape", parse=exact_json.loads
)
OUTAGE: RecordKind[dict[str, Any]] = RecordKind("the last outage", "OutageShape")
COUNT = "what an outage cost"
CRON_WINDOW: RecordKind[tuple[str, int, int, dict[str, Any]]] = RecordKind("a window of runs", "CronWindow")
QUEUE = "a queue"
CONSUMER: RecordKind[tuple[str, str]] = RecordKind("who consumes a queue", "Consumer")

_ANSWER: RecordKind[Any] = RecordKind("its answer", "AnswerShape")
_ANSWERS: dict[str, RecordKind[Any]] = {
    "mongo_pools": RecordKind("its answer", "PoolsShape"),
    "mongo_flight": RecordKind("its answer", "FlightsShape"),
    "mongo_health": RecordKind("its answer", "HealthShape"),
    "active_queues": RecordKind("its answer", "ActiveQueues"),
}
"""What nodes answer, by the command; all others say that it is done, or why not."""
