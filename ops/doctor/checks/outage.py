"""Is MongoDB there? For all, for none, for one node, or for one process."""

import re
from collections.abc import Iterator

from ...text import agree, count, count_of
from ..facts import Facts, Process
from ..finding import Check, Finding, Severity
from ..words import most, names, seconds

# What an outage does to a pool, a queue and a schedule is no trouble of its own.
POOL_SYMPTOMS = ("pool-exhausted", "pool-too-small", "long-holds", "overload", "connection-churn")
SYMPTOMS = (
    *POOL_SYMPTOMS,
    *("node-cut-off", "process-cut-off", "member-away", "queue-unconsumed", "backlog"),
    *("history-refused", "slots-busy"),
)


def mongodb_hangs(facts: Facts) -> Iterator[Finding]:
    """The server takes connections, or its host does, and answers nothing."""
    known = [process.hung_seconds for process in facts.present]
    hung = [silent for silent in known if silent is not None]
    if facts.answers_here or not hung or len(hung) < len(known):
        return
    told = [f"{count_of(len(hung), len(known), 'process')} cut off, without an answer or a refusal"]
    if facts.ping is not None:
        told.append(f"a ping from here: {'; '.join(facts.ping.get('reasons') or ['no answer'])}")
    yield Finding(
        "mongodb-hangs",
        Severity.DOWN,
        f"MongoDB hangs: no answer for {max(hung):.0f} s.",
        tuple(told),
        "No task can use the database. Operations that waited for it were interrupted; tasks of gated queues "
        "wait in the broker and cost no retry, and the fleet goes on by itself within a second of an answer.",
        (
            "on the server's host: is mongod stopped or frozen (ps -o stat= -C mongod shows T or D), does a "
            "disk not answer, is the host paused? If all is well there, a firewall drops the packets",
            "a hung primary of a replica set is replaced by an election if a majority is there; else "
            "restart mongod. Nothing needs to be restarted here",
        ),
    )


def mongodb_down(facts: Facts) -> Iterator[Finding]:
    """Nobody reaches a server."""
    ping = facts.ping
    is_down_here = ping is not None and ping.get("error_class") == "outage"
    away = [process for process in facts.present if process.is_cut_off]
    is_down_there = bool(away) and len(away) == len(facts.present)
    # A server that hangs is noticed at the next heartbeat: until then nobody vouches for it.
    is_doubted = is_down_here and not any(process.vouches for process in facts.present)
    if facts.answers_here or not (is_down_there or is_doubted):
        return
    told = []
    if facts.present and not is_down_there:
        last = min(
            (p.report["ok"] + p.silence for p in facts.present if p.report.get("ok") is not None),
            default=None,
        )
        told.append(
            f"none of {count(len(facts.present), 'process')} has used it since its start"
            if last is None
            else f"none of {count(len(facts.present), 'process')} has used it for {seconds(last)}"
        )
    if away:
        longest = seconds(most(_outage(process) for process in away))
        told.append(f"{count_of(len(away), len(facts.present), 'process')} cut off, for up to {longest}")
        told += sorted(
            {f"the driver says: {process.report['error']}" for process in away if _error(process)}
        )[:2]
    if ping is not None:
        told.append(f"a ping from here: {'; '.join(ping.get('reasons') or ['no answer'])}")
    yield Finding(
        "mongodb-down",
        Severity.DOWN,
        "MongoDB cannot be reached by anybody.",
        tuple(told),
        "No task can use the database. Tasks of gated queues wait in the broker and cost no retry; the fleet "
        "goes on by itself within a second of the server's return.",
        (
            *_steps("; ".join(told)),
            "celery -A APP mongo status --watch  # shows the return: nothing needs to be restarted here",
        ),
    )


# By what the driver met, the first that fits; HOST and PORT are those that it names.
_STEPS = (
    (
        "does not resolve",
        "getent hosts HOST  # on a worker's host: is the name in MONGODB_URI spelt right, does the DNS know "
        "it, "
        "is the DNS there (/etc/resolv.conf)?",
    ),
    (
        "refused",
        "systemctl status mongod  # on HOST: nothing listens on port PORT. Is mongod running, on that port, "
        "bound "
        "to that address (net.bindIp)?",
    ),
    (
        "connection closed|reset",
        "nc -vz HOST PORT  # something takes the connection and closes it: a mongod that ends or is at its "
        "limit of "
        "connections, a proxy or load balancer whose server is away",
    ),
    (
        "timed out|no answer|No route|unreachable",
        "nc -vz -w 3 HOST PORT  # from a worker's host: is the host up; does a firewall, a security group or "
        "an "
        "access list drop the packets?",
    ),
)
_OTHER_STEP = (
    "nc -vz -w 3 HOST PORT  # from a worker's host: does the port answer; is mongod running, is the host up?"
)


def _steps(met: str) -> tuple[str, ...]:
    """Return what to do first for this reason, with the address that was met."""
    step = next((step for words, step in _STEPS if re.search(words, met)), _OTHER_STEP)
    address = re.search(r"([\w.\[\]-]+):(\d{2,5})\b", met)
    host, port = address.groups() if address else ("HOST", "PORT")
    return (re.sub(r"\bPORT\b", port, re.sub(r"\bHOST\b", host, step)),)


