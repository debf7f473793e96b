"""Errors to Sentry: set up early enough, without documents, and not at all without a DSN."""

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .settings import Settings

logger = logging.getLogger("celery_pymongo.sentry")

_QUOTING = ("pymongo.", "bson.")
_OF_THE_CONNECTION = frozenset(
    {
        "AutoReconnect",
        "ConfigurationError",
        "ConnectionFailure",
        "NetworkTimeout",
        "NotPrimaryError",
        "ServerSelectionTimeoutError",
        "WaitQueueTimeoutError",
    }
)

FLUSH_SECONDS = 1.0
"""How long a process that ends waits for Sentry: twice over, before and after our own last words."""


def start(settings: "Settings", *, node: str) -> bool:
    """Initialise the SDK for this process; False, and nothing imported, without a DSN.

    Called at celeryd_init and beat_init, and where a spawned child loads the app: Celery builds its
    tracers before worker_process_init, which is too late. An SDK that the app has already initialised is
    left as it is.
    """
    if settings.sentry_dsn is None or _is_initialised():
        return False
    import sentry_sdk
    from sentry_sdk.integrations.celery import CeleryIntegration

    sentry_sdk.init(
        dsn=settings.sentry_dsn.get_secret_value(),
        environment=settings.sentry_environment,
        release=settings.sentry_release,
        traces_sample_rate=settings.sentry_traces_sample_rate,
        integrations=[CeleryIntegration(monitor_beat_tasks=False)],
        # Frames of pymongo hold filters, commands and replies; task arguments hold documents.
        include_local_variables=False,
        max_request_body_size="never",
        before_send=_withhold_quotations,
        # The SDK's own wait at a child's end. Ours follows: with a Sentry that hangs the two add up.
        shutdown_timeout=FLUSH_SECONDS,
    )
    name_node(settings, node)
    return True


def name_node(settings: "Settings", node: str) -> None:
    """Tag this process's events with its node: a spawned child learns its name after `start`."""
    if settings.sentry_dsn is not None and _is_initialised():
        import sentry_sdk

        sentry_sdk.set_tag("celery.node", node)
        sentry_sdk.set_tag("celery_pymongo.deployment", settings.deployment)


def after_fork() -> None:
    """Let the first event of a forked child be sent when it happens, not with the second.

    The child's copy of the SDK's queue still has MAIN's sending thread as its first waiter, so the first
    event wakes nobody (sentry_sdk.worker.BackgroundWorker, whose thread is made anew and whose queue is not).
    """
    if _is_initialised():
        import sentry_sdk

        waiters = waiters_of_another_process(sentry_sdk.get_client())
        if waiters:
            waiters.clear()


def waiters_of_another_process(client: Any) -> Any:
    """Return who waits on the client's queue, where that is not this process's own thread; else None.

    It is under solo, and in a spawned child. The names are private: where a later SDK has others, None.
    """
    worker = getattr(client.transport, "_worker", None)
    if worker is None or getattr(worker, "_thread_for_pid", None) in (None, os.getpid()):
        return None
    queue = getattr(worker, "_queue", None)
    return getattr(getattr(queue, "not_empty", None), "_waiters", None)


def _withhold_quotations(event: Any, _hint: Any) -> Any:
    """Drop the text of PyMongo's errors, which quotes keys and values, but for those of the connection."""
    for told in (event.get("exception") or {}).get("values") or ():
        if str(told.get("module")).startswith(_QUOTING) and told.get("type") not in _OF_THE_CONNECTION:
            told["value"] = "its text may quote documents and is withheld"
    return event


def flush(seconds: float) -> None:
    """Send what is queued, waiting at most `seconds`; nothing where Sentry was never imported.

    Sentry flushes by itself before our own shutdown handler runs, so what that handler reports needs this.
    """
    if _is_initialised():
        import sentry_sdk

        sentry_sdk.flush(seconds)


def _is_initialised() -> bool:
    if "sentry_sdk" not in sys.modules:
        return False
    import sentry_sdk

    return sentry_sdk.is_initialized()
