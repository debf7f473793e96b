"""Are messages taken and worked off?"""

from collections import defaultdict
from collections.abc import Iterator

from ...text import agree, count
from ..facts import Facts, Node, Queue
from ..finding import Check, Finding, Severity
from ..words import most, names, seconds

BUSY_SECONDS = 10.0
"""A message that waits longer while every slot works waits for the slots."""

WAITING_SECONDS = 60.0
"""A message that waits longer says that the fleet cannot keep up."""

UNCONSUMED_SECONDS = 5.0
"""A worker that starts takes as long to say what it consumes."""


def slots_busy(facts: Facts) -> Iterator[Finding]:
    """Messages wait since every slot of those who could take them runs a task."""
    waiting = {
        name: queue
        for name, queue in (facts.queues or {}).items()
        if queue.depth and queue.consumers and (queue.age or 0.0) > BUSY_SECONDS and not _gate(facts, name)
    }
    nodes = {node.name: node for node in facts.living}
    stuck = {
        name: queue
        for name, queue in waiting.items()
        if all(_is_busy(nodes[consumer]) for consumer in queue.consumers if consumer in nodes)
    }
    if not stuck:
        return
    busy = [
        nodes[name] for name in sorted({c for queue in stuck.values() for c in queue.consumers} & set(nodes))
    ]
    running = [process for node in busy for process in node.present]
    longest = most(process.number("task", "seconds") for process in running)
    slots = sum(process.concurrency or 0 for process in running)
    ticking = [beat for beat in facts.beats or () if beat.silence <= 30]
    yield Finding(
        "slots-busy",
        Severity.DEGRADED,
        f"All {count(slots, 'slot')} of {names({node.name for node in busy})} are busy, and messages wait.",
        (
            f"running: {names({p.task for p in running if p.task})}, the longest for {seconds(longest)}",
            *(_line(name, queue) for name, queue in sorted(stuck.items())[:3]),
            *(f"beat is alive: it ticked {seconds(beat.silence)} ago" for beat in ticking[:1]),
        ),
        "Whatever is sent waits for a slot, health checks and this fleet's own tasks too; they expire unrun. "
        "The schedule is not at fault.",
        (
            "more slots (--concurrency, more nodes), or a queue and a worker of their own for the long tasks",
            "celery -A APP worker -Q mongo.health,mongo.ops -c 2  # keeps the health checks out of their way",
        ),
        where=frozenset(stuck).union(*(node.members for node in busy)),
    )


def unconsumed(facts: Facts) -> Iterator[Finding]:
    """Messages in a queue that nobody takes from."""
    for name, queue in sorted((facts.queues or {}).items()):
        is_new = queue.age is not None and queue.age < UNCONSUMED_SECONDS
        if not queue.depth or queue.consumers or is_new or _gate(facts, name) or not _all_tell(facts):
            continue
        consumed = {name for name, other in (facts.queues or {}).items() if other.consumers}
        yield Finding(
            "queue-unconsumed",
            Severity.DEGRADED,
            f"Nobody consumes the queue {name}.",
            (_line(name, queue), f"consumed are: {names(consumed) if consumed else 'no queues'}"),
            "These messages wait for ever, and whoever waits for their results with them: a worker is "
            "missing, or a route names a queue that no worker has.",
            (
                f"celery -A APP control add_consumer {name}  # now, until the next start",
                f"celery -A APP worker -Q {name}  # for good; on a node that has queues beside them",
                f"if the name is a mistake: mend the route or queue= that says {name!r}",
            ),
            where=frozenset({name}),
        )


def backlog(facts: Facts) -> Iterator[Finding]:
    """Messages wait for long although somebody takes from the queue."""
    late = {
        name: queue
        for name, queue in (facts.queues or {}).items()
        if queue.depth and queue.consumers and (queue.age or 0.0) > WAITING_SECONDS
    }
    if late:
        yield Finding(
            "backlog",
            Severity.DEGRADED,
            f"Messages wait in {names(late)}: the fleet does not keep up.",
            tuple(_line(name, queue) for name, queue in sorted(late.items())[:5]),
            "More is sent than is worked off.",
            (
                "more slots for these queues, or fewer messages",
                "celery -A APP mongo processes  # what the slots do",
            ),
            where=frozenset(late),
        )


def gated(facts: Facts) -> Iterator[Finding]:
    """Queues that an operator paused."""
    paused = {
        (queue, process.node)
        for process in facts.present
        for queue, why in process.part("gate").items()
        if why == "operator"
    }
    for name in sorted({queue for queue, _ in paused}):
        nodes = {node for queue, node in paused if queue == name}
        queue = (facts.queues or {}).get(name)
        waits = "how many messages wait is not known"
        if queue is not None:
            waits = f"{count(queue.depth, 'message')} {agree(queue.depth, 'waits', 'wait')}"
        yield Finding(
            "queue-paused",
            Severity.NOTE,
            f"The queue {name} is paused by an operator.",
            (f"on {names(nodes)}; {waits}",),
            "It stays paused until somebody resumes it, over restarts too.",
            (f"celery -A APP mongo resume {name}",),
            where=frozenset({name}),
        )


def _is_busy(node: Node) -> bool:
    return bool(node.present) and all(process.is_full_of_tasks for process in node.present)


def _gate(facts: Facts, queue: str) -> bool:
    return any(queue in process.part("gate") for process in facts.present)


def _all_tell(facts: Facts) -> bool:
    # A node that has just started does not know its queues yet.
    return bool(facts.present) and all(process.report.get("queues") for process in facts.present)


def shared(facts: Facts) -> Iterator[Finding]:
    """Queues that another deployment consumes, too."""
    own = {name for process in facts.present for name in process.report.get("queues") or ()}
    by_others: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, deployments in sorted((facts.elsewhere or {}).items()):
        if name in own:
            by_others[deployments].append(name)
    for deployments, queues in by_others.items():
        yield Finding(
            "queue-shared",
            Severity.DEGRADED,
            f"The {agree(len(deployments), 'deployment', 'deployments')} {names(deployments)} "
            f"{agree(len(deployments), 'consumes', 'consume')} "
            f"{agree(len(queues), 'a queue', 'queues')} of this one.",
            (f"{count(len(queues), 'queue')} of the same broker: {names(queues)}",),
            "Each takes the other's tasks and runs them with its own code, settings and database. A "
            "deployment's name keeps apart what this package keeps in Redis, and no queues.",
            (
                "another database or virtual host in the broker_url of one, or a prefix of its own for "
                "Redis: broker_transport_options['global_keyprefix']; or other names of queues",
            ),
            where=frozenset(queues),
        )


def _line(name: str, queue: Queue) -> str:
    age = "" if queue.age is None else f", the oldest for {seconds(queue.age)}"
    return f"{count(queue.depth, 'message')} in {name}{age}"


CHECKS = (
    Check(
        "slots-busy",
        "Is a slot free?",
        slots_busy,
        needs=("nodes", "queues"),
        explains=("backlog", "check-missing"),
    ),
    Check(
        "queue-unconsumed",
        "Is every queue consumed?",
        unconsumed,
        needs=("nodes", "queues"),
        explains=("check-missing",),
    ),
    Check("backlog", "Are messages taken soon?", backlog, needs=("nodes", "queues")),
    Check("queue-shared", "Does nobody else consume our queues?", shared, needs=("nodes", "elsewhere")),
    Check("queue-paused", "Is a queue paused by an operator?", gated, needs=("nodes",)),
)
