"""Has the user the roles, and have the collections the indexes, that monitoring needs?"""

from collections.abc import Iterator

from ..facts import Facts
from ..finding import Check, Finding, Severity
from ..words import names


def cluster_monitor(facts: Facts) -> Iterator[Finding]:
    """The user may not ask how many connections there are."""
    if (facts.server or {}).get("source") != "not permitted":
        return
    yield Finding(
        "role-cluster-monitor",
        Severity.NOTE,
        "The MongoDB user has no clusterMonitor role: the server's own connection count is unknown.",
        ("serverStatus and $currentOp: not permitted (code 13)",),
        "The connection budget cannot be held against the server's limit, and connections of processes that "
        "do not report are not seen.",
        (
            "db.getSiblingDB('admin').grantRolesToUser(USER, [{role: 'clusterMonitor', db: 'admin'}]), or "
            "CELERY_PYMONGO_SERVER_CONNECTIONS with the server's limit",
        ),
    )


def history_refused(facts: Facts) -> Iterator[Finding]:
    """The user may not write the history."""
    refused = (facts.indexes or {}).get("refused") or ()
    if refused:
        yield Finding(
            "history-refused",
            Severity.NOTE,
            f"The MongoDB user may not use the history's database: {names(refused)}.",
            (f"not authorized on {names(refused)}",),
            "Snapshots are kept in Redis alone, for two days.",
            (
                f"grantRolesToUser(USER, [{{role: 'readWrite', db: '{sorted(refused)[0]}'}}])",
                "CELERY_PYMONGO_HISTORY_DAYS=0  # or keep none there",
            ),
        )


def ttl_index(facts: Facts) -> Iterator[Finding]:
    """Collections of ours that would grow for ever."""
    missing = (facts.indexes or {}).get("without_ttl") or {}
    for name, field in sorted(missing.items()):
        yield Finding(
            "index-missing",
            Severity.NOTE,
            f"{name} has no TTL index: it grows for ever.",
            (f"no index with expireAfterSeconds on {field}",),
            "Its documents are not deleted when their time is over.",
            (
                f"createIndex({{{field}: 1}}, {{expireAfterSeconds: …}}) on {name}; the user may lack "
                "createIndex",
            ),
        )


CHECKS = (
    Check("role-cluster-monitor", "May we ask the server how it does?", cluster_monitor, needs=("server",)),
    Check("history-refused", "May the history be kept in MongoDB?", history_refused, needs=("indexes",)),
    Check("index-missing", "Do our collections forget?", ttl_index, needs=("indexes",)),
)
