"""The way back after an outage, as tasks: attempts are made here, waiting is left to the broker."""

from typing import Any


def attempt(self: Any) -> dict[str, Any]:
    """Make one reconnection attempt if the circuit is open and backoff says that it is due.

    The backoff lives in the process and is kept between runs; while MongoDB is healthy nothing is done.
    """
    report: dict[str, Any] = self.mongo.reconnect()
    return report


def run(self: Any, attempts: int = 3) -> dict[str, Any]:
    """Try up to `attempts` times, backing off between them, and end in a yes or no: `connected`.

    Between attempts the task is back with the broker, so it never sleeps in a slot.
    """
    report: dict[str, Any] = self.mongo.reconnect(force=True)
    tried = self.request.retries + 1
    # Not the attempt's own outcome: another thread's may have come first.
    connected = report["circuit"] == "closed"
    if connected or tried >= attempts:
        return report | {"connected": connected, "attempts": tried}
    raise self.retry(countdown=self.mongo.backoff.delay(self.request.retries), max_retries=attempts)


def register(app: Any) -> None:
    """Make the functions of this module tasks of `app`."""
    options = {"bind": True, "shared": False, "waits_out_outages": False, "base": app.mongo.Task}
    expires = app.mongo.expiries["mongo.reconnect.attempt"]
    app.task(name="mongo.reconnect.attempt", max_retries=0, expires=expires, **options)(attempt)
    app.task(name="mongo.reconnect.run", **options)(run)
