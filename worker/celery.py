"""The service: `celery -A worker worker` and `celery -A worker beat` find their app here.

The app is made when it is first asked for, so that importing this module reads nothing.
"""

import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

from celery import Celery, signals

from .errors import SettingsError
from .integration import logs
from .integration.config import celery_config
from .integration.install import install
from .settings.fields import Settings, load_settings
from .store import redis_server


def create_app(settings: Settings | None = None) -> Celery:
    """Return the service's app, with settings from the environment where none are given."""
    app = Celery("worker")
    chosen = settings or load_settings()
    app.conf.update(celery_config(chosen))
    install(app, settings).is_service = True
    app.fixups = {*app.fixups, LogFixup(chosen)}
    logs.set_up(as_json=chosen.log_format == "json")
    signals.celeryd_init.connect(_refuse_cluster, weak=False, dispatch_uid="celery_pymongo.redis_server")
    return app


@dataclass(frozen=True)
class LogFixup:
    """Travels with a pickled app, so that a spawned child, which never imports this module, logs alike."""

    settings: Settings

    def __call__(self, _app: Celery) -> "LogFixup":
        """Celery calls this while it makes the app, before it sets up logging."""
        logs.set_up(as_json=self.settings.log_format == "json")
        return self


def _refuse_cluster(instance: Any, **_kwargs: Any) -> None:
    """End the worker before it starts where Redis is of a kind that would lose messages."""
    redis_server.refuse(instance.app)


@cache
def _app() -> Celery:
    try:
        return create_app()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None


def __getattr__(name: str) -> Any:
    if name == "app":
        return _app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
