"""What is told with an error of a task: where it ran, how its pool did, how long it waited, what was left."""

import os
import time
from typing import TYPE_CHECKING, Any

from celery import current_task

from ..broker import time_limits
from ..process.process import current_slot
from ..tracking.work import Work, current_work
from . import messages

if TYPE_CHECKING:
    from ..process.process import Mongo


def of_process(mongo: "Mongo", now: float) -> dict[str, Any]:
    """Return node, slot, pid, circuit and the pool's gauges by server. Memory only; `now` is monotonic."""
    link = mongo.link
    return {
        "deployment": mongo.settings.deployment,
        "node": mongo.place.node,
        "slot": current_slot(),
        "pid": os.getpid(),
        "circuit": str(link.circuit.state),
        "outage_seconds": round(link.circuit.outage_seconds(now), 1),
        "server": link.server,
        "pool": {server: gauges.to_dict() for server, gauges in mongo.monitor.gauges().items()},
    }


def of_task(work: Work, mongo: "Mongo", now: float) -> dict[str, Any]:
    """Return name, id, how long it has run and waited for connections, its limit and what was left of it."""
    ran = now - work.started_at
    limit = _limit(work, mongo)
    # A MongoTask's operations end before its limit does.
    ends_at = work.ends_at
    left = ends_at - now if ends_at is not None else None if limit is None else limit - ran
    return {
        "name": work.name,
        "id": work.id,
        "seconds": round(ran, 3),
        "waited_seconds": round(work.waited, 4),
        "limit_seconds": limit,
        "deadline": None if left is None else messages.moment(time.time() + left),
        "left_seconds": None if left is None else round(left, 3),
    }


def add(event: dict[str, Any], mongo: "Mongo") -> dict[str, Any]:
    """Add to an event that is captured within a task; any other is returned as it is."""
    work = current_work.get()
    if work is None or event.get("type") is not None:
        return event
    now = time.monotonic()
    contexts = event.setdefault("contexts", {})
    contexts["celery_pymongo"] = of_process(mongo, now)
    contexts["celery_pymongo_task"] = of_task(work, mongo, now)
    tags = event.setdefault("tags", {})
    if isinstance(tags, dict):
        tags |= {"celery.slot": str(current_slot()), "celery_pymongo.circuit": str(mongo.link.circuit.state)}
    crumbs = event.setdefault("breadcrumbs", {}).setdefault("values", [])
    crumbs += messages.crumbs(mongo.flight())
    crumbs.sort(key=lambda crumb: str(crumb.get("timestamp", "")))
    return event


def _limit(work: Work, mongo: "Mongo") -> float | None:
    task = current_task
    # Of a task within a task the outer one's request may be the current one.
    if not task or task.request.id != work.id:
        return None
    return time_limits.soonest(task, mongo.time_limits)
