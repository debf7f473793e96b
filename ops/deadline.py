"""One deadline for all that a command asks, side by side; what does not answer in time is unseen."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Seen(Generic[T]):
    """What a source answered, or `why` nothing is known of it: a few words, without a host's name.

    `error` is what was raised, None where nothing came in time.
    """

    value: T | None = None
    why: str | None = None
    error: Exception | None = field(default=None, compare=False)


class Pending(Generic[T]):
    """A question that was asked in a thread of its own."""

    def __init__(self, ask: Callable[[], T], deadline: "Deadline") -> None:
        self._deadline = deadline
        self._future: Future[T] = Future()
        # A daemon: a command that is over its time ends, whoever still waits for an answer.
        threading.Thread(target=self._run, args=(ask,), daemon=True).start()

    def _run(self, ask: Callable[[], T]) -> None:
        try:
            self._future.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - told to whoever waits, as Future's own threads do
            self._future.set_exception(error)

    def seen(self) -> Seen[T]:
        """Wait for the answer, until the deadline at most."""
        try:
            return Seen(self._future.result(self._deadline.left))
        except TimeoutError as error:
            # Sockets raise it, too.
            is_late = not self._future.done()
            return Seen(why=self._deadline.words) if is_late else Seen(why=_name(error), error=error)
        except Exception as error:  # noqa: BLE001 - each source has errors of its own
            # The class alone, unless it is ours and says why: texts name hosts and may quote what was sent.
            return Seen(why=_name(error), error=error)


def _name(error: Exception) -> str:
    return getattr(error, "why", None) or type(error).__name__


class Deadline:
    """A moment, `seconds` from now, by which a command has its answers."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._ends_at = clock() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left; 0.0 once it is over."""
        return max(0.0, self._ends_at - self._clock())

    @property
    def share(self) -> float:
        """Seconds for a question to several, one of which may be silent: half, so that what the others
        say of it can still be read.
        """
        return self.left / 2

    @property
    def words(self) -> str:
        """Why something is unseen that took too long."""
        return f"no answer within {self.seconds:g} s"

    def ask(self, ask: Callable[[], T]) -> Pending[T]:
        """Ask now, in a thread of its own; `seen()` of the result waits."""
        return Pending(ask, self)
