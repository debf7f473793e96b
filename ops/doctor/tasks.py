"""The doctor and the sizing as tasks: by whatever can send one, from the process that it lands on."""

from typing import Any

# What a broker or a server that hangs may take of a slot.
_SECONDS = 5.0


def doctor(self: Any) -> dict[str, Any]:
    """Return what `mongo doctor --json` prints; takes 5 s at most."""
    from ..deadline import Deadline
    from .report import examine

    return examine(self.app, Deadline(_SECONDS)).to_dict()


def size(
    self: Any,
    rate: float | None = None,
    hold: float | None = None,
    *,
    concurrency: int | None = None,
    processes: int | None = None,
) -> dict[str, Any]:
    """Return what `mongo size --json` prints; `rate` and `hold` (ms) are of one process."""
    from ..deadline import Deadline
    from ..sizing import plan_of
    from .report import sized

    plan = plan_of(rate, hold, concurrency=concurrency, processes=processes)
    return sized(self.app, Deadline(_SECONDS), plan).to_dict()


def register(app: Any) -> None:
    """Make the functions of this module tasks of `app`."""
    options = {"bind": True, "shared": False, "max_retries": 0, "waits_out_outages": False}
    for function in (doctor, size):
        name = f"mongo.ops.{function.__name__}"
        app.task(name=name, base=app.mongo.Task, **options)(function)
