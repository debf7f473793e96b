"""Receivers of Celery's signals of which the newest of a process is the one that hears."""

from collections.abc import Callable
from typing import Any


def connect(signal: Any, receiver: Callable[..., Any], uid: str) -> None:
    """Connect a receiver in the place of an earlier one with this `uid`.

    Celery keeps the first of two with one name, and would keep that of an app that is gone.
    """
    signal.disconnect(dispatch_uid=uid)
    signal.connect(receiver, weak=False, dispatch_uid=uid)
