"""Does everybody get a connection in time, and if not, why: long holds, too few, or too much at once?"""

from collections.abc import Iterable, Iterator, Sequence

from ...text import count
from ..facts import Facts, Process
from ..finding import Check, Finding, Severity
from ..words import most, names, seconds

WAIT_P99_MS = 100.0
"""MongoDB's alert level for the time that a checkout waits."""

SUSTAINED_SECONDS = 10.0
"""MongoDB's alert level for a queue that does not empty."""

LONG_SECONDS = 5.0
"""A connection that is held longer is held for long, where the settings say nothing else."""

# Where in a report's histogram of waits those above 100 ms begin.
_ABOVE_P99 = 10
# So many operations wait for one connection to be made.
_BEHIND_ONE = 2
# A percentile of fewer checkouts is the one that had to connect first.
_ENOUGH = 20


def long_holds(facts: Facts) -> Iterator[Finding]:
    """Tasks keep connections for long, and others wait for them."""
    short = _short_of_connections(facts)
    holding = [process for process in short if _longest(process) >= _limit(facts)]
    if not holding:
        return
    worst = max(holding, key=_longest)
    held = worst.part("held")
    task = held.get("task") or worst.task or "a thread that is no task"
    yield Finding(
        "long-holds",
        Severity.DEGRADED,
        f"Connections are held for long, and others wait for them: {task}.",
        (
            f"{task} holds a connection for {seconds(_longest(worst))} in {worst.member}"
            + (f", {count(held['n'], 'connection')} there held so long now" if held.get("n") else ""),
            *_shortage(holding),
        ),
        "A connection that is held for seconds serves nobody else: a slow query without an index, a "
        "transaction or a cursor that stays open, work between two batches of a cursor.",
        (
            f"the log line pool.long_hold of {worst.node} has the stack; explain() the query of {task}",
            "give slow tasks a queue and workers of their own; a larger maxPoolSize only moves the wait to "
            "the server",
        ),
        where=_members(holding),
    )


def pool_held(facts: Facts) -> Iterator[Finding]:
    """Tasks of one name have the connections for most of the time, and the others wait for them."""
    found = [p for p in _short_of_connections(facts) if _is_held(p) and _longest(p) < _limit(facts)]
    if not found:
        return
    worst = max(found, key=lambda process: process.number("most_held", "seconds"))
    held = worst.part("most_held")
    task, share = held["task"], held["seconds"] / held["of"]
    yield Finding(
        "pool-held",
        Severity.DEGRADED,
        f"{task} holds the connections {share:.0%} of the time that tasks hold them, and others wait.",
        (
            f"{task}: {held['seconds']:,.0f} s of {held['of']:,.0f} s held in the last minute in "
            f"{worst.member}, "
            f"{count(held['n'], 'hold')} of {held['seconds'] / held['n']:.1f} s on average",
            *_shortage(found),
        ),
        "Its operations are slow, and each keeps a connection until it is done. The server may be well: "
        "tasks of "
        "other names are as fast as ever once they have a connection.",
        (
            "db.currentOp({active: true, appName: /^celery-pymongo/, microsecs_running: {$gt: 500000}})  # "
            "its "
            "command now; explain() it: an index, a smaller batch, a projection",
            f"task_routes = {{'{task}': {{'queue': 'slow'}}}}  # and a worker of its own for that queue",
        ),
        where=_members(found),
    )


# Of the time that is held, and seconds of an average hold.
_HELD_SHARE, _HELD_SECONDS = 0.6, 0.5


def _is_held(process: Process) -> bool:
    held = process.part("most_held")
    if not held or not held["n"] or not held["of"]:
        return False
    return bool(held["seconds"] / held["of"] >= _HELD_SHARE and held["seconds"] / held["n"] >= _HELD_SECONDS)


def pool_too_small(facts: Facts) -> Iterator[Finding]:
    """More tasks at a time than connections, and the tasks wait."""
    short = [p for p in _short_of_connections(facts) if _is_too_small(p) and _longest(p) < _limit(facts)]
    short = [process for process in short if not _is_held(process)]
    if not short:
        return
    worst = max(short, key=lambda process: process.number("wait", "p99"))
    need = (worst.concurrency or 0) + 1
    yield Finding(
        "pool-too-small",
        Severity.DEGRADED,
        f"The pool is too small: {count(worst.max_pool or 0, 'connection')} for "
        f"{count(worst.concurrency or 0, 'task')} at a time.",
        (
            f"maxPoolSize {worst.max_pool}, concurrency {worst.concurrency} in {names(_members(short))}",
            *_shortage(short),
        ),
        "Tasks run beside each other and queue for connections: each waits for another's operation.",
        (
            f"MONGODB_MAX_POOL_SIZE={need}  # one per concurrent task, and one for the health check; or "
            "fewer tasks at a time",
            "celery -A APP mongo size  # what that costs the server",
        ),
        where=_members(short),
    )


