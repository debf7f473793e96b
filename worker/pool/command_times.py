"""How long commands take, by name and outcome. Off by default: it costs as much as the pool's events do."""

from collections.abc import Callable

from pymongo import monitoring

from ..tracking.listening import Address, Errors, harmless
from .histogram import Histogram
from .server_counts import ServerCounts

# As many names as applications use; what a server takes as a command is not for us to bound.
NAMES = 50
OTHER = "other"


class CommandTimes(monitoring.CommandListener):
    """Times the commands of one client. `counts_of` finds a server's counters."""

    def __init__(self, counts_of: Callable[[Address], ServerCounts], *, errors: Errors) -> None:
        self.errors = errors
        self._counts_of = counts_of
        self._names: set[str] = set()

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Nothing to count."""

    @harmless
    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Count a command that the server carried out."""
        self._count(event.connection_id, f"{self._bounded(event.command_name)}.ok", event.duration_micros)

    @harmless
    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Count a command that failed, at the server or on the way."""
        self._count(event.connection_id, f"{self._bounded(event.command_name)}.error", event.duration_micros)

    def _bounded(self, name: str) -> str:
        if name not in self._names and len(self._names) >= NAMES:
            return OTHER
        self._names.add(name)
        return name

    def _count(self, address: Address, label: str, micros: int) -> None:
        commands = self._counts_of(address).commands
        histogram = commands.get(label) or commands.setdefault(label, Histogram())
        histogram.observe(micros / 1_000_000)
