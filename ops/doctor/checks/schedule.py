"""Does one beat tick?"""

from collections.abc import Iterator

from ..facts import Facts
from ..finding import Check, Finding, Severity
from ..words import seconds

SILENT_SECONDS = 30.0
"""Beat ticks every 5 s or more often; a new leader takes some 15 s."""

HEALTH_QUEUE = "mongo.health"


def silent(facts: Facts) -> Iterator[Finding]:
    """A beat that ticked and does not any more."""
    beats = facts.beats
    if not beats or min(beat.silence for beat in beats) <= SILENT_SECONDS:
        return
    last = min(beats, key=lambda beat: beat.silence)
    yield Finding(
        "beat-silent",
        Severity.DEGRADED,
        f"Beat is dead: it has not ticked for {seconds(last.silence)}.",
        (
            f"the last tick {last.silence:.0f} s ago, by {last.scheduler} on {last.host}, pid {last.pid}",
            "beat tells by itself: this is not a busy worker",
        ),
        "Nothing is sent on schedule: your periodic tasks, health checks, snapshots. What was sent is "
        "worked off.",
        (
            f"on {last.host}: does pid {last.pid} live, and what does the end of its log say? Start it "
            "again, under a supervisor that restarts it",
        ),
    )


def absent(facts: Facts) -> Iterator[Finding]:
    """No beat at all, for a day."""
    if facts.beats == ():
        yield Finding(
            "beat-absent",
            Severity.DEGRADED,
            "No beat has ticked in the last day.",
            ("0 pulses in Redis",),
            "No health check and no snapshot is scheduled, and no periodic task of yours.",
            ("celery -A APP beat  # one of it, or two with the RedBeat scheduler: one leads",),
        )


def doubled(facts: Facts) -> Iterator[Finding]:
    """Two beats tick at the same time: everything is sent twice."""
    ticking = sorted((b for b in facts.beats or () if b.silence <= SILENT_SECONDS), key=lambda b: -b.age)
    # A new leader was not there yet when the one before it last ticked.
    beside = [beat for beat in ticking[1:] if beat.age > ticking[0].silence + 1]
    if not beside:
        return
    both = [ticking[0], *beside]
    yield Finding(
        "beat-doubled",
        Severity.DEGRADED,
        f"{len(both)} beats tick at the same time: every periodic task is sent {len(both)} times.",
        tuple(
            f"pid {beat.pid} on {beat.host} ({beat.scheduler}), last tick {seconds(beat.silence)} ago"
            for beat in both
        ),
        "Celery's plain scheduler knows of no other beat. What is sent twice runs twice.",
        (
            f"stop all but one: kill {beside[-1].pid} on {beside[-1].host}",
            "CELERY_PYMONGO_SCHEDULER=redbeat  # keeps one leader among several",
        ),
    )


def unheard(facts: Facts) -> Iterator[Finding]:
    """Beat ticks, workers are there, and no health check of beat's comes to any."""
    interval = facts.settings.get("health_interval_seconds") or 0.0
    limit = max(SILENT_SECONDS, 3 * interval)
    ticking = [beat for beat in facts.beats or () if beat.silence <= SILENT_SECONDS and beat.age > limit]
    waiting = [process for process in facts.present if process.age(facts.at) > limit]
    last = facts.check_arrived
    if not ticking or not waiting or (last is not None and facts.at - last <= limit):
        return
    if facts.refusal is not None:
        # Nothing is kept then, of a check that arrived neither.
        return
    yield Finding(
        "check-missing",
        Severity.DEGRADED,
        "No health check arrives, though beat ticks.",
        (
            "none has ever arrived" if last is None else f"the last one came {seconds(facts.at - last)} ago",
            f"one is due every {seconds(interval)}; beat ticked {seconds(ticking[0].silence)} ago, for "
            f"{seconds(ticking[0].age)} so far",
        ),
        "Beat cannot send it, it goes where nobody takes it, or it expires before a slot is free. Your own "
        "periodic tasks may fare alike; the fleet is judged by its processes alone meanwhile.",
        (
            "beat's log: does sending fail (QueueNotFound, task_create_missing_queues, a broker that "
            "refuses)? Try the same here:",
            "celery -A APP call mongo.health.check",
            "celery -A APP inspect active_queues  # does a worker consume mongo.health, of beat's broker?",
            "celery -A APP mongo processes  # are all slots busy?",
        ),
        where=frozenset({HEALTH_QUEUE}),
    )


CHECKS = (
    Check(
        "beat-silent",
        "Does beat tick?",
        silent,
        needs=("beats",),
        practice="Regularly check connection health",
    ),
    Check("beat-doubled", "Does only one beat tick?", doubled, needs=("beats",)),
    Check("check-missing", "Do health checks arrive?", unheard, needs=("nodes", "beats")),
    Check("beat-absent", "Is there a beat?", absent, needs=("beats",)),
)
