"""What an error of Redis' means, in words: it is away, or it answered and refuses. Pure."""

import re

from redis import exceptions

_CODE = re.compile(r"\b(OOM|NOPERM|READONLY|MISCONF|NOREPLICAS|WRONGTYPE|NOAUTH|WRONGPASS|LOADING|BUSY)\b")

_BY_CLASS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.BusyLoadingError, "LOADING"),
)

_MEANINGS = {
    "OOM": "is full and refuses writes",
    "NOPERM": "does not let this user do it",
    "READONLY": "is a replica, which takes no writes",
    "MISCONF": "cannot write to its disk and refuses writes",
    "NOREPLICAS": "has too few replicas and refuses writes",
    "NOAUTH": "asks for a login",
    "WRONGPASS": "refuses the login",
    "LOADING": "is loading its data",
    "BUSY": "is busy with a script",
    "WRONGTYPE": "holds something else under a key of ours",
}

WRITES_REFUSED = ("OOM", "READONLY", "MISCONF", "NOREPLICAS")
"""Codes with which Redis refuses whoever writes."""


def code(error: BaseException) -> str:
    """Return Redis' own word for an error that it answered with, or the error's class."""
    known = next((word for kind, word in _BY_CLASS if isinstance(error, kind)), None)
    if known is None and isinstance(error, exceptions.RedisError) and (met := _CODE.search(str(error))):
        known = met[0]
    # What else the texts quote is not known.
    return known or type(error).__name__


def is_away(error: BaseException) -> bool:
    """Say whether Redis did not answer: a connection could not be made, or was lost, or took too long."""
    answered = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.BusyLoadingError)
    away = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
    return isinstance(error, away) and not isinstance(error, answered) and code(error) not in _MEANINGS


def what_it_does(error: BaseException) -> str:
    """Return a predicate of Redis, with its own word: 'does not answer (TimeoutError)'."""
    if why := getattr(error, "why", None):
        return str(why)
    word = code(error)
    if not isinstance(error, (exceptions.RedisError, OSError)):
        return f"could not be read ({word})"
    if is_away(error):
        return f"does not answer ({word})"
    if isinstance(error, exceptions.AuthenticationError):
        return f"refuses the login ({word})"
    return f"{_MEANINGS.get(word, 'refuses it')} ({word})"


def meaning(word: str) -> str:
    """Return a predicate of Redis for one of its own words."""
    return f"{_MEANINGS.get(word, 'refuses it')} ({word})"
