"""When a report is sent, and what is said where Redis is away: once that it is, once that it is back."""

import logging
import random
from collections.abc import Callable
from typing import Any

from redis import RedisError

from .. import events
from ..events import Event
from ..fleet.registry import Published, Registry, TooLargeError
from ..mongo.backoff import Backoff
from ..store import redis_errors
from ..store.records import RecordKind, UnreadableError
from ..store.redis_client import NoRedisError

logger = logging.getLogger("celery_pymongo.registry")

_SAID_SECONDS = 86_400.0


class Publisher:
    """Reports of one process: sent at once while Redis takes them, after a backoff while it does not.

    One thread uses it. Times are monotonic seconds, given by the caller. `speaks`: whether it is for this
    process to tell what each of its node meets. `lost`: which Redis it is and what is
    lost while it is away, for the log.
    """

    def __init__(
        self,
        registry: Registry,
        backoff: Backoff,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
        speaks: Callable[[], bool] = lambda: True,
        lost: Callable[[], str] = lambda: "",
    ) -> None:
        self._registry = registry
        self._backoff = backoff
        self._uniform = uniform
        self._speaks = speaks
        self._lost = lost
        self._failures = 0
        self._away_since = 0.0
        self._due_at = float("-inf")

    @property
    def is_away(self) -> bool:
        """True from a report that Redis did not take to the next that it takes."""
        return self._failures > 0

    def publish(self, now: float, member: str, report: bytes) -> Published | None:
        """Send a report if one is due; None where none is or Redis fails. Blocks as the client may."""
        if now < self._due_at:
            return None
        try:
            published = self._registry.publish(member, report)
        except (RedisError, OSError, TooLargeError) as error:
            self._fail(now, error)
            return None
        self._succeed(now)
        return published

    def goodbye(self, member: str) -> bool:
        """Take leave, unless Redis is away; False where it was not heard. Never raises."""
        if self.is_away:
            return False
        try:
            self._registry.goodbye(member)
        except (RedisError, OSError) as error:
            logger.debug("no goodbye: %s", type(error).__name__)
            return False
        return True

    def bury(self, post_mortem: dict[str, Any]) -> bool:
        """Store the post-mortem of another process; False where somebody has told it before. Never raises.

        Without Redis nobody can ask who told it, and twice is better than never.
        """
        try:
            return self._registry.bury(post_mortem)
        except (RedisError, OSError, TooLargeError) as error:
            logger.debug("a post-mortem was not kept: %s", type(error).__name__)
            return True

    def amend(
        self,
        kind: RecordKind[dict[str, Any]],
        name: str,
        change: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> dict[str, Any] | None:
        """Change the stored document of this name; None where Redis fails, or where it is unreadable and
        nothing is to be put in its place. Never raises its errors.

        For documents that one process at a time changes: it is read and written in two steps.
        """
        try:
            stood = self._stood(kind, name)
            changed = change(stood or {})
            if stood is None and not changed:
                return None
            if changed != stood:
                self._registry.store(name, changed)
        except (RedisError, OSError) as error:
            logger.debug("%s was not kept: %s", name, type(error).__name__)
            return None
        return changed

    def _stood(self, kind: RecordKind[dict[str, Any]], name: str) -> dict[str, Any] | None:
        """Return the document, empty where there is none; None where it is unreadable."""
        try:
            return self._registry.load(kind, name) or {}
        except UnreadableError as error:
            logger.debug("%s", error)
            return None

    def introduce(self, node: str, record: str) -> None:
        """Keep what a node says of itself. Never raises; a later time does as well."""
        try:
            self._registry.introduce(node, record)
        except (RedisError, OSError) as error:
            logger.debug("a node's record was not kept: %s", type(error).__name__)

    def count(self, node: str, counters: str) -> None:
        """Keep what a node's processes have counted. Never raises; the next one has it too."""
        try:
            self._registry.count(node, counters)
        except (RedisError, OSError) as error:
            logger.debug("a node's counters were not kept: %s", type(error).__name__)

    def doubts(self, name: str, *, is_broker: bool) -> list[str]:
        """Return the ways in which Redis may lose messages; none to whoever asks later under this name.

        Never raises: where Redis does not say there is nothing to say.
        """
        try:
            is_first = self._registry.lead(name, _SAID_SECONDS)
            return self._registry.doubts(is_broker=is_broker) if is_first else []
        except (RedisError, OSError, ValueError, KeyError) as error:
            logger.debug("Redis does not say how it is kept: %s", type(error).__name__)
            return []

    def _fail(self, now: float, error: Exception) -> None:
        delay = self._backoff.delay(self._failures, self._uniform)
        self._due_at = now + delay
        self._failures += 1
        if isinstance(error, NoRedisError):
            # It does not come: the worker has said so at its start.
            self._due_at = float("inf")
            return
        if self._failures > 1:
            return
        self._away_since = now
        # Redis' own word, or the class: texts of redis-py name hosts, and those of others may name more.
        name = redis_errors.code(error)
        message = (
            "Redis does not take this process's reports (%s); tried again in %.1f s, then with backoff%s"
        )
        level = logging.WARNING if self._speaks() else logging.DEBUG
        events.say(logger, level, Event.REGISTRY_AWAY, message, name, delay, self._lost(), error=name)

    def _succeed(self, now: float) -> None:
        if self._failures:
            seconds = now - self._away_since
            message = "Redis takes this process's reports again, after %.1f s"
            level = logging.INFO if self._speaks() else logging.DEBUG
            events.say(logger, level, Event.REGISTRY_BACK, message, seconds, seconds=seconds)
        self._failures = 0
        self._due_at = float("-inf")
