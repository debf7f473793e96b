"""The service with entries that end in each way a run can."""

from datetime import UTC, datetime, timedelta
from typing import Any

from worker.celery import create_app

app = create_app()


def hourly(task: str, *args: Any, **options: Any) -> dict[str, Any]:
    """An entry that is due at once, where the scheduler takes its last run from here: Celery's own does."""
    ran = datetime.now(UTC) - timedelta(days=1)
    return {"task": task, "args": args, "schedule": 3600.0, "options": options, "last_run_at": ran}


if app.conf.beat_scheduler == "celery.beat:PersistentScheduler":
    app.conf.beat_schedule |= {
        "fine": hourly("probe.echo"),
        "failing": hourly("probe.plant", "told-1"),
        "retried": hourly("probe.retry_once"),
        "expired": hourly("probe.echo", expires=0.001),
    }
app.conf.beat_schedule |= {
    "short": {"task": "probe.echo", "schedule": 5.0},
    "short failing": {"task": "probe.plant", "args": ("told-2",), "schedule": 5.0},
}
