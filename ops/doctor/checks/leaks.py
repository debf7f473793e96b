"""Does each task end what it began?"""

from collections.abc import Iterator

from ...text import count
from ..facts import Facts, Process
from ..finding import Check, Finding, Severity
from ..words import names

OFTEN = 10
"""A wait that is interrupted now and then is nothing to speak of."""


def leaks(facts: Facts) -> Iterator[Finding]:
    """Tasks that ended and left a session, a transaction, a cursor or a client open."""
    leaking = [process for process in facts.present if _open(process) > 0]
    if not leaking:
        return
    number = sum(map(_open, leaking))
    told = [process.part("leak") for process in leaking if process.part("leak")]
    tasks = {leak["task"] for leak in told}
    yield Finding(
        "leak",
        Severity.DEGRADED,
        f"{names(tasks) if tasks else 'A task'} ends and leaves something open.",
        (
            f"{count(number, 'thing')} left open in {names({process.member for process in leaking})}",
            *sorted({f"{leak['task']} left {leak['what']}" for leak in told})[:5],
        ),
        "What is left open pins memory here and on the server, and a transaction or an exhaust cursor pins a "
        "connection: the pool runs dry in the end. It goes when the process ends.",
        (
            "use a with block: with client.start_session() as session, with collection.find(…) as cursor",
            "the log line pool.leak has the line where it was opened, from the second time on",
        ),
        where=frozenset(process.member for process in leaking),
    )


def _open(process: Process) -> int:
    return int(process.number("count", "leaks") - process.number("count", "false_alarms"))


def drift(facts: Facts) -> Iterator[Finding]:
    """Gauges had to be corrected: something ended waits or holds behind the pool's back."""
    drifting = [process for process in facts.present if process.number("count", "drift") >= OFTEN]
    if not drifting:
        return
    number = int(sum(process.number("count", "drift") for process in drifting))
    yield Finding(
        "drift",
        Severity.NOTE,
        f"The pool's events were lost {count(number, 'time')}; the gauges were corrected.",
        (f"{number} in {names({process.member for process in drifting})}",),
        "A soft time limit, or a greenlet that is killed, ends a wait without an event. Any monitor that "
        "only counts events would be wrong by so many from then on.",
        ("nothing to do here; if it grows, tasks are often interrupted in the queue for a connection",),
        where=frozenset(process.member for process in drifting),
    )


CHECKS = (
    Check(
        "leak",
        "Does each task end what it began?",
        leaks,
        needs=("nodes",),
        explains=("pool-exhausted", "second-client"),
        practice="Close connections safely on shutdown",
    ),
    Check("drift", "Do gauges and events agree?", drift, needs=("nodes",)),
)
