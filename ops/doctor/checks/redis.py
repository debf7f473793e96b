"""Does Redis keep what it is given?"""

from collections.abc import Iterator

from ..facts import Facts
from ..finding import Check, Finding, Severity

NEARLY_FULL = 0.9


def _kept(facts: Facts) -> str:
    """Return what is in Redis that is nowhere else."""
    return "message, result and lock" if facts.is_redis_the_broker else "dead letter and report"


def _refused(facts: Facts) -> str:
    if facts.is_redis_the_broker:
        return "nothing can be sent, acknowledged or reported"
    return "nothing is reported, and a message that must not run again waits for its dead letter"


def persistence(facts: Facts) -> Iterator[Finding]:
    """Redis without an append-only file."""
    redis = facts.redis or {}
    if redis.get("aof_enabled") != 0 or redis.get("save") is None:
        return
    saves = redis["save"]
    lost = "what came since the last snapshot" if saves else f"every {_kept(facts)}"
    yield Finding(
        "redis-persistence",
        Severity.DEGRADED,
        f"{redis.get('product') or 'Redis'} writes no append-only file: a restart loses {lost}.",
        (f"appendonly no, save {saves!r}, {redis.get('product')} {redis.get('redis_version')}",),
        "Messages that wait, that are being worked on and that were dead letters are in Redis alone."
        if facts.is_redis_the_broker
        else "Dead letters, and which runs began and did not end, are in Redis alone.",
        (
            "redis-cli -u REDIS_URL CONFIG SET appendonly yes appendfsync everysec",
            "redis-cli -u REDIS_URL CONFIG REWRITE  # keeps both in its configuration file",
        ),
    )


def broken_writes(facts: Facts) -> Iterator[Finding]:
    """Redis cannot write its file."""
    redis = facts.redis or {}
    failed = [
        name for name in ("aof_last_write_status", "rdb_last_bgsave_status") if redis.get(name) == "err"
    ]
    if failed:
        yield Finding(
            "redis-write-failed",
            Severity.DEGRADED,
            "Redis cannot write to its disk.",
            (f"{', '.join(failed)}: err",),
            "It refuses writes, or loses them at its next restart.",
            ("is the disk full (df -h)? Then see Redis' log",),
        )


def eviction(facts: Facts) -> Iterator[Finding]:
    """Redis throws keys away when its memory is full."""
    redis = facts.redis or {}
    policy, limit = redis.get("maxmemory_policy"), redis.get("maxmemory")
    if not limit or policy in (None, "noeviction"):
        return
    evicted = redis.get("evicted_keys") or 0
    yield Finding(
        "redis-eviction",
        Severity.DEGRADED,
        f"Redis may throw away any {_kept(facts)}: maxmemory-policy is {policy}.",
        (
            f"maxmemory {limit:,} bytes, used {redis.get('used_memory') or 0:,}, keys thrown away so far "
            f"{evicted:,}",
        ),
        "When its memory is full it deletes keys without an error for anybody.",
        (
            "redis-cli -u REDIS_URL CONFIG SET maxmemory-policy noeviction  # a cache belongs into another "
            "Redis",
        ),
    )


def full(facts: Facts) -> Iterator[Finding]:
    """Redis has no memory left and refuses writes."""
    if facts.refusal != "OOM":
        return
    redis = facts.redis or {}
    used, limit = redis.get("used_memory"), redis.get("maxmemory")
    yield Finding(
        "redis-full",
        Severity.DEGRADED,
        "Redis is full: it refuses whatever is written.",
        (
            "a write was answered with OOM"
            + (f"; {used:,} of {limit:,} bytes are used" if used and limit else ""),
        ),
        "Nothing can be sent, no result is kept, and no process can report: how the fleet does is as it was "
        "said last. What is in the queues is still taken.",
        (
            "redis-cli -u REDIS_URL CONFIG SET maxmemory BYTES  # more than now, at once",
            "redis-cli -u REDIS_URL --bigkeys  # what takes the memory",
            "work off or purge what waits, and shorten result_expires",
        ),
    )


def memory(facts: Facts) -> Iterator[Finding]:
    """Redis nears its memory limit."""
    redis = facts.redis or {}
    used, limit = redis.get("used_memory"), redis.get("maxmemory")
    if used and limit and used >= NEARLY_FULL * limit:
        yield Finding(
            "redis-memory",
            Severity.DEGRADED,
            f"Redis uses {used / limit:.0%} of its memory.",
            (f"{used:,} of {limit:,} bytes",),
            f"At the limit it refuses writes: {_refused(facts)}.",
            ("work off or purge what waits, shorten result_expires, or CONFIG SET maxmemory higher",),
        )


def role(facts: Facts) -> Iterator[Finding]:
    """The Redis that is used is a replica."""
    redis = facts.redis or {}
    if redis.get("role") == "slave":
        yield Finding(
            "redis-replica",
            Severity.DOWN,
            "REDIS_URL leads to a replica, which takes no writes.",
            (f"role {redis['role']}, link to its primary {redis.get('master_link_status')}",),
            f"It refuses writes: {_refused(facts)}.",
            ("name the primary in REDIS_URL, or use sentinel:// with REDIS_SENTINEL_MASTER",),
        )


CHECKS = (
    Check("redis-replica", "Is it the primary?", role, needs=("redis",)),
    Check("redis-write-failed", "Can Redis write its file?", broken_writes, needs=("redis",)),
    Check("redis-persistence", "Does Redis survive a restart?", persistence, needs=("redis",)),
    Check("redis-eviction", "Does Redis keep its keys?", eviction, needs=("redis",)),
    Check(
        "redis-full",
        "Does Redis take writes?",
        full,
        explains=("redis-memory", "process-silent", "process-lost", "beat-silent", "beat-absent", "backlog"),
    ),
    Check("redis-memory", "Has Redis memory left?", memory, needs=("redis",)),
)
