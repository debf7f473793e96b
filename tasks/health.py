"""The health of the fleet, as one of its processes finds it."""

from typing import Any


def check(self: Any) -> dict[str, Any]:
    """Ping MongoDB, read what every process reports, and return the verdict.

    `verdict` (ok, degraded, down, unknown) with `reasons`, the most severe first, and `since`, unix seconds;
    `layers` has the verdicts of liveness, reachability, pool, consuming and beat, `nodes` those of nodes,
    `fleet` how many processes are seen and expected. `latency_ms`, `server`, `topology`, `circuit` and
    `outage_seconds` are of the process that was asked.
    """
    report: dict[str, Any] = self.mongo.watch.check(is_sent=True)
    return report


def register(app: Any) -> None:
    """Make the functions of this module tasks of `app`."""
    options = {"bind": True, "shared": False, "max_retries": 0, "waits_out_outages": False}
    expires = app.mongo.expiries["mongo.health.check"]
    app.task(name="mongo.health.check", base=app.mongo.Task, expires=expires, **options)(check)
