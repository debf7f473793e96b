"""Where a drill may run: what it names a database, and what marks a setting as production. Pure functions."""

import ipaddress
import re
from collections.abc import Iterable

from .refused import Refused

SUFFIX = "_drill"
_NAME = re.compile(r"[^/\\. \"$\x00]+")
_BYTES = 63


def database(asked: str | None, own: str) -> str:
    """Return the name of the database for a drill: what was asked for, or the app's own with the suffix.

    Raises Refused for a name without it, so that no database of anybody's is ever a drill's.
    """
    if asked is None:
        return own.encode()[: _BYTES - len(SUFFIX)].decode(errors="ignore") + SUFFIX
    if not asked.endswith(SUFFIX) or asked == SUFFIX:
        raise Refused(f"a drill runs against a database whose name ends in {SUFFIX}, and drops it in the end")
    if not _NAME.fullmatch(asked) or len(asked.encode()) > _BYTES:
        raise Refused(f'a database has 1 to {_BYTES} bytes without / \\ . " $ or a space')
    return asked


def production(hosts: Iterable[str], *, deployment: str, environment: str | None) -> list[str]:
    """Return what makes this look like production, in words; nothing where nothing does.

    `hosts` are the members of the deployment that the driver knows, without their ports, `environment` is
    SENTRY_ENVIRONMENT.
    """
    others = sorted({host for host in hosts if not is_here(host)})
    found = []
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        found.append(f"MongoDB is on another host ({others[0]}{more})")
    if _is_production(deployment):
        found.append(f"CELERY_PYMONGO_DEPLOYMENT is {deployment}")
    if environment is not None and _is_production(environment):
        found.append(f"SENTRY_ENVIRONMENT is {environment}")
    return found


def permit(marks: list[str], *, yes: bool) -> None:
    """Raise Refused where something looks like production and nobody said yes to it."""
    if marks and not yes:
        raise Refused(
            f"this looks like production: {'; '.join(marks)}. With --yes the drill runs all the same"
        )


def is_here(host: str) -> bool:
    """Say whether a host is this machine by its name or address; no name is looked up."""
    if host == "localhost" or host.endswith((".localhost", ".sock")):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_production(name: str) -> bool:
    return name.lower().startswith("prod")
