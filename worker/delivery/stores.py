"""What the fleet keeps in Redis: reports, history, beat's pulse, the outage that Sentry is told of."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..fleet.beat_pulse import BeatPulse
from ..fleet.history import History
from ..fleet.registry import Registry
from ..sentry import Ledger, Windows
from ..store.app_redis import effective, is_broker
from ..store.redis_client import HASTY_SECONDS, NoRedis, connect

if TYPE_CHECKING:
    import redis

    from ..process.process import Mongo
    from ..settings.fields import Settings


class Keys:
    """The names of keys, by the settings that count now."""

    def __init__(self, settings: "Settings") -> None:
        self.settings = settings

    def __call__(self, *parts: str | int) -> str:
        """Return the key of `parts`."""
        return self.settings.key(*parts)


@dataclass(frozen=True)
class Stores:
    """The stores of one deployment, with one Redis client, and a `hasty` one for a process that ends."""

    key: Keys
    client: "redis.Redis"
    hasty: "redis.Redis"
    registry: Registry
    history: History
    pulse: BeatPulse
    ledger: Ledger
    windows: Windows

    @classmethod
    def of(cls, settings: "Settings") -> "Stores":
        """Return the stores that the settings name; no I/O."""
        redis, hasty = connect(settings), connect(settings, seconds=HASTY_SECONDS)
        key = Keys(settings)
        return cls(
            key,
            redis,
            hasty,
            Registry(redis, key, hasty=hasty),
            History(redis, key, days=settings.history_days),
            BeatPulse(redis, key),
            Ledger(redis, key, hasty=hasty),
            Windows(redis, key, hasty=hasty),
        )

    def follow(self, conf: Any, mongo: "Mongo") -> None:
        """Keep everything in the app's own Redis from now on, under its prefix, unless REDIS_URL names one;
        where there is neither, nothing is kept. No I/O.
        """
        settings = effective(mongo.settings, conf)
        mongo.has_redis = settings is not None
        mongo.is_redis_the_broker = settings is not None and is_broker(settings, conf)
        if settings is None:
            self.client.connection_pool = self.hasty.connection_pool = NoRedis()
            return
        if settings == mongo.redis_settings:
            return
        mongo.redis_settings = self.key.settings = settings
        self.client.connection_pool = connect(settings).connection_pool
        self.hasty.connection_pool = connect(settings, seconds=HASTY_SECONDS).connection_pool
