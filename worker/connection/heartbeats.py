"""From the driver's heartbeats to facts: no writable server is left, one answers, and who says nothing."""

import time
from collections.abc import Callable, Mapping

from bson import ObjectId
from pymongo import monitoring
from pymongo.errors import NetworkTimeout

from ..mongo.reasons import reason_of_server
from ..tracking.listening import Address


class Heartbeats(monitoring.ServerHeartbeatListener):
    """Tells when the last writable server was lost, and when one answers again.

    Heartbeats come within milliseconds of a failure, also in a process that runs no operation; the
    topology events that say the same lag by up to a second, so they are not used.
    """

    def __init__(
        self,
        on_lost: Callable[[str], None],
        on_found: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_lost = on_lost
        self._on_found = on_found
        self._clock = clock
        self._writable: set[Address] = set()
        self._has_found = False
        # By the last answer of each that hangs, refuses or is well.
        self._took_writes: set[Address] = set()
        self._silent_since: dict[Address, float] = {}
        self._election: ObjectId | None = None
        # When a primary of a later election than the one before was heard of (monotonic s); None: never.
        self.elected_at: float | None = None

    @property
    def silent_since(self) -> Mapping[Address, float]:
        """When each server that is being asked was last heard (monotonic s), or first asked before that.

        Without those that refused: a refusal is an answer.
        """
        return dict(self._silent_since)

    def missed_since(self, hung: Mapping[Address, float]) -> float | None:
        """Return since when writes wait for a server that hangs (monotonic s); None where they do not.

        `hung` is when each server that hangs was last heard. A member that took no writes is not waited for,
        but where there never was one that did.
        """
        if self._writable:
            return None
        return max(
            (since for address, since in hung.items() if address in self._took_writes or not self._has_found),
            default=None,
        )

    def hear(self, address: Address) -> None:
        """Note that a server answers."""
        self._silent_since[address] = self._clock()

    def give_up(self, address: Address, reason: str) -> None:
        """Take a server for lost although no heartbeat of it has failed yet, if it took writes."""
        if address in self._took_writes:
            self._lose(address, reason)

    def started(self, event: monitoring.ServerHeartbeatStartedEvent) -> None:
        """Remember when it was first asked."""
        self._silent_since.setdefault(event.connection_id, self._clock())

    def succeeded(self, event: monitoring.ServerHeartbeatSucceededEvent) -> None:
        """Remember a writable server."""
        self.hear(event.connection_id)
        if event.reply.is_writable:
            self._writable.add(event.connection_id)
            self._took_writes.add(event.connection_id)
            self._has_found = True
            self._note_election(event.reply.election_id)
            self._on_found()
        else:
            self._writable.discard(event.connection_id)
            self._took_writes.discard(event.connection_id)

    def failed(self, event: monitoring.ServerHeartbeatFailedEvent) -> None:
        """Forget the server that failed; tell when no writable one is left of those there were.

        The driver cancels a running check when its client closes or an operation met a network error; the
        latter is followed by a check of its own, so a cancelled one says nothing.
        """
        if type(event.reply).__name__ == "_OperationCancelled":
            return
        if not isinstance(event.reply, NetworkTimeout):
            self._silent_since.pop(event.connection_id, None)
        self._lose(event.connection_id, reason_of_server(event.reply, event.connection_id))

    def _note_election(self, election: ObjectId | None) -> None:
        # An old primary that has not heard of its successor yet goes on saying that it is one.
        if election is None or (self._election is not None and election <= self._election):
            return
        if self._election is not None:
            self.elected_at = self._clock()
        self._election = election

    def _lose(self, address: Address, reason: str) -> None:
        # Before the first one nothing is lost: at the start a dead member of a replica set fails sooner than
        # the primary answers. Whether there is a primary at all is for the first operation to find out.
        self._writable.discard(address)
        if self._has_found and not self._writable:
            self._on_lost(reason)
