"""Will there be connections and descriptors for everybody, when all pools are full?"""

from collections.abc import Iterator

from ...text import count
from ..budget import MONITORING, RESERVE, budget, members_of
from ..facts import Facts
from ..finding import Check, Finding, Severity
from ..words import names

# Beside MongoDB: broker, results, the registry, the board, logs, pipes to MAIN.
_OTHER_DESCRIPTORS = 32
_DESCRIPTORS_PER_CHILD = 8


def connection_budget(facts: Facts) -> Iterator[Finding]:
    """All pools together, once they are as full as they can be, against what the server takes."""
    planned = budget(facts)
    if planned is None or planned.limit is None or planned.total <= planned.limit:
        return
    source = planned.limit_source
    yield Finding(
        "connection-budget",
        Severity.DEGRADED,
        f"The pools may open {planned.total:,} connections; the server takes {planned.limit:,}.",
        (
            *planned.lines,
            f"sum {planned.total:,} to each member, limit {planned.limit:,} by {source}",
        ),
        "All is well until all are busy, or a failover makes everybody reconnect at once: then the server "
        "refuses connections, health checks among them.",
        (
            f"MONGODB_MAX_POOL_SIZE={planned.fitting}" if planned.fitting else "fewer processes or nodes",
            "or a server that takes more: net.maxIncomingConnections, a larger Atlas tier "
            "(CELERY_PYMONGO_SERVER_CONNECTIONS tells it to this check)",
        ),
    )


def file_descriptors(facts: Facts) -> Iterator[Finding]:
    """A process needs a descriptor for each connection, MAIN some for each child."""
    for node in facts.living:
        limit = node.record.get("nofile")
        pools = [process.most_connections or 0 for process in node.present]
        need = _OTHER_DESCRIPTORS + max(
            (max(pools) + MONITORING) * members_of(facts),
            _DESCRIPTORS_PER_CHILD * node.slots,
        )
        if limit and need > RESERVE * limit:
            yield Finding(
                "file-descriptors",
                Severity.DEGRADED,
                f"{node.name} may need {need:,} file descriptors, and may open {limit:,}.",
                (f"RLIMIT_NOFILE {limit:,}, needed up to {need:,} in one process",),
                "At the limit connections fail with 'Too many open files', to Redis as well.",
                (f"LimitNOFILE={max(65_536, 4 * need)} in the systemd unit, or ulimit -n, for {node.name}",),
                where=node.members,
            )


def redis_clients(facts: Facts) -> Iterator[Finding]:
    """Redis refuses clients beyond its limit, workers and health checks alike."""
    redis = facts.redis or {}
    current, limit = redis.get("connected_clients"), redis.get("maxclients")
    if not current or not limit or current < RESERVE * limit:
        return
    yield Finding(
        "redis-clients",
        Severity.DEGRADED,
        f"Redis has {current:,} of {limit:,} clients.",
        (f"{current / limit:.0%} of maxclients; {count(len(facts.present), 'process')} report",),
        "At the limit it refuses connections: no message is taken or sent by whoever comes next."
        if facts.is_redis_the_broker
        else "At the limit it refuses connections: whoever comes next does not report.",
        (
            f"redis-cli -u REDIS_URL CONFIG SET maxclients {2 * limit}  # broker_pool_limit and "
            "redis_max_connections bound what a process opens",
        ),
    )


def min_pool(facts: Facts) -> Iterator[Finding]:
    """Connections that are kept open and never used together."""
    wasteful = [
        process
        for process in facts.present
        if process.concurrency is not None and process.min_pool > process.concurrency + 1
    ]
    if not wasteful:
        return
    idle = sum(process.min_pool - (process.concurrency or 0) for process in wasteful)
    one = wasteful[0]
    yield Finding(
        "min-pool-size",
        Severity.NOTE,
        f"minPoolSize keeps {count(idle, 'connection')} open that are never used.",
        (
            f"minPoolSize {one.min_pool} where {count(one.concurrency or 0, 'task')} can run at a time, in "
            f"{count(len(wasteful), 'process')}",
        ),
        "A process that runs one task at a time uses one connection; each idle one costs the server about "
        "1 MB.",
        ("MONGODB_MIN_POOL_SIZE=auto",),
        where=frozenset(process.member for process in wasteful),
    )


def pool_below_concurrency(facts: Facts) -> Iterator[Finding]:
    """Fewer connections than tasks at a time: not yet a trouble."""
    small = [
        process
        for process in facts.present
        if process.concurrency and process.max_pool and process.max_pool < process.concurrency
    ]
    if not small:
        return
    one = small[0]
    yield Finding(
        "pool-below-concurrency",
        Severity.NOTE,
        f"maxPoolSize {one.max_pool} is below the {one.concurrency} tasks that a process runs at a time.",
        (f"in {names({process.member for process in small})}; nobody waits now",),
        "Once all tasks use MongoDB at once, some wait for others.",
        (f"MONGODB_MAX_POOL_SIZE={(one.concurrency or 0) + 1}  # if the connection budget allows it",),
        where=frozenset(process.member for process in small),
    )


CHECKS = (
    Check(
        "connection-budget",
        "Do all pools together fit the server?",
        connection_budget,
        needs=("nodes", "limit"),
        explains=("server-nearly-full",),
        practice="Set maxPoolSize based on expected load",
    ),
    Check(
        "file-descriptors", "Are there descriptors for all connections?", file_descriptors, needs=("nodes",)
    ),
    Check("redis-clients", "Has Redis room for clients?", redis_clients, needs=("redis",)),
    Check(
        "min-pool-size",
        "Are connections kept open for nobody?",
        min_pool,
        needs=("nodes",),
        practice="Use an appropriate minPoolSize for the application",
    ),
    Check(
        "pool-below-concurrency",
        "Is there a connection for each task?",
        pool_below_concurrency,
        needs=("nodes",),
        practice="Set maxPoolSize based on expected load",
    ),
)
