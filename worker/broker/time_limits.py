"""Which time limit ends a run of a task."""

from typing import Any


def soonest(task: Any, node: tuple[float | None, float | None]) -> float | None:
    """Return the seconds after which this run is ended, softly or hard; None without a limit.

    `task` is one with its request, `node` the hard and soft limit of the node. As Celery has it: the
    message's count, then the task's (or the app's, which the task has taken), then the node's.
    """
    hard, soft = task.request.timelimit or (None, None)
    limits = (hard or task.time_limit or node[0], soft or task.soft_time_limit or node[1])
    return min((seconds for seconds in limits if seconds), default=None)
