"""Is there one client in each process, opened after the fork?"""

from collections import defaultdict
from collections.abc import Iterator

from ...text import count, count_of
from ..facts import Facts, Process
from ..finding import Check, Finding, Severity
from ..words import names


def before_fork(facts: Facts) -> Iterator[Finding]:
    """A client that was open in MAIN is copied into every child."""
    by_site: dict[str, set[str]] = defaultdict(set)
    members: dict[str, frozenset[str]] = {}
    for node in facts.living:
        for site in node.record.get("before_fork") or ():
            by_site[site].add(node.name)
            members[node.name] = node.members
    for site, nodes in by_site.items():
        yield Finding(
            "client-before-fork",
            Severity.DEGRADED,
            f"A MongoClient is open before the fork: made by {site}.",
            (f"on {names(nodes)}: copied into each child", f"made by {site}"),
            "A client does not survive a fork: children share its sockets and its locks may be held for "
            "ever. Replies can reach the wrong process, and operations can hang.",
            (
                f"delete the client made at {site}; use self.db in a MongoTask, or get_database() within the "
                "function that needs it",
                "CELERY_PYMONGO_STRICT=true  # refuses to start with one",
            ),
            where=frozenset().union(*(members[node] for node in nodes)),
        )


def second_client(facts: Facts) -> Iterator[Finding]:
    """A client beside ours in a process."""
    forked = {site for node in facts.living for site in node.record.get("before_fork") or ()}
    by_site: dict[str, set[str]] = defaultdict(set)
    for process in facts.present:
        site = process.report.get("foreign")
        if site and not any(_is_same(site, known) for known in forked):
            by_site[site].add(process.member)
    for site, members in by_site.items():
        yield Finding(
            "second-client",
            Severity.NOTE if _is_needed(site) else Severity.DEGRADED,
            f"A second MongoClient is open beside the process's own: made by {site}.",
            (
                f"in {count_of(len(members), len(facts.present), 'process')}: {names(members)}",
                f"made by {site}",
            ),
            "It doubles the process's connections, is watched by nobody, and is not closed when the "
            "process ends.",
            (_instead(site),),
            where=frozenset(members),
        )


def per_call(facts: Facts) -> Iterator[Finding]:
    """A line that makes a client each time that it runs."""
    by_site: dict[str, list[Process]] = defaultdict(list)
    for process in facts.present:
        if process.number("made", "n") >= PER_CALL:
            by_site[process.part("made")["site"]].append(process)
    for site, makers in by_site.items():
        made = int(sum(process.number("made", "n") for process in makers))
        task = next((p.part("made")["task"] for p in makers if p.part("made").get("task")), None)
        yield Finding(
            "client-per-call",
            Severity.DEGRADED,
            f"{task or 'A function'} makes a MongoClient each time it runs: {site}.",
            (
                f"{count(made, 'client')} made there since the start of "
                f"{count_of(len(makers), len(facts.present), 'process')}: "
                f"{names({p.member for p in makers})}",
                f"made by {site}" + (f", last in {task}" if task else ""),
            ),
            "Each opens connections of its own (three at least: handshakes, TLS, a login), has threads, and "
            "is "
            "dropped: the server sees connections come and go, and its limit comes near.",
            (_instead(site),),
            where=frozenset(process.member for process in makers),
        )


PER_CALL = 5
"""Clients of one line in one process: so many are no start that was tried again."""


def result_backend(facts: Facts) -> Iterator[Finding]:
    """Celery's own MongoDB result backend."""
    nodes = {node.name for node in facts.living if node.record.get("result_backend") == "mongodb"}
    if nodes:
        yield Finding(
            "mongodb-result-backend",
            Severity.NOTE,
            "Results are kept in MongoDB: Celery opens a second client in each process for that.",
            (f"on {names(nodes)}",),
            "It is counted in no pool here, and in an outage of MongoDB no task can store its result.",
            ("result_backend = a redis:// URL",),
            where=frozenset(nodes),
        )


def _is_same(shown: str, known: str) -> bool:
    # A report has less room for it than a node's record, and keeps its end.
    return known.endswith(shown.lstrip("…")) or shown.endswith(known)


def _is_needed(site: str) -> bool:
    return "celery/backends/mongodb.py:" in site


def _instead(site: str) -> str:
    """Return what to do, by the library that made the client; the log's `client.foreign` says the same."""
    if _is_needed(site):
        return "leave it: Celery's own MongoDB result backend needs it; count its connections in"
    if "/mongoengine/" in site:
        return "from celery_pymongo.mongoengine import connect  # in the place of mongoengine's own"
    if "/pymodm/" in site:
        return "leave it: PyMODM takes no other client; count its connections in"
    return f"use get_client() or self.client in place of the client made at {site}"


CHECKS = (
    Check(
        "client-before-fork",
        "Is every client opened after the fork?",
        before_fork,
        needs=("nodes",),
        explains=("second-client", "pool-exhausted"),
        practice="Share a single client across the application",
    ),
    Check(
        "client-per-call",
        "Is a client made once?",
        per_call,
        needs=("nodes",),
        explains=("second-client", "leak", "stray-connections", "connection-churn"),
        practice="Avoid creating unnecessary multiple clients",
    ),
    Check(
        "second-client",
        "Is there one client in each process?",
        second_client,
        needs=("nodes",),
        practice="Avoid creating unnecessary multiple clients",
    ),
    Check("mongodb-result-backend", "Does Celery open clients of its own?", result_backend, needs=("nodes",)),
)
