"""Counts the heartbeats that failed, and records when a server is lost and found."""

from collections.abc import Callable

from pymongo import monitoring

from ..mongo.reasons import reason_of_server
from ..tracking.flight import Kind
from ..tracking.listening import Address, Errors, Record, harmless
from .server_counts import ServerCounts


class HeartbeatCounter(monitoring.ServerHeartbeatListener):
    """Counts the heartbeats of one client. `counts_of` finds a server's counters."""

    def __init__(
        self, counts_of: Callable[[Address], ServerCounts], *, record: Record, errors: Errors
    ) -> None:
        self.errors = errors
        self._counts_of = counts_of
        self._record = record
        self._lost: set[Address] = set()

    def started(self, event: monitoring.ServerHeartbeatStartedEvent) -> None:
        """Nothing to count."""

    @harmless
    def succeeded(self, event: monitoring.ServerHeartbeatSucceededEvent) -> None:
        """A server that was lost answers again."""
        if event.connection_id in self._lost:
            self._lost.discard(event.connection_id)
            host, port = event.connection_id
            self._record(Kind.HEARTBEAT_FOUND, 0.0, f"{host}:{port}")

    @harmless
    def failed(self, event: monitoring.ServerHeartbeatFailedEvent) -> None:
        """Count it, and record the first of a series: the reconnector's pings make two a second and more.

        A check that the driver itself cancelled says nothing, see `heartbeats`.
        """
        if type(event.reply).__name__ != "_OperationCancelled":
            self._counts_of(event.connection_id).heartbeats_failed += 1
            if event.connection_id not in self._lost:
                self._lost.add(event.connection_id)
                why = reason_of_server(event.reply, event.connection_id)
                self._record(Kind.HEARTBEAT_FAILED, 0.0, why)
