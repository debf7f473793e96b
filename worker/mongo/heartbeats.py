"""From the driver's heartbeats to two facts: no writable server is left, or one answers."""

from collections.abc import Callable

from pymongo import monitoring


class Heartbeats(monitoring.ServerHeartbeatListener):
    """Tells when the last writable server was lost, and when one answers again.

    Heartbeats come within milliseconds of a failure, also in a process that runs no operation; the
    topology events that say the same lag by up to a second, so they are not used.
    """

    def __init__(self, on_lost: Callable[[str], None], on_found: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self._on_found = on_found
        self._writable: set[tuple[str, int | None]] = set()

    def started(self, event: monitoring.ServerHeartbeatStartedEvent) -> None:
        """Nothing to tell."""

    def succeeded(self, event: monitoring.ServerHeartbeatSucceededEvent) -> None:
        """Remember a writable server."""
        if event.reply.is_writable:
            self._writable.add(event.connection_id)
            self._on_found()
        else:
            self._writable.discard(event.connection_id)

    def failed(self, event: monitoring.ServerHeartbeatFailedEvent) -> None:
        """Forget the server that failed; tell when no writable one is left.

        The driver cancels a running check when its client closes or an operation met a network error; the
        latter is followed by a check of its own, so a cancelled one says nothing.
        """
        if type(event.reply).__name__ == "_OperationCancelled":
            return
        self._writable.discard(event.connection_id)
        if not self._writable:
            self._on_lost(type(event.reply).__name__)
