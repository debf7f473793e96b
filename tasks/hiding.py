"""Keeps documents out of message headers, logs, events, `inspect` and Sentry."""

from collections.abc import Mapping, Sequence, Sized
from typing import Any

from celery.utils.saferepr import saferepr
from celery.worker.request import Request

_HIDDEN_POSITION = 1
_HIDDEN_NAMES = frozenset({"documents", "pipeline"})


def shown(args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the `argsrepr` and `kwargsrepr` of a task whose second argument nobody may see."""
    positional = tuple(
        _Hidden(value) if place == _HIDDEN_POSITION else value for place, value in enumerate(args or ())
    )
    named = {
        name: _Hidden(value) if name in _HIDDEN_NAMES else value for name, value in (kwargs or {}).items()
    }
    return {"argsrepr": saferepr(positional, maxlen=512), "kwargsrepr": saferepr(named, maxlen=512)}


class HidesDocuments:
    """Mix-in for a task that carries documents: however it is sent, nothing shows them.

    Celery puts the first kilobyte of the arguments into each message's headers; from there they reach the
    worker's log records, its events and Sentry.
    """

    Request = f"{__name__}:HiddenRequest"

    def apply_async(self, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        """Send the task; whatever was asked for, the representation of its arguments is ours."""
        options.update(shown(args, kwargs))
        return super().apply_async(args, kwargs, *rest, **options)  # type: ignore[misc]  # Celery's Task


def hiding(base: type[Any]) -> type[Any]:
    """Return the task class `base` with documents hidden."""
    return type("DocumentsTask", (HidesDocuments, base), {"abstract": True})


class HiddenRequest(Request):
    """A received message, also one that a foreign producer stamped with its documents."""

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        self._request_dict.update(shown(self._args, self._kwargs))
        self._argsrepr = self._request_dict["argsrepr"]
        self._kwargsrepr = self._request_dict["kwargsrepr"]

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002 - `inspect active` asks for the full arguments
        """Describe the request for `inspect`, never with its documents."""
        info: dict[str, Any] = super().info(safe=True)
        return info


class _Hidden:
    def __init__(self, value: object) -> None:
        self._size = f"{len(value)} long" if isinstance(value, Sized) else type(value).__name__

    def __repr__(self) -> str:
        return f"<hidden, {self._size}>"
