"""Messages that must not run again by themselves, kept until a person decides: the dead letters.

A letter is known by the id of its task, and by the message's name too where another of that id is here; one
that comes again takes the place of the former. What it says of the message, without the arguments, and the
message itself are kept apart, so that listing reads no document. The message is kept as it came, byte for
byte; before version 2 it was its task's signature, as JSON.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from . import exact_json
from .original import Original, raw

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
    """The dead letters of one deployment, in Redis, without expiry. Methods raise redis.RedisError."""

    def __init__(self, redis: "redis.Redis", key: Callable[..., str]) -> None:
        self._redis: Any = redis
        self._key = key
        self._index = key("dead-letters")

    def put(self, letter: Letter, message: Original | str) -> Letter:
        """Keep a letter and its message, or the JSON of its signature; once this returns it is in Redis as a
        whole. Returns the letter, whose id names its message where one of another has the task's.

        Raises TypeError where a header of the message cannot be kept as it is.
        """
        stored = {"body": message} if isinstance(message, str) else _stored(message)
        name = self._name(letter.id)

        def put(pipe: Any) -> Letter:
            standing = _letter(pipe.hget(name, "letter"))
            is_others = standing is not None and standing.message != letter.message
            kept = replace(letter, id=f"{letter.id}~{letter.message[:8]}") if is_others else letter
            pipe.multi()
            pipe.delete(self._name(kept.id)).hset(
                self._name(kept.id), mapping={"letter": _text(kept), **stored}
            )
            pipe.zadd(self._index, {kept.id: kept.at})
            return kept

        kept: Letter = self._redis.transaction(put, name, value_from_callable=True)
        return kept

    def letters(self) -> Iterator[Letter]:
        """Yield every letter, the oldest first."""
        ids = [name.decode() for name in self._redis.zrange(self._index, 0, -1)]
        for start in range(0, len(ids), _CHUNK):
            with self._redis.pipeline(transaction=False) as pipe:
                for one in ids[start : start + _CHUNK]:
                    pipe.hget(self._name(one), "letter")
                yield from (letter for letter in map(_letter, pipe.execute()) if letter is not None)

    def count(self) -> int:
        """Return how many there are."""
        return int(self._redis.zcard(self._index))

    def find(self, letter_id: str) -> Letter | None:
        """Return one letter; None where there is none of this id."""
        return _letter(self._redis.hget(self._name(letter_id), "letter"))

    def message(self, letter_id: str) -> Original | str | None:
        """Return the message of a letter, documents and all; of an old one its task's signature, as JSON."""
        body, text = self._redis.hmget(self._name(letter_id), "body", "message")
        if body is None:
            return None
        return body.decode() if text is None else _message(body, text)

    def describe(self, letter_id: str) -> Any:
        """Return the message of a letter in plain JSON types; nothing of it is run, as a pickle would be."""
        message = self.message(letter_id)
        if message is None or isinstance(message, str):
            return json.loads(message or "null")
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
            is_same = _letter(pipe.hget(name, "letter")) == letter
            pipe.multi()
            if is_same:
                pipe.delete(name).zrem(self._index, letter.id)

        self._redis.transaction(drop, name)

    def _name(self, letter_id: str) -> str:
        return self._key("dead-letter", letter_id)


def _text(letter: Letter) -> str:
    return json.dumps(letter.to_dict(), separators=(",", ":"), default=str)


def _letter(text: bytes | None) -> Letter | None:
    """Return a letter as it was kept; a later version may have kept more."""
    if text is None:
        return None
    kept = json.loads(text)
    letter = Letter(**{one.name: kept[one.name] for one in fields(Letter) if one.name in kept})
    return letter if letter.task_id else replace(letter, task_id=letter.id)


def _stored(message: Original) -> dict[str, str | bytes]:
    told = {"v": _VERSION, "is_text": isinstance(message.body, str), **_beside_body(message)}
    return {"body": message.body, "message": exact_json.dumps(told)}


def _beside_body(message: Original) -> dict[str, Any]:
    return {one.name: getattr(message, one.name) for one in fields(Original) if one.name != "body"}


def _readable(body: bytes, content_type: str | None) -> dict[str, Any]:
    with suppress(ValueError):
        text = body.decode()
        return {"json": json.loads(text)} if content_type == "application/json" else {"text": text}
    return {"base64": b64encode(body).decode()}


def _message(body: bytes, text: bytes) -> Original:
    told = exact_json.loads(text)
    kept = {one.name: told[one.name] for one in fields(Original) if one.name in told}
    return Original(body=body.decode() if told["is_text"] else body, **kept)
