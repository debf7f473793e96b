"""Events of our own that wait for the reporter's tick, which asks Redis whether the fleet has told them."""

import hashlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis import RedisError

if TYPE_CHECKING:
    from ..fleet.registry import Registry

logger = logging.getLogger("celery_pymongo.sentry")

MOST = 100


@dataclass(frozen=True)
class Letter:
    """An event, and of how many seconds the fleet sends one with its fingerprint."""

    event: dict[str, Any]
    every: float

    @property
    def name(self) -> str:
        """The same for all that Sentry groups with it."""
        return hashlib.sha256("\n".join(self.event["fingerprint"]).encode()).hexdigest()[:16]


class Outbox:
    """Any thread puts letters in, one takes them out. What there is no room for takes the oldest's place."""

    def __init__(self, registry: "Registry", send: Callable[[dict[str, Any]], None]) -> None:
        self._registry = registry
        self._send = send
        self._letters: deque[Letter] = deque(maxlen=MOST)
        self._quiet: dict[str, float] = {}

    def put(self, letter: Letter) -> None:
        """Keep one for the next tick."""
        self._letters.append(letter)

    def empty(self, now: float, *, may_ask: bool) -> None:
        """Send what nobody of the fleet has sent lately. `now` is monotonic; where Redis may not be asked, or
        does not answer, this process alone counts: twice is better than never.
        """
        while self._letters:
            letter = self._letters.popleft()
            if now < self._quiet.get(letter.name, float("-inf")):
                continue
            self._quiet[letter.name] = now + letter.every
            if not may_ask or not letter.every or self._is_first(letter):
                self._send(letter.event)

    def _is_first(self, letter: Letter) -> bool:
        try:
            return self._registry.lead(f"sentry-{letter.name}", letter.every)
        except (RedisError, OSError) as error:
            logger.debug("Redis does not say who told it: %s", type(error).__name__)
            return True
