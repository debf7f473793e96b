"""What can be seen from here at all."""

from collections.abc import Iterator

from ..facts import Facts
from ..finding import Check, Finding, Severity

BETWEEN_SECONDS = 30.0
"""How long after the last health check a deployment without a report may be between two fleets."""


def nothing_reached(facts: Facts) -> Iterator[Finding]:
    """Neither Redis nor MongoDB answers: most likely it is this machine."""
    is_outage = facts.ping is not None and facts.ping.get("error_class") == "outage"
    is_refused = facts.redis_refuses is not None
    if facts.nodes is not None or is_refused or not facts.has_redis or not is_outage:
        return
    yield Finding(
        "nothing-reached",
        Severity.UNKNOWN,
        "Neither Redis nor MongoDB answers this machine: nothing can be said of the fleet.",
        (
            f"Redis: {facts.unseen.get('nodes', 'no answer')}",
            f"MongoDB: {'; '.join((facts.ping or {}).get('reasons') or ['no answer'])}",
        ),
        "Either both are down, or this machine has no way to them.",
        ("run this from a worker's host, with the environment of a worker (REDIS_URL, MONGODB_URI)",),
    )


def no_redis(facts: Facts) -> Iterator[Finding]:
    """Nobody names a Redis."""
    if facts.has_redis:
        return
    yield Finding(
        "no-redis",
        Severity.UNKNOWN,
        "No Redis is named: nothing can be said of the fleet.",
        (f"REDIS_URL is not set, the broker is {facts.broker}, and the result backend is no Redis",),
        "Tasks run without: what processes report, the history, dead letters and the count of kills are kept "
        "in a Redis. Tasks that must not run twice fail.",
        ("REDIS_URL=redis://HOST:PORT/DB  # for workers, beat and this command; it need not be the broker",),
    )


def redis_down(facts: Facts) -> Iterator[Finding]:
    """Redis does not answer."""
    if facts.nodes is not None or facts.redis_refuses is not None or not facts.has_redis:
        return
    if not facts.is_redis_the_broker:
        yield Finding(
            "redis-down",
            Severity.DEGRADED,
            "Redis does not answer this machine.",
            (_redis(facts),),
            "It is not the broker: tasks run. Of the fleet nothing can be seen meanwhile, and tasks that "
            "must not run twice wait.",
            (
                "redis-cli -u REDIS_URL ping  # here and on a worker's host: is the server up, is the port "
                "open, is the password right?",
            ),
        )
        return
    yield Finding(
        "redis-down",
        Severity.DOWN,
        "Redis does not answer this machine.",
        (_redis(facts),),
        "Without its broker the fleet takes and sends no message. Running tasks end, and what is finished is "
        "acknowledged once Redis is back; of the fleet nothing can be seen meanwhile.",
        (
            "redis-cli -u REDIS_URL ping  # here and on a worker's host: is the server up, is the port open, "
            "is the password right?",
        ),
    )


def _redis(facts: Facts) -> str:
    place = facts.redis_places.get("registry")
    return f"Redis{f' at {place}' if place else ''}: {facts.unseen.get('nodes', 'no answer')}"


def redis_refused(facts: Facts) -> Iterator[Finding]:
    """The broker answers, and does not say what it is asked."""
    if facts.redis_refuses is None:
        return
    yield Finding(
        "redis-refused",
        Severity.UNKNOWN,
        f"Redis answers this machine and {facts.redis_refuses}.",
        (f"Redis: {facts.unseen.get('nodes', 'refused')}",),
        "Of the fleet nothing can be seen from here. Workers whose Redis user has the same rules cannot "
        "report, or cannot take messages.",
        (
            "redis-cli -u REDIS_URL ACL LOG  # as an administrator: what was refused",
            "compare with the rules in docs/guides/permissions.md, 'Permissions in Redis'",
        ),
    )


def nobody_reports(facts: Facts) -> Iterator[Finding]:
    """Redis is there and holds no report."""
    # Who reports what cannot be read reports.
    if facts.nodes is None or facts.nodes or facts.unreadable:
        return
    # In a deploy all have said goodbye, and who comes next has not reported yet.
    if facts.judged is not None and facts.at - facts.judged <= BETWEEN_SECONDS:
        return
    yield Finding(
        "nobody-reports",
        Severity.UNKNOWN,
        f"No process of the deployment {facts.deployment!r} reports.",
        ("0 reports in Redis",),
        "No worker runs, or it runs under another deployment or key prefix, or it cannot write to Redis.",
        (
            "celery -A APP status  # does a worker answer?",
            "compare CELERY_PYMONGO_DEPLOYMENT, CELERY_PYMONGO_KEY_PREFIX and REDIS_URL here with a worker's",
        ),
    )


CHECKS = (
    Check(
        "nothing-reached",
        "Is anything seen from here?",
        nothing_reached,
        explains=("redis-down", "mongodb-down"),
    ),
    Check("no-redis", "Is a Redis named?", no_redis),
    Check("redis-down", "Does Redis answer?", redis_down, explains=("beat-silent",)),
    Check("redis-refused", "Does Redis tell what it is asked?", redis_refused),
    Check(
        "nobody-reports",
        "Does any process report?",
        nobody_reports,
        needs=("nodes",),
        explains=("queue-unconsumed", "backlog", "beat-absent", "beat-silent"),
    ),
)