def pool_exhausted(facts: Facts) -> Iterator[Finding]:
    """Operations wait although there is a connection for each task."""
    short = [p for p in _short_of_connections(facts) if not _is_too_small(p) and _longest(p) < _limit(facts)]
    short = [process for process in short if not _is_held(process)]
    if not short:
        return
    yield Finding(
        "pool-exhausted",
        Severity.DEGRADED,
        f"Operations wait for a connection in {count(len(short), 'process')}.",
        (*_shortage(short), f"in {names(_members(short))}"),
        "There is a connection for each task, so tasks start threads of their own, leave cursors open, or "
        "connections take long to be made (maxConnecting, TLS, a busy server).",
        (
            f"celery -A APP mongo flight {short[0].member}  # the pool's last events",
            "count the threads that your tasks start: maxPoolSize must hold all of them",
        ),
        where=_members(short),
    )


def _short_of_connections(facts: Facts) -> list[Process]:
    # While MongoDB is away the pools say nothing that the circuits do not.
    return [p for p in facts.present if not p.is_cut_off and (_waits(p, facts) or _has_timed_out(p))]


def _waits(process: Process, facts: Facts) -> bool:
    began = facts.lasting.get("waiting", {}).get(process.member)
    is_sustained = began is not None and facts.at - began >= SUSTAINED_SECONDS
    return _is_slow(process) or (is_sustained and bool(process.pool.get("waiting")))


def _is_slow(process: Process) -> bool:
    """Say whether many wait for long; a connection that had to be made explains that some did."""
    number = process.number("wait", "n")
    if number < _ENOUGH or process.number("wait", "p99") <= WAIT_P99_MS:
        return False
    buckets = process.report.get("wait_buckets")
    slow = sum(buckets[_ABOVE_P99:]) if buckets else number
    return bool(slow > _BEHIND_ONE * 60 * process.number("rate", "created"))


def _has_timed_out(process: Process) -> bool:
    return process.number("count", "timeouts") > 0 and process.number("rate", "failed") > 0


def _longest(process: Process) -> float:
    """Return how long a connection is held now, or was in the last minute, at the most."""
    return max(process.number("held", "seconds"), process.number("use", "max") / 1000)


def _limit(facts: Facts) -> float:
    return float(facts.settings.get("long_hold_seconds") or LONG_SECONDS)


def _is_too_small(process: Process) -> bool:
    return bool(process.max_pool and process.concurrency and process.max_pool < process.concurrency)


def _shortage(processes: Sequence[Process]) -> Iterator[str]:
    waiting = sum(process.pool.get("waiting") or 0 for process in processes)
    worst = max(processes, key=lambda process: process.number("pool", "usage"))
    yield f"{waiting} waiting now, {_in_use(worst)} connections in use in the fullest pool"
    p99 = most(process.number("wait", "p99") for process in processes)
    timeouts = int(sum(process.number("count", "timeouts") for process in processes))
    yield f"waits in the last minute: p99 up to {p99:,.0f} ms; timeouts so far: {timeouts:,}"


def _in_use(process: Process) -> str:
    limit = process.pool.get("max")
    return f"{round(process.number('pool', 'usage') * limit)} of {limit}" if limit else "any number of"


def _members(processes: Iterable[Process]) -> frozenset[str]:
    return frozenset(process.member for process in processes)


CHECKS = (
    Check(
        "long-holds",
        "Is a connection given back soon?",
        long_holds,
        needs=("nodes",),
        explains=(
            "pool-exhausted",
            "pool-too-small",
            "pool-below-concurrency",
            "slots-busy",
            "backlog",
        ),
        practice="Track connection wait times",
    ),
    Check(
        "pool-held",
        "Does one task keep the connections from the others?",
        pool_held,
        needs=("nodes",),
        explains=("pool-exhausted", "pool-too-small", "pool-below-concurrency", "slots-busy", "backlog"),
        practice="Track connection wait times",
    ),
    Check(
        "pool-too-small",
        "Do tasks wait for want of connections?",
        pool_too_small,
        needs=("nodes",),
        explains=("pool-exhausted", "pool-below-concurrency", "slots-busy", "backlog"),
        practice="Set maxPoolSize based on expected load",
    ),
    Check(
        "pool-exhausted",
        "Do operations wait for a connection?",
        pool_exhausted,
        needs=("nodes",),
        explains=("backlog",),
        practice="Monitor number of active connections",
    ),
)
