"""From the driver's heartbeats to two facts: no writable server is left, or one answers."""

from collections.abc import Callable

from pymongo import monitoring

from .reasons import reason_of_server


class Heartbeats(monitoring.ServerHeartbeatListener):
    """Tells when the last writable server was lost, and when one answers again.

    Heartbeats come within milliseconds of a failure, also in a process that runs no operation; the
    topology events that say the same lag by up to a second, so they are not used.
    """

    def __init__(self, on_lost: Callable[[str], None], on_found: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self._on_found = on_found
        self._writable: set[tuple[str, int | None]] = set()
        self._has_found = False

    def started(self, event: monitoring.ServerHeartbeatStartedEvent) -> None:
        """Nothing to tell."""

    def succeeded(self, event: monitoring.ServerHeartbeatSucceededEvent) -> None:
        """Remember a writable server."""
        if event.reply.is_writable:
            self._writable.add(event.connection_id)
            self._has_found = True
            self._on_found()
        else:
            self._writable.discard(event.connection_id)

    def failed(self, event: monitoring.ServerHeartbeatFailedEvent) -> None:
        """Forget the server that failed; tell when no writable one is left of those there were.

        Before the first one nothing is lost: at the start a dead member of a replica set fails sooner than
        the primary answers. Whether there is a primary at all is for the first operation to find out.
        The driver cancels a running check when its client closes or an operation met a network error; the
        latter is followed by a check of its own, so a cancelled one says nothing.
        """
        if type(event.reply).__name__ == "_OperationCancelled":
            return
        self._writable.discard(event.connection_id)
        if self._has_found and not self._writable:
            self._on_lost(reason_of_server(event.reply, event.connection_id))
