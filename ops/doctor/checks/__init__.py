"""Every check, causes before what may follow from them: the order of findings that are equally bad."""

from ..finding import Check
from . import (
    budget,
    churn,
    clients,
    clocks,
    database,
    delivery,
    exhaustion,
    leaks,
    lost,
    outage,
    queues,
    reach,
    redis,
    safety,
    schedule,
    strain,
    timeouts,
    versions,
)

CHECKS: tuple[Check, ...] = (
    *reach.CHECKS,
    *outage.CHECKS,
    *lost.CHECKS,
    *clients.CHECKS,
    *strain.CHECKS,
    *exhaustion.CHECKS,
    *leaks.CHECKS,
    *budget.CHECKS,
    *churn.CHECKS,
    *redis.CHECKS,
    *delivery.CHECKS,
    *queues.CHECKS,
    *schedule.CHECKS,
    *clocks.CHECKS,
    *timeouts.CHECKS,
    *safety.CHECKS,
    *versions.CHECKS,
    *database.CHECKS,
)
