"""What the fleet keeps in Redis: reports, history, beat's pulse, the outage that Sentry is told of."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .beat_pulse import BeatPulse
from .history import History
from .redis_client import HASTY_SECONDS, connect
from .registry import Registry
from .sentry import Ledger, Windows

if TYPE_CHECKING:
    from .settings import Settings


@dataclass(frozen=True)
class Stores:
    """The stores of one deployment, with one Redis client."""

    registry: Registry
    history: History
    pulse: BeatPulse
    ledger: Ledger
    windows: Windows

    @classmethod
    def of(cls, settings: "Settings") -> "Stores":
        """Return the stores that the settings name; no I/O."""
        redis, hasty = connect(settings), connect(settings, seconds=HASTY_SECONDS)
        return cls(
            Registry(redis, settings.key, hasty=hasty),
            History(redis, settings.key, days=settings.history_days),
            BeatPulse(redis, settings.key),
            Ledger(redis, settings.key, hasty=hasty),
            Windows(redis, settings.key, hasty=hasty),
        )
