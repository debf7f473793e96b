"""Who is gone, silent or missing."""

from collections.abc import Iterator

from ...text import agree, count
from ..facts import Facts, Report
from ..finding import Check, Finding, Severity
from ..words import most, names, seconds

RECENT_SECONDS = 600.0
"""How long the end of a process is news."""

MISSING_SECONDS = 15.0
"""Celery often replaces a child only at its next look, every 5 s."""


def node_lost(facts: Facts) -> Iterator[Finding]:
    """All of a node's processes ended without a goodbye, and its main process is not known to live."""
    for node in facts.nodes or ():
        if node.present or node.answers or not node.processes:
            continue
        silence = min(process.silence for process in node.processes)
        tasks = {process.task for process in node.processes if process.task}
        queues = {queue for process in node.processes for queue in process.report.get("queues") or ()}
        yield Finding(
            "node-lost",
            Severity.DEGRADED if facts.present else Severity.DOWN,
            f"{node.name} is lost: all of its processes ended without a goodbye.",
            (
                f"all {count(len(node.processes), 'process')} silent, the last was heard {seconds(silence)} "
                "ago",
                f"they were running: {names(tasks) if tasks else 'nothing'}",
                "its main process does not answer"
                if node.answers is False
                else "its main process could not be asked",
            ),
            "Where its main process ended, too, it was SIGKILL, the out-of-memory killer or the host, and "
            "its messages come back to the queue"
            + (" after the visibility timeout." if facts.is_redis_the_broker else "."),
            (
                "dmesg | grep -i 'killed process'  # on its host, or look for the end of the container; then "
                "start the worker again",
                f"celery -A APP mongo bundle incident.tar.gz  # has the post-mortems of {node.name}",
            ),
            where=node.members | queues,
        )


def process_lost(facts: Facts) -> Iterator[Finding]:
    """Processes of a node that lives ended without a goodbye, and nobody took their place."""
    for node in facts.standing:
        lost = [process for process in node.processes if not process.is_present]
        if lost:
            members = frozenset(process.member for process in lost)
            tasks = {process.task for process in lost if process.task}
            yield Finding(
                "process-lost",
                Severity.DEGRADED,
                f"{count(len(lost), 'process')} of {node.name} ended without a goodbye.",
                (
                    f"{names(members)}, silent for up to {seconds(most(p.silence for p in lost))}",
                    f"they were running: {names(tasks) if tasks else 'nothing'}",
                ),
                "Their slots take no tasks until the node replaces them.",
                (f"celery -A APP inspect -d {node.name} mongo_pools  # restart it if slots stay empty",),
                where=members,
            )


def start_blocked(facts: Facts) -> Iterator[Finding]:
    """Children that are killed since they are not up in time, each time anew."""
    for node in facts.standing:
        handlers, limit = node.record.get("init_handlers"), float(node.record.get("alive_timeout") or 0.0)
        young = [
            mortem
            for mortem in _recent(facts, node.name, float(node.record.get("began") or 0.0))
            if limit and abs(_lifetime(mortem) - limit) <= _START_SPAN and not mortem.get("task")
        ]
        newest = min((facts.at - mortem["seen"] for mortem in young), default=RECENT_SECONDS)
        if not handlers or len(young) < 2 or newest > _AGAIN_SECONDS + limit:
            continue
        longest = most(map(_lifetime, young))
        yield Finding(
            "start-blocked",
            Severity.DEGRADED,
            f"New processes of {node.name} are killed before they are up: {names(handlers)} takes longer "
            "than "
            f"{limit:g} s.",
            (
                f"{count(len(young), 'process')} killed {longest:.1f} s after the start at the latest, the "
                "last "
                f"{seconds(newest)} ago",
                f"worker_process_init runs {names(handlers)}; worker_proc_alive_timeout {limit:g} s",
                f"{len(node.present)} of {node.slots} slots have a process that reports",
            ),
            "Celery waits so long for a child to say that it is up, kills it and starts another, for ever. "
            "The "
            "slots take no task meanwhile.",
            (
                f"have {handlers[0].partition(' ')[0]} do nothing that waits: what it opens can be opened on "
                "first "
                "use, as get_client() is",
                f"worker_proc_alive_timeout={2 * limit + 2:g}  # in Celery's settings, if it must take so "
                "long",
            ),
            where=node.members,
        )


# When it ended is known by its last report, which may be a tick old; it is killed at Celery's next look.
_START_SPAN, _AGAIN_SECONDS = 3.0, 20.0


def _lifetime(mortem: Report) -> float:
    return float((mortem.get("seen") or 0.0) - (mortem.get("started") or 0.0))


def _recent(facts: Facts, node: str, began: float = 0.0) -> list[Report]:
    """Return the post-mortems of a node that are news, of its present MAIN where `began` is when that did."""
    return [
        mortem
        for mortem in facts.post_mortems or ()
        if mortem["node"] == node
        and facts.at - (mortem.get("seen") or 0.0) <= RECENT_SECONDS
        and (mortem.get("seen") or 0.0) >= began
    ]


