"""Messages that must not run again by themselves, kept until a person decides: the dead letters.

A letter is known by the id of its task; one that comes again takes the place of the former. What it says of
the message, without the arguments, and the message itself are kept apart, so that listing reads no document.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis

_CHUNK = 200


@dataclass(frozen=True)
class Letter:
    """What is told of a dead letter: no argument, no document. `at` is unix seconds by the host's clock.

    `reason` is `poison` or `outcome unknown`; `forced` counts its runs that were ended by force.
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

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


class DeadLetters:
    """The dead letters of one deployment, in Redis, without expiry. Methods raise redis.RedisError."""

    def __init__(self, redis: "redis.Redis", key: Callable[..., str]) -> None:
        self._redis: Any = redis
        self._key = key
        self._index = key("dead-letters")

    def put(self, letter: Letter, body: str) -> None:
        """Keep a letter and its message; once this returns it is in Redis as a whole."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._name(letter.id), mapping={"letter": _text(letter), "body": body})
            pipe.zadd(self._index, {letter.id: letter.at}).execute()

    def letters(self) -> Iterator[Letter]:
        """Yield every letter, the oldest first."""
        ids = [name.decode() for name in self._redis.zrange(self._index, 0, -1)]
        for start in range(0, len(ids), _CHUNK):
            with self._redis.pipeline(transaction=False) as pipe:
                for one in ids[start : start + _CHUNK]:
                    pipe.hget(self._name(one), "letter")
                yield from (Letter(**json.loads(text)) for text in pipe.execute() if text)

    def count(self) -> int:
        """Return how many there are."""
        return int(self._redis.zcard(self._index))

    def find(self, letter_id: str) -> Letter | None:
        """Return one letter; None where there is none of this id."""
        text = self._redis.hget(self._name(letter_id), "letter")
        return None if text is None else Letter(**json.loads(text))

    def body(self, letter_id: str) -> str | None:
        """Return the message of a letter: the JSON of the task's signature, documents and all."""
        text: bytes | None = self._redis.hget(self._name(letter_id), "body")
        return None if text is None else text.decode()

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
            is_same = pipe.hget(name, "letter") == _text(letter).encode()
            pipe.multi()
            if is_same:
                pipe.delete(name).zrem(self._index, letter.id)

        self._redis.transaction(drop, name)

    def _name(self, letter_id: str) -> str:
        return self._key("dead-letter", letter_id)


def _text(letter: Letter) -> str:
    return json.dumps(letter.to_dict(), separators=(",", ":"))
