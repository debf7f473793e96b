"""Messages that must not run again by themselves, kept until a person decides: the dead letters.

A letter is known by the id of its task, and by the message's name too where another of that id is here; one
that comes again takes the place of the former. What it says of the message, without the arguments, and the
message itself are kept apart, so that listing reads no document. The message is kept as it came, byte for
byte; before version 2 it was its task's signature, as JSON. One that cannot be read does not hide the others.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from ..broker.original import Original, raw
from ..store import exact_json, records
from ..store.records import Unreadable, UnreadableError

if TYPE_CHECKING:
    import redis

_CHUNK = 200
_VERSION = 2


@dataclass(frozen=True)
class Letter:
    """What is told of a dead letter: no argument, no document. `at` is unix seconds by the host's clock.

    `reason` is `poison` or `outcome unknown`; `forced` counts its runs that were ended by force, and `killed`
    is the process of the last of them. `node`, `slot` and `pid` are of the process that wrote the letter.
    `message` is the name of the message beside its `task_id`, see `message`.
    """

    id: str
    task: str
    queue: str
    reason: str
    at: float
    node: str
    slot: int
    pid: int
    forced: int = 0
    error: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    post_mortem: dict[str, Any] | None = None
    task_id: str = ""
    message: str = ""
    killed: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


class DeadLetters:
    """The dead letters of one deployment, in Redis, without expiry. Methods raise redis.RedisError, and
    UnreadableError where what they are asked for is there and cannot be read.
    """

    def __init__(self, redis: "redis.Redis", key: Callable[..., str]) -> None:
        self._redis: Any = redis
        self._key = key

    @property
    def _index(self) -> str:
        return self._key("dead-letters")

    def put(self, letter: Letter, message: Original | str) -> Letter:
        """Keep a letter and its message, or the JSON of its signature; once this returns it is in Redis as a
        whole. Returns the letter, whose id names its message where one of another has the task's.

        Raises TypeError where a header of the message cannot be kept as it is.
        """
        stored = {"body": message} if isinstance(message, str) else _stored(message)
        name = self._name(letter.id)

        def put(pipe: Any) -> Letter:
            is_others = self._is_others(records.replied(lambda: pipe.hget(name, "letter")), name, letter)
            kept = replace(letter, id=f"{letter.id}~{letter.message[:8]}") if is_others else letter
            pipe.multi()
            pipe.delete(self._name(kept.id)).hset(
                self._name(kept.id), mapping={"letter": _text(kept), **stored}
            )
            pipe.zadd(self._index, {kept.id: kept.at})
            return kept

        kept: Letter = self._redis.transaction(put, name, value_from_callable=True)
        return kept

    def letters(self, bad: list[Unreadable] | None = None) -> Iterator[Letter]:
        """Yield every letter, the oldest first; those that cannot be read are added to `bad`."""
        unreadable = [] if bad is None else bad
        ids = list(self._ids(unreadable))
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            with self._redis.pipeline(transaction=False) as pipe:
                for one in chunk:
                    pipe.hget(self._name(one), "letter")
                for one, reply in zip(chunk, pipe.execute(raise_on_error=False), strict=True):
                    try:
                        letter = _letter(reply, self._name(one))
                    except UnreadableError as error:
                        unreadable.append(error.record)
                    else:
                        yield from () if letter is None else (letter,)

    def _ids(self, bad: list[Unreadable]) -> Iterator[str]:
        names = records.replied(lambda: self._redis.zrange(self._index, 0, -1))
        for name in records.listed(names, records.LETTER.at(self._index), bad):
            try:
                yield name.decode()
            except ValueError:
                bad.append(records.LETTER.at(self._index, name))

    def count(self) -> int:
        """Return how many there are."""
        number = records.replied(lambda: self._redis.zcard(self._index))
        if isinstance(number, Exception):
            raise UnreadableError(records.LETTER.at(self._index)) from number
        return int(number)

    def find(self, letter_id: str) -> Letter | None:
        """Return one letter; None where there is none of this id."""
        name = self._name(letter_id)
        return _letter(records.replied(lambda: self._redis.hget(name, "letter")), name)

    def message(self, letter_id: str) -> Original | str | None:
        """Return the message of a letter, documents and all; of an old one its task's signature, as JSON."""
        name = self._name(letter_id)
        found = records.replied(lambda: self._redis.hmget(name, "body", "message"))
        if isinstance(found, Exception):
            raise UnreadableError(records.MESSAGE.at(name)) from found
        body, text = found
        if body is None:
            return None
        try:
            return body.decode() if text is None else _message(body, text, name)
        except UnicodeDecodeError as error:
            raise UnreadableError(records.MESSAGE.at(name)) from error

    def describe(self, letter_id: str) -> Any:
        """Return the message of a letter in plain JSON types; nothing of it is run, as a pickle would be."""
        message = self.message(letter_id)
        if message is None or isinstance(message, str):
            return _signature(message, self._name(letter_id))
        told = json.loads(exact_json.dumps(_beside_body(message)))
        body = raw(message)
        return told | {"bytes": len(body)} | _readable(body, message.content_type)

    def drop(self, letter_ids: Iterable[str]) -> int:
        """Forget these letters; return how many there were."""
        ids = list(letter_ids)
        with self._redis.pipeline(transaction=True) as pipe:
            for one in ids:
                pipe.delete(self._name(one)).zrem(self._index, one)
            return sum(pipe.execute()[1::2])

    def drop_same(self, letter: Letter) -> None:
        """Forget this letter, but not another that has taken its place meanwhile."""
        name = self._name(letter.id)

        def drop(pipe: Any) -> None:
            try:
                is_same = _letter(records.replied(lambda: pipe.hget(name, "letter")), name) == letter
            except UnreadableError:
                is_same = False
            pipe.multi()
            if is_same:
                pipe.delete(name).zrem(self._index, letter.id)

        self._redis.transaction(drop, name)

    @staticmethod
    def _is_others(reply: Any, name: str, letter: Letter) -> bool:
        """Say whether another message's letter stands there, or one that is unreadable: neither goes."""
        try:
            standing = _letter(reply, name)
        except UnreadableError:
            return True
        return standing is not None and standing.message != letter.message

    def _name(self, letter_id: str) -> str:
        return self._key("dead-letter", letter_id)


def _text(letter: Letter) -> str:
    return json.dumps(letter.to_dict(), separators=(",", ":"), default=str)


def _letter(reply: Any, name: str) -> Letter | None:
    """Return a letter as it was kept; a later version may have kept more."""
    if reply is None:
        return None
    letter = Letter(**records.LETTER.read(reply, name))
    return letter if letter.task_id else replace(letter, task_id=letter.id)


def _signature(text: str | None, name: str) -> Any:
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError) as error:
        raise UnreadableError(records.MESSAGE.at(name)) from error


def _stored(message: Original) -> dict[str, str | bytes]:
    told = {"v": _VERSION, "is_text": isinstance(message.body, str), **_beside_body(message)}
    return {"body": message.body, "message": exact_json.dumps(told)}


def _beside_body(message: Original) -> dict[str, Any]:
    return {one.name: getattr(message, one.name) for one in fields(Original) if one.name != "body"}


def _readable(body: bytes, content_type: str | None) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        text = body.decode()
        return {"json": json.loads(text)} if content_type == "application/json" else {"text": text}
    return {"base64": b64encode(body).decode()}


def _message(body: bytes, text: bytes, name: str) -> Original:
    told = records.MESSAGE.read(text, name)
    is_text = told.pop("is_text")
    return Original(body=body.decode() if is_text else body, **told)
