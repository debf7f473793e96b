"""Operations that MongoDB denies the user or refuses: which, of which tasks, since when. Of one process.

A login that is refused is another matter: then no operation gets so far.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from celery import signals

from ..broker import receivers
from ..mongo.classify import denied, refused
from ..text import shorten

QUIET_SECONDS = 120.0
"""What was denied longer ago is past."""

_TASKS, _MOST, _NAME = 3, 50, 60

# What the server says with code 13; behind it stands the command, with what may be data.
_COMMAND = re.compile(
    r"not authorized on (?P<db>\S{1,128}) to execute command \{ (?P<name>\w{1,64}): "
    r"(?:\"(?P<on>[^\"]{0,255})\")?"
)
_LOGIN = re.compile(r"[Cc]ommand (?P<name>\w+) requires authentication")


@dataclass(frozen=True)
class Denial:
    """What was denied to a task: the code, what it was where the server said so, when first and last
    (monotonic seconds), how often.
    """

    task: str
    code: int
    what: str
    since: float
    last: float
    times: int = 1


_Known = dict[tuple[str, int, str], Denial]


class Denials:
    """Remembers what the errors of tasks say. Safe from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: _Known = {}
        self._refused: _Known = {}

    def connect(self) -> None:
        """Hear of errors that end a task, and of those for which it runs again."""
        for signal, handler in (
            (signals.task_failure, self._failed),
            (signals.task_retry, self._retried),
        ):
            receivers.connect(signal, handler, f"celery_pymongo.denials.{handler.__name__}")

    def note(self, task: str, error: BaseException) -> None:
        """Note an error that a task met, if it is that MongoDB denied or refused an operation."""
        cause = denied(error)
        if cause is not None:
            code, what = getattr(cause, "code", None) or 0, operation(str(cause))
            self._known = self._with(self._known, (task, code, what))
        elif found := refused(error):
            _, code, name = found
            self._refused = self._with(self._refused, (task, code, name))

    def _with(self, before: _Known, key: tuple[str, int, str]) -> _Known:
        now = self._clock()
        with self._lock:
            known = {key: one for key, one in before.items() if now - one.last <= QUIET_SECONDS}
            if key in known or len(known) < _MOST:
                one = known.get(key, Denial(*key, now, now, 0))
                known[key] = replace(one, last=now, times=one.times + 1)
            return known

    def report(self, now: float) -> dict[str, Any] | None:
        """Return what was denied lately, for a process's report; `now` is monotonic. None: nothing was."""
        return self._told(self._known, now)

    def report_refused(self, now: float) -> dict[str, Any] | None:
        """Return what was refused lately for another reason: of the most frequent code alone."""
        by_code: Counter[int] = Counter()
        with self._lock:
            for one in self._refused.values():
                by_code[one.code] += one.times if now - one.last <= QUIET_SECONDS else 0
            most = next(iter(by_code.most_common(1)), (0, 0))[0]
            of_code = {key: one for key, one in self._refused.items() if one.code == most}
        return self._told(of_code, now)

    def _told(self, known: _Known, now: float) -> dict[str, Any] | None:
        with self._lock:
            found = [one for one in known.values() if now - one.last <= QUIET_SECONDS]
        if not found:
            return None
        newest = sorted(found, key=lambda one: -one.last)
        return {
            "n": sum(one.times for one in found),
            "code": newest[0].code,
            "for": round(now - min(one.since for one in found), 1),
            "ago": round(now - newest[0].last, 1),
            "tasks": {
                shorten(one.task, _NAME): shorten(one.what, _NAME) for one in reversed(newest[:_TASKS])
            },
        }

    def _failed(self, sender: Any, exception: BaseException, **_kwargs: Any) -> None:
        self.note(sender.name, exception)

    def _retried(self, sender: Any, reason: Any, **_kwargs: Any) -> None:
        error = getattr(reason, "exc", reason)
        if isinstance(error, BaseException):
            self.note(sender.name, error)


def operation(text: str) -> str:
    """Return which command a server denied, and on what, without its arguments; empty where it says less."""
    if found := _COMMAND.search(text):
        on = f"{found['db']}.{found['on']}" if found["on"] else found["db"]
        return f"{found['name']} on {on}"
    if found := _LOGIN.search(text):
        return f"{found['name']} without a login"
    return ""
