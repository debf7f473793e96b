"""Can work be lost or done twice?"""

from collections import defaultdict
from collections.abc import Iterator

from ...text import agree, count
from ..facts import Facts
from ..finding import Check, Finding, Severity
from ..words import names, seconds


def visibility(facts: Facts) -> Iterator[Finding]:
    """Redis gives a message away again while its task still runs."""
    for node in facts.living:
        record = node.record
        timeout, longest = record.get("visibility_timeout"), record.get("longest_time_limit")
        if timeout is None or longest is None or longest < timeout:
            continue
        yield Finding(
            "visibility-timeout",
            Severity.DEGRADED,
            f"A task may run for {seconds(longest)}, and Redis gives its message to another worker after "
            f"{seconds(timeout)}.",
            (
                f"visibility_timeout {timeout:g} s, the longest hard time limit {longest:g} s, on "
                f"{node.name}",
                f"tasks with such a limit: {names(record['longest_tasks'])}"
                if record.get("longest_tasks")
                else "a limit of all tasks",
            ),
            "A task that runs longer than the visibility timeout runs twice at the same time, then three "
            "times.",
            (
                "broker_transport_options['visibility_timeout'] "
                f"(CELERY_PYMONGO_VISIBILITY_TIMEOUT_SECONDS) = {int(2 * longest)}, or a time limit below "
                f"{timeout:g} s",
            ),
            where=node.members,
        )


def risks(facts: Facts) -> Iterator[Finding]:
    """Celery settings of a node that can lose work or do it twice."""
    by_line: dict[str, set[str]] = defaultdict(set)
    for node in facts.living:
        for line in node.record.get("risks") or ():
            by_line[line].add(node.name)
    for line, nodes in by_line.items():
        setting, _, rest = line.partition(": ")
        risk, _, fix = rest.rpartition("; ")
        yield Finding(
            "delivery-risk",
            Severity.NOTE,
            f"{setting}: {risk or rest}.",
            (f"on {names(nodes)}",),
            "A worker says so at its start; in strict mode it does not start with it.",
            (fix or rest,),
            where=frozenset(nodes),
        )


def dead_letters(facts: Facts) -> Iterator[Finding]:
    """Messages that wait for a person."""
    number = facts.dead_letters
    if number:
        yield Finding(
            "dead-letters",
            Severity.NOTE,
            f"{count(number, 'dead letter')} {agree(number, 'waits', 'wait')} for a decision.",
            (f"{number:,} in Redis",),
            "Each is work that was not done, or that may have been done: it killed its process too often, or "
            "must not run twice and may have written.",
            ("celery -A APP mongo dead list  # then requeue or drop",),
        )


CHECKS = (
    Check("visibility-timeout", "Is a message given to one worker at a time?", visibility, needs=("nodes",)),
    Check(
        "delivery-risk",
        "Can work be lost or done twice?",
        risks,
        needs=("nodes",),
        practice="Use smart retries",
    ),
    Check("dead-letters", "Does a message wait for a person?", dead_letters, needs=("dead_letters",)),
)
