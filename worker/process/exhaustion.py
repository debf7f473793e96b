"""Operations that got no connection in time: said as they happen, and not again for a minute."""

import logging
from collections.abc import Mapping
from typing import Any

from .. import events
from ..events import Event
from ..text import count
from ..tracking.task_times import TaskTimes

logger = logging.getLogger("celery_pymongo.monitor")

PAUSE_SECONDS = 60.0
_NAMED = 3


class Exhaustion:
    """Watches one process's count of timeouts in the queue for connections."""

    def __init__(self) -> None:
        self._seen = 0
        self._unsaid = 0
        self._quiet_until = float("-inf")

    def look(self, now: float, totals: Mapping[str, Any], tasks: Mapping[str, TaskTimes]) -> None:
        """Say what is new. `now` is monotonic seconds, `totals` those of a report, `tasks` times by task."""
        timeouts = totals["count"]["timeouts"]
        # An operator may have had the counters begin anew.
        self._unsaid += max(0, timeouts - self._seen if timeouts >= self._seen else timeouts)
        self._seen = timeouts
        if not self._unsaid or now < self._quiet_until:
            return
        unsaid, self._unsaid, self._quiet_until = self._unsaid, 0, now + PAUSE_SECONDS
        failed = sorted(((times.failed, name) for name, times in tasks.items() if times.failed), reverse=True)
        names = [name for _, name in failed[:_NAMED]]
        most = totals["pool"]["max"]
        server, (_, in_use, _) = _fullest(totals["servers"])
        message = "%s got no connection in time; %s of %s to %s are in use; of tasks: %s"
        operations, shown = count(unsaid, "operation"), ", ".join(names) or "none"
        args = (operations, in_use, most or "any number", server, shown)
        fields = {"count": unsaid, "server": server, "in_use": in_use, "max": most, "tasks": names}
        events.say(logger, logging.WARNING, Event.POOL_EXHAUSTED, message, *args, **fields)


def _fullest(servers: Mapping[str, list[int]]) -> tuple[str, list[int]]:
    """Return the server with the fullest pool, where operations wait before where they do not."""
    by_waiting = sorted(servers.items(), key=lambda server: (server[1][2], server[1][1]))
    return by_waiting[-1] if by_waiting else ("no server", [0, 0, 0])
