"""Versions that work, and have a defect of their own that an operator should know of."""

import re


def parsed(version: str | None) -> tuple[int, ...]:
    """Return the leading numbers of a version, `4.20.0.dev1` as (4, 20, 0); () where there are none."""
    found = re.match(r"\d+(\.\d+)*", version or "")
    return tuple(map(int, found.group().split("."))) if found else ()


def doubts(celery: str, *, start_method: str | None = None) -> list[str]:
    """Return a line for each thing that this version of Celery does not do.

    `start_method` is how its prefork pool shall make its children, None where nothing says.
    """
    found = []
    if parsed(celery) < (5, 6):
        found.append(
            f"Celery {celery} has defects of its own where the connection to the broker is lost, mended in "
            "5.6: after a restart of Redis messages may stay unacknowledged until their visibility timeout"
        )
    if start_method not in (None, "fork") and parsed(celery) < (5, 7):
        found.append(
            f"worker_pool_start_method={start_method}: Celery {celery} does not know it and forks; 5.7 does"
        )
    return found