def outage_over(facts: Facts) -> Iterator[Finding]:
    """What was, for whoever comes late: MongoDB was away, and all processes use it again."""
    back = [p.report["recovered"] + p.silence for p in facts.present if p.has_just_recovered]
    if not back or any(process.is_cut_off for process in facts.present):
        return
    yield Finding(
        "outage-over",
        Severity.NOTE,
        f"MongoDB was away from {count_of(len(back), len(facts.present), 'process')}, until "
        f"{seconds(min(back))} ago; all of them use it again.",
        (
            f"{count_of(len(back), len(facts.present), 'process')} reconnected {seconds(min(back))} to "
            f"{seconds(max(back))} ago",
        ),
        "It is over. What waited in the broker is being worked off.",
        ("celery -A APP mongo history --since 15m  # how long it lasted",),
    )


def node_cut_off(facts: Facts) -> Iterator[Finding]:
    """One node's way to MongoDB is broken: others, or this machine, reach it."""
    reaching = sum(not process.is_cut_off for process in facts.present)
    if not (reaching or facts.answers_here):
        return
    for node in facts.living:
        away = [process for process in node.present if process.is_cut_off]
        if len(away) < len(node.present):
            continue
        longest = seconds(most(map(_outage, away)))
        witness = f"{count(reaching, 'process')} of other nodes" if reaching else "this machine"
        yield Finding(
            "node-cut-off",
            Severity.DEGRADED if reaching else Severity.DOWN,
            f"{node.name} is cut off from MongoDB, which others reach.",
            (
                f"all {count(len(away), 'process')} of {node.name} cut off, for up to {longest}",
                f"{witness} reached MongoDB meanwhile",
                *sorted({f"the driver says: {p.report['error']}" for p in away if _error(p)})[:1],
            ),
            "The node takes no messages of gated queues and works nothing off, while the server is well.",
            (
                f"from the host of {node.name} try the server's port: routes, firewall, security group, DNS, "
                "a proxy or service mesh between them",
            ),
            where=node.members,
        )


def process_cut_off(facts: Facts) -> Iterator[Finding]:
    """One process is cut off while its siblings are not: its client, not the way."""
    for node in facts.living:
        away = [process for process in node.present if process.is_cut_off]
        if not away or len(away) == len(node.present):
            continue
        yield Finding(
            "process-cut-off",
            Severity.DEGRADED,
            f"{count_of(len(away), len(node.present), 'process')} of {node.name} cannot use MongoDB, "
            f"{agree(len(away), 'its', 'their')} siblings can.",
            (
                f"cut off for up to {seconds(most(map(_outage, away)))}: {names(_members(away))}",
                *sorted({f"the driver says: {p.report['error']}" for p in away if _error(p)})[:1],
            ),
            "Tasks that land in these slots go back to the broker, one a second and slot.",
            (f"celery -A APP control -d {node.name} mongo_reconnect replace=true",),
            where=_members(away),
        )


def no_primary(facts: Facts) -> Iterator[Finding]:
    """A replica set without a primary takes no writes."""
    yield from _of_members(
        facts,
        "no-primary",
        "Writes, and reads with the default read preference, wait for an election.",
        "rs.status() on a member: is there a majority of voting members? An election takes seconds.",
    )


def member_away(facts: Facts) -> Iterator[Finding]:
    """A replica set that has lost a member still works, without its reserve."""
    yield from _of_members(
        facts,
        "member-away",
        "One more loss may leave no majority, and with w=majority writes wait for those that are left.",
        "rs.status() on the primary; then see to the member's host",
    )


def _of_members(facts: Facts, code: str, why: str, fix: str) -> Iterator[Finding]:
    """Tell what the rule that `status` and the health checks go by finds as well."""
    for problem in facts.members:
        if problem["code"] == code:
            sentence = f"{problem['sentence'][0].upper()}{problem['sentence'][1:]}."
            yield Finding(code, Severity(problem["verdict"]), sentence, (problem["evidence"],), why, (fix,))


def _error(process: Process) -> str:
    return str(process.report.get("error") or "")


def _outage(process: Process) -> float:
    return float(process.report.get("outage") or 0.0)


def _members(processes: list[Process]) -> frozenset[str]:
    return frozenset(process.member for process in processes)


CHECKS = (
    Check(
        "mongodb-hangs",
        "Does MongoDB answer at all?",
        mongodb_hangs,
        needs=("nodes",),
        explains=("mongodb-down", "no-primary", *SYMPTOMS),
    ),
    Check(
        "no-primary",
        "Is there a primary?",
        no_primary,
        needs=("ping",),
        explains=("mongodb-down", *SYMPTOMS),
    ),
    Check("mongodb-down", "Does anybody reach MongoDB?", mongodb_down, explains=SYMPTOMS),
    Check(
        "node-cut-off",
        "Does each node reach MongoDB?",
        node_cut_off,
        needs=("nodes",),
        explains=(*POOL_SYMPTOMS, "process-cut-off", "queue-unconsumed", "backlog", "slots-busy"),
    ),
    Check(
        "process-cut-off",
        "Does each process reach MongoDB?",
        process_cut_off,
        needs=("nodes",),
        explains=POOL_SYMPTOMS,
        practice="Regularly check connection health",
    ),
    Check("outage-over", "Was MongoDB away a moment ago?", outage_over, needs=("nodes",)),
    Check("member-away", "Do all members of the replica set answer?", member_away, needs=("ping",)),
)
