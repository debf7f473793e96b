"""One look at a deployment: what the doctor asks, and what the nodes have counted."""

import time
from typing import Any

from ..deadline import Deadline
from ..doctor.gather import gathered
from ..doctor.judging import diagnose
from .samples import Known


def look(app: Any, deadline: Deadline) -> Known:
    """Return what is known within the deadline. Never raises for what a server does."""
    from ..commands.status import agreed

    told = gathered(app, deadline)
    diagnosis = diagnose(told.facts)
    names = [node.name for node in told.facts.nodes or ()]
    counted = deadline.ask(lambda: app.mongo.view.counters(names)).seen()
    return Known(
        facts=told.facts,
        survey=agreed(told.survey, diagnosis.verdict, diagnosis.findings),
        findings=diagnosis.findings,
        counters={} if counted.value is None else counted.value.found,
        bounds=app.mongo.view.bucket_bounds,
        version=app.mongo.view.version,
        has_seen_redis=told.facts.nodes is not None and counted.value is not None,
        seen_at=time.time(),
    )
