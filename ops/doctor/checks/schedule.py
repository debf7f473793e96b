"""Does one beat tick?"""

from collections.abc import Iterator

from ..facts import Facts
from ..finding import Check, Finding, Severity
from ..words import seconds

SILENT_SECONDS = 30.0
"""Beat ticks every 5 s or more often; a new leader takes some 15 s."""


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


CHECKS = (
    Check(
        "beat-silent",
        "Does beat tick?",
        silent,
        needs=("beats",),
        practice="Regularly check connection health",
    ),
    Check("beat-doubled", "Does only one beat tick?", doubled, needs=("beats",)),
    Check("beat-absent", "Is there a beat?", absent, needs=("beats",)),
)
