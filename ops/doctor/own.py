"""What this program's own settings say, of those that checks need."""

from typing import Any

_NAMES = (
    "long_hold_seconds",
    "server_connections",
    "ping_timeout_seconds",
    "history_days",
    "health_interval_seconds",
)


def own_settings(settings: Any) -> dict[str, Any]:
    """Return them by name."""
    return {name: getattr(settings, name) for name in _NAMES}
