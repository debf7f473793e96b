"""The SDK in this process: set up early enough, not at all without a DSN, and asked only where it is there.

What of it is private is touched here alone; a unit test holds each.
"""

import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ..settings.fields import Settings

# At a child's end the SDK's own flush comes first, then ours, then ours in MAIN: two seconds in all.
OWN_FLUSH_SECONDS = 0.5
FLUSH_SECONDS = 0.75

OURS = "celery_pymongo"
"""In the hint of an event: it is one of our own."""


def start(settings: "Settings") -> bool:
    """Initialise the SDK for this process; False, and nothing imported, without a DSN.

    Called at celeryd_init and beat_init, and where a spawned child loads the app: Celery builds its
    tracers before worker_process_init, which is too late. An SDK that the app has already initialised is
    left as it is.
    """
    if settings.sentry_dsn is None or is_initialised():
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
        shutdown_timeout=OWN_FLUSH_SECONDS,
    )
    return True


def ignore_logger(name: str) -> None:
    """Make no events of what this logger says."""
    from sentry_sdk.integrations.logging import ignore_logger

    ignore_logger(name)


def client() -> Any:
    """Return the SDK's client of this process; None where there is none, or one that sends nothing."""
    if not is_initialised():
        return None
    import sentry_sdk

    found = sentry_sdk.get_client()
    return None if found.transport is None else found


def tag(deployment: str, node: str) -> None:
    """Tag this process's events with its node: a spawned child learns its name after `start`."""
    if is_initialised():
        import sentry_sdk

        sentry_sdk.set_tag("celery.node", node)
        sentry_sdk.set_tag("celery_pymongo.deployment", deployment)


def capture(event: dict[str, Any]) -> None:
    """Send an event of our own; of what happens to run in this thread it takes no crumbs along."""
    import sentry_sdk

    with sentry_sdk.isolation_scope() as scope:
        scope.clear_breadcrumbs()
        sentry_sdk.capture_event(event, hint={OURS: True})  # type: ignore[arg-type] # a dict of this kind


def check_in(
    slug: str,
    status: Literal["in_progress", "ok", "error"],
    *,
    check_in_id: str | None = None,
    config: dict[str, Any] | None = None,
    seconds: float | None = None,
) -> str | None:
    """Tell Crons of a run, or of a window of runs; return the check-in's id."""
    from sentry_sdk.crons import capture_checkin

    return capture_checkin(
        monitor_slug=slug,
        check_in_id=check_in_id,
        status=status,
        duration=seconds,
        monitor_config=config,  # type: ignore[arg-type] # a dict of this kind
    )


def monitors_beat() -> bool:
    """Say whether the app has told the SDK to look after its beat entries itself."""
    found = client()
    integration = None if found is None else found.get_integration("celery")
    return bool(getattr(integration, "monitor_beat_tasks", False))


def send(event: dict[str, Any]) -> None:
    """Send an event that has been through everything already, and was held back."""
    from sentry_sdk.envelope import Envelope

    transport = client() and client().transport
    if transport is not None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        envelope = Envelope(headers={"event_id": event["event_id"], "sent_at": now})
        envelope.add_event(event)  # type: ignore[arg-type] # as above
        transport.capture_envelope(envelope)


def after_fork() -> None:
    """Let the first event of a forked child be sent when it happens, not with the second.

    The child's copy of the SDK's queue still has MAIN's sending thread as its first waiter, so the first
    event wakes nobody (sentry_sdk.worker.BackgroundWorker, whose thread is made anew and whose queue is not).
    """
    found = client()
    waiters = None if found is None else waiters_of_another_process(found)
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


def end() -> None:
    """Send what is queued, waiting for FLUSH_SECONDS at most; nothing where Sentry was never imported.

    Sentry flushes by itself before our own shutdown handler runs, so what that handler reports needs this.
    After it nothing comes: an SDK that we set up waits no second time at the interpreter's end.
    """
    found = client()
    if found is None:
        return
    found.flush(FLUSH_SECONDS)
    if found.options.get("shutdown_timeout") == OWN_FLUSH_SECONDS:
        found.options["shutdown_timeout"] = 0


def is_initialised() -> bool:
    """Say whether the SDK is there and has a client; imports nothing."""
    if "sentry_sdk" not in sys.modules:
        return False
    import sentry_sdk

    return sentry_sdk.is_initialized()
