"""Which defects do the versions in use have, and do all nodes have the same?"""

from collections import defaultdict
from collections.abc import Iterator

from ..facts import Facts, Node
from ..finding import Check, Finding, Severity
from ..words import names

Version = tuple[int, ...]


def advisor(facts: Facts) -> Iterator[Finding]:
    """Versions with a known defect that matters here."""
    found: dict[tuple[str, str, str], dict[str, Node]] = defaultdict(dict)
    for node in facts.living:
        for advice in _advice(node):
            found[advice][node.name] = node
    for (title, why, fix), nodes in found.items():
        yield Finding(
            "version",
            Severity.DEGRADED,
            title,
            tuple(f"{name}: {_shown(node)}" for name, node in sorted(nodes.items())[:5]),
            why,
            (fix,),
            where=frozenset().union(*(node.members for node in nodes.values())),
        )


def _advice(node: Node) -> Iterator[tuple[str, str, str]]:
    versions, kind = node.record.get("versions") or {}, node.record.get("kind")
    pymongo, redis, celery = (_parsed(versions.get(name)) for name in ("pymongo", "redis", "celery"))
    if pymongo and pymongo < (4, 15, 5):
        yield (
            f"PyMongo {versions['pymongo']} raises 'connection pool paused' from cursors.",
            "An operation fails after a failover that the driver should have retried (mended in 4.15.5).",
            "pip install 'pymongo>=4.15.5,<5'",
        )
    if pymongo and kind == "gevent" and pymongo < (4, 19):
        yield (
            f"PyMongo {versions['pymongo']} can deadlock its pool for good under gevent.",
            "A greenlet that is killed in a checkout leaves a lock behind; all others wait for ever "
            "(mended in 4.19).",
            "pip install 'pymongo>=4.19,<5'",
        )
    if pymongo and kind == "eventlet" and pymongo >= (4, 16):
        yield (
            f"PyMongo {versions['pymongo']} does not support eventlet.",
            "Support was taken out in 4.16: locks and sockets block the whole process.",
            "use --pool gevent, or threads",
        )
    if redis and redis < (5, 2):
        yield (
            f"redis-py {versions['redis']} is older than what this project is tested with.",
            "Timeouts and retries of its clients differ.",
            "pip install 'redis>=5.2'",
        )
    if celery and celery < (5, 6):
        yield (
            f"Celery {versions['celery']} has defects where the connection to the broker is lost.",
            "After a restart of Redis messages may stay unacknowledged until their visibility timeout "
            "(mended in 5.6).",
            "pip install 'celery>=5.6,<6'",
        )


def tls_sessions(facts: Facts) -> Iterator[Finding]:
    """TLS without session reuse."""
    nodes = {
        node.name
        for node in facts.living
        if (node.record.get("options") or {}).get("tls")
        and _parsed((node.record.get("versions") or {}).get("python"))[:2] == (3, 11)
    }
    if nodes:
        yield Finding(
            "tls-sessions",
            Severity.NOTE,
            "Under Python 3.11 PyMongo reuses no TLS session.",
            (f"Python 3.11 and TLS on {names(nodes)}",),
            "Each new connection makes a full handshake, which costs the server and a storm of "
            "reconnections most.",
            ("Python 3.12 or later",),
            where=frozenset(nodes),
        )


def unequal(facts: Facts) -> Iterator[Finding]:
    """Nodes of one deployment that differ in what should be the same."""
    told = [node for node in facts.living if node.record]
    if len(told) < 2:
        return
    differing = []
    for section in ("versions", "options"):
        keys = {key for node in told for key in node.record.get(section) or {}}
        for key in sorted(keys - {"appname", "minPoolSize", "gevent"}):
            by_value: dict[str, set[str]] = defaultdict(set)
            for node in told:
                by_value[str((node.record.get(section) or {}).get(key))].add(node.name)
            if len(by_value) > 1:
                values = "; ".join(f"{value} on {names(nodes)}" for value, nodes in sorted(by_value.items()))
                differing.append(f"{key}: {values}")
    if differing:
        yield Finding(
            "nodes-unequal",
            Severity.NOTE,
            "Nodes of this deployment differ.",
            tuple(differing[:8]),
            "After a deploy that stopped half way nodes behave differently, and what is seen on one is not "
            "true of the others.",
            ("finish the deploy, or give each kind of node its own reason in your configuration",),
            where=frozenset(node.name for node in told),
        )


def _parsed(version: str | None) -> Version:
    numbers = []
    for part in (version or "").split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _shown(node: Node) -> str:
    versions = node.record.get("versions") or {}
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


CHECKS = (
    Check("version", "Have the versions known defects?", advisor, needs=("nodes",)),
    Check("nodes-unequal", "Are all nodes alike?", unequal, needs=("nodes",)),
    Check("tls-sessions", "Are TLS sessions reused?", tls_sessions, needs=("nodes",)),
)
