"""Lines to paste: what the checks leave open, the app that -A names and the Redis, is put in. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

_APP, _REDIS = "celery -A APP", "redis-cli -u REDIS_URL"
_SCHEMES = ("redis", "rediss")


def filled(findings: Any, *, app: str, redis: str) -> Any:
    """Return findings as a document has them, or a part of one, with the lines of their fixes whole."""
    if isinstance(findings, str):
        return findings.replace(_APP, f"celery -A {app}").replace(_REDIS, redis)
    if isinstance(findings, list):
        return [filled(one, app=app, redis=redis) for one in findings]
    if isinstance(findings, dict):
        within = ("fix", "explains")
        return {k: filled(v, app=app, redis=redis) if k in within else v for k, v in findings.items()}
    return findings


def name_of_app(arguments: Sequence[str], environment: Mapping[str, str], *, main: str | None) -> str:
    """Return what -A names in this program's arguments, else in its environment; else the app's own name."""
    given = _given(arguments) or environment.get("CELERY_APP")
    return given or main or "APP"


def _given(arguments: Sequence[str]) -> str | None:
    for place, word in enumerate(arguments):
        if word in ("-A", "--app"):
            return next(iter(arguments[place + 1 :]), None)
        if word.startswith("--app="):
            return word.removeprefix("--app=")
        if word.startswith("-A"):
            return word.removeprefix("-A").removeprefix("=")
    return None


def place_of(url: str) -> str:
    """Return where a URL leads, without user and password: host, port and path of each server."""
    parts = [urlsplit(part) for part in url.split(";")]
    shown = (
        f"{part.hostname or 'localhost'}{f':{part.port}' if part.port else ''}{part.path}" for part in parts
    )
    return ", ".join(shown)


def redis_cli(url: str) -> str:
    """Return the command that reaches this Redis, without its password, which it asks for."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or ";" in url:
        # A Sentinel, or several: who leads is known by asking them.
        return "redis-cli"
    user = f"{quote(parts.username)}@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    place = f"{parts.scheme}://{user}{parts.hostname or 'localhost'}{port}/{parts.path.strip('/') or '0'}"
    return f"redis-cli -u {place}" + (" --askpass" if parts.password else "")
