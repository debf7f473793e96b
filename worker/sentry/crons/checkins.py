"""Check-ins of beat's runs: beat tells that one is sent, whoever runs it tells how it ended.

A retry is neither: the message of the next try carries the same mark. What expired before it could run has
ended, and did not run.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import signals
from redis import RedisError

from ...broker import receivers
from .. import sdk
from .entries import Monitor, monitor_of, went_well
from .windows import Ended, Windows

if TYPE_CHECKING:
    from ...settings.fields import Settings

logger = logging.getLogger("celery_pymongo.sentry")

MARK = "celery_pymongo_cron"
"""The header of a message that beat sent."""

_LOOK_SECONDS = 5.0
_MOST = 1000


class CheckIns:
    """The check-ins of one process. `is_on` says whether there is a Sentry to tell."""

    def __init__(self, windows: Windows, settings: "Settings", is_on: Callable[[], bool]) -> None:
        self._windows = windows
        self._settings = settings
        self._is_on = is_on
        self._sending: dict[str, Any] | None = None
        self._ended: deque[Ended] = deque(maxlen=_MOST)
        self._look_at = float("-inf")

    # -- beat --------------------------------------------------------------------------------------

    def attach(self, scheduler: Any) -> None:
        """Mark what this scheduler sends from now on, and judge windows after its ticks; once is enough."""
        send, tick = scheduler.apply_async, scheduler.tick
        if getattr(send, MARK, False):
            return

        def send_marked(entry: Any, *args: Any, **kwargs: Any) -> Any:
            self._sending = self._survive(lambda: self._begin(scheduler.app, entry))
            try:
                return send(entry, *args, **kwargs)
            except Exception:
                self._survive(self._not_sent)
                raise
            finally:
                self._sending = None

        def tick_and_judge(*args: Any, **kwargs: Any) -> Any:
            delay = tick(*args, **kwargs)
            self._survive(lambda: self._judge(time.time()))
            return delay

        setattr(send_marked, MARK, True)
        scheduler.apply_async, scheduler.tick = send_marked, tick_and_judge
        signals.before_task_publish.connect(
            self._publish, weak=False, dispatch_uid="celery_pymongo.sentry.publish"
        )

    def _publish(self, headers: Any = None, **_kwargs: Any) -> None:
        if self._sending is None or not isinstance(headers, dict):
            return
        headers[MARK] = self._sending
        # Where there are headers within the headers, as the SDK has them, a retry keeps those alone.
        if isinstance(headers.get("headers"), dict):
            headers["headers"][MARK] = self._sending

    def _begin(self, app: Any, entry: Any) -> dict[str, Any] | None:
        if not self._is_on():
            return None
        monitor = self._monitor(app, entry)
        if monitor is None:
            return None
        now = time.time()
        mark = {"slug": monitor.slug, "at": round(now, 3)}
        if monitor.window is not None:
            return mark | {"window": self._windows.sent(monitor, now)}
        return mark | {"id": sdk.check_in(monitor.slug, "in_progress", config=monitor.config)}

    def _not_sent(self) -> None:
        if self._sending is not None:
            self._end(self._sending, is_ok=False)
            self._flush()

    def _monitor(self, app: Any, entry: Any) -> Monitor | None:
        monitor = monitor_of(
            entry.name,
            entry.schedule,
            deployment=self._settings.deployment,
            timezone=str(app.timezone or "UTC"),
            runtime_seconds=_runtime(app, entry),
        )
        # Those the SDK looks after itself, where the app has told it to.
        is_sdks = monitor is not None and monitor.window is None and sdk.monitors_beat()
        return None if is_sdks else monitor

    def _judge(self, now: float) -> None:
        if now < self._look_at or not self._is_on():
            return
        self._look_at = now + _LOOK_SECONDS
        for window in self._windows.due(now):
            sdk.check_in(
                window.slug,
                "ok" if went_well(window.counts) else "error",
                config=window.config,
                seconds=window.seconds,
            )

    # -- whoever runs it ---------------------------------------------------------------------------

    def connect(self) -> None:
        """Hear how runs end; the newest of a process is the one that hears."""
        for signal, handler in (
            (signals.task_success, self._succeeded),
            (signals.task_failure, self._failed),
            (signals.task_revoked, self._revoked),
        ):
            receivers.connect(signal, handler, f"celery_pymongo.sentry.{handler.__name__}")

    def tick(self) -> None:
        """Take to Redis what has ended since the last time. Never raises its errors."""
        self._survive(self._flush)

    def leave(self) -> None:
        """Likewise, as the process ends: within the time of a client in haste."""
        self._survive(lambda: self._flush(hastily=True))

    def _succeeded(self, sender: Any, **_kwargs: Any) -> None:
        self._end(_mark(sender.request), is_ok=True)

    def _failed(self, sender: Any, **_kwargs: Any) -> None:
        self._end(_mark(sender.request), is_ok=False)

    def _revoked(self, request: Any, **_kwargs: Any) -> None:
        self._end(_mark(request), is_ok=False)

    def _end(self, mark: dict[str, Any] | None, *, is_ok: bool) -> None:
        if mark is None or not self._is_on():
            return
        if "window" in mark:
            # At the next tick: a task does not wait for Redis to tell this. Where nobody ticks it is missing.
            self._ended.append(Ended(mark["slug"], mark["window"], "ok" if is_ok else "failed"))
        elif mark.get("id"):
            seconds = max(0.0, time.time() - mark["at"])
            sdk.check_in(mark["slug"], "ok" if is_ok else "error", check_in_id=mark["id"], seconds=seconds)

    def _flush(self, *, hastily: bool = False) -> None:
        if not self._ended:
            return
        runs = [self._ended.popleft() for _ in range(len(self._ended))]
        try:
            self._windows.ended(runs, hastily=hastily)
        except (RedisError, OSError):
            self._ended.extendleft(reversed(runs))
            raise

    def _survive(self, act: Callable[[], Any]) -> Any:
        """Do it; None where it fails: nothing that is watched depends on it."""
        try:
            return act()
        except Exception as error:  # noqa: BLE001 - as it says
            logger.debug("Crons: %s", type(error).__name__)
            return None


def _mark(request: Any) -> dict[str, Any] | None:
    # A retry keeps it among the custom headers, the first message at the top.
    mark = (getattr(request, "headers", None) or {}).get(MARK) or getattr(request, MARK, None)
    return mark if isinstance(mark, dict) and "slug" in mark else None


def _runtime(app: Any, entry: Any) -> float | None:
    """Return how long a run may take from its sending: until it expires, and then its hard time limit."""
    task = app.tasks.get(entry.task)
    limit = entry.options.get("time_limit") or getattr(task, "time_limit", None) or app.conf.task_time_limit
    expires = entry.options.get("expires")
    waits = float(expires) if isinstance(expires, (int, float)) else 0.0
    return None if not limit else float(limit) + waits