def processes_killed(facts: Facts) -> Iterator[Finding]:
    """Processes that were killed and replaced: a trouble where it is fresh or repeats, else a note."""
    for node in sorted({mortem["node"] for mortem in facts.post_mortems or ()}):
        found = _recent(facts, node)
        if not found:
            continue
        named = {name for mortem in found if (name := (mortem.get("task") or {}).get("name"))}
        newest = min(facts.at - mortem["seen"] for mortem in found)
        is_past = newest > FRESH_SECONDS
        yield Finding(
            "process-killed",
            Severity.NOTE if is_past else Severity.DEGRADED,
            f"{count(len(found), 'process')} of {node} ended by force"
            + (f", the last {seconds(newest)} ago." if is_past else " lately."),
            (
                f"{len(found)} without a goodbye within {seconds(RECENT_SECONDS)}, the last "
                f"{seconds(newest)} ago",
                f"running then: {names(named) if named else 'nothing'}",
            ),
            "No time was left to close anything: SIGKILL, as by the out-of-memory killer, a hard time limit "
            "that was not kept, a crash in C code, or os._exit() in a task. A message that ends its process "
            "three times goes to the dead letters.",
            (
                "dmesg | grep -i 'killed process'  # on its host; give the task less to hold in memory, or "
                "set worker_max_memory_per_child",
                "celery -A APP mongo dead list",
            ),
            where=frozenset({node}),
        )


FRESH_SECONDS = 120.0
"""An end that is older, and was not followed by another, is a note: what there was to do about it is done."""


def slots_missing(facts: Facts) -> Iterator[Finding]:
    """Slots without a process for longer than a replacement takes."""
    since = facts.lasting.get("missing", {})
    for node in facts.standing:
        empty = {slot: facts.at - since[slot] for slot in node.missing if slot in since}
        lasting = {slot: lasted for slot, lasted in empty.items() if lasted >= MISSING_SECONDS}
        if lasting:
            yield Finding(
                "slots-missing",
                Severity.DEGRADED,
                f"{count(len(lasting), 'slot')} of {node.name} {agree(len(lasting), 'has', 'have')} no "
                "process.",
                (f"{names(lasting)}, for up to {seconds(most(lasting.values()))}; expected {node.slots}",),
                "The node works with fewer slots than it should have: its children may die as they start.",
                (
                    f"the log of {node.name} around 'Process … exited'; a worker_process_init handler that "
                    "takes longer than worker_proc_alive_timeout is killed each time",
                ),
                where=frozenset(lasting),
            )


def silent(facts: Facts) -> Iterator[Finding]:
    """Processes that live and do not report."""
    quiet = [process for process in facts.present if process.state in ("stale", "busy")]
    # One that has just missed a tick, and one whose node was just seen to begin, are no news.
    quiet = [process for process in quiet if process.silence > MISSING_SECONDS or process.state == "busy"]
    if not quiet:
        return
    tasks = {process.task for process in quiet if process.task}
    yield Finding(
        "process-silent",
        Severity.DEGRADED,
        f"{count(len(quiet), 'process')} {agree(len(quiet), 'lives', 'live')} and cannot report.",
        (
            f"{names({p.member for p in quiet})}, silent for up to {seconds(most(p.silence for p in quiet))}",
            f"running: {names(tasks) if tasks else 'nothing'}",
        ),
        "A call into C code that keeps the interpreter, a gevent loop that is starved, a host without CPU or "
        "a broken way to Redis: its numbers are old, and its pool is not looked after.",
        ("py-spy dump --pid PID shows where it is; move long calls to a queue and a node of their own",),
        where=frozenset(process.member for process in quiet),
    )


def strays(facts: Facts) -> Iterator[Finding]:
    """Connections under our name of processes that do not report."""
    server = facts.server or {}
    number, current = server.get("strays") or 0, server.get("current")
    if facts.nodes is None or number < 20 or number < 0.25 * (server.get("counted") or 0):
        return
    yield Finding(
        "stray-connections",
        Severity.NOTE,
        f"The server has {count(number, 'connection')} under our name of processes that do not report.",
        (
            f"{count(number, 'stray')}, {server.get('counted') or 0:,} of processes that report, "
            f"{current or 0:,} in all",
        ),
        "They are of processes that cannot write to Redis, of scripts and web processes that use the same "
        "settings, or of clients that were not closed.",
        ("db.currentOp({$all: true}) names them: appName is prefix/deployment/node/slot/pid",),
    )


CHECKS = (
    Check(
        "node-lost",
        "Is every node there?",
        node_lost,
        needs=("nodes",),
        explains=(
            *("process-lost", "process-killed", "slots-missing", "process-silent", "queue-unconsumed"),
            *("backlog", "stray-connections", "beat-silent"),
        ),
    ),
    Check(
        "process-lost",
        "Is every process there?",
        process_lost,
        needs=("nodes",),
        explains=("slots-missing", "process-killed"),
    ),
    Check(
        "start-blocked",
        "Are new processes up in time?",
        start_blocked,
        needs=("nodes", "post_mortems"),
        explains=(
            *("process-lost", "process-killed", "slots-missing", "process-silent", "queue-unconsumed"),
            *("backlog", "slots-busy", "process-churn", "start-timeout", "node-lost"),
        ),
    ),
    Check("slots-missing", "Has every slot a process?", slots_missing, needs=("nodes",)),
    Check("process-killed", "Did all that ended say goodbye?", processes_killed, needs=("post_mortems",)),
    Check("process-silent", "Does every process report?", silent, needs=("nodes",)),
    Check(
        "stray-connections",
        "Are all connections of processes that report?",
        strays,
        needs=("server", "nodes"),
        practice="Close connections safely on shutdown",
    ),
)
