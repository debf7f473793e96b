"""Whether a command of remote control was for every node, or for those that it names: Celery does not say."""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from kombu import pidbox

if TYPE_CHECKING:
    from celery import Celery

_is_addressed: ContextVar[bool] = ContextVar("is_addressed", default=False)


class NotingNode(pidbox.Node):
    """kombu's receiver of commands, which notes meanwhile whom a command was for."""

    def dispatch(self, *args: Any, destination: Any = None, pattern: Any = None, **kwargs: Any) -> Any:
        """Run a command."""
        token = _is_addressed.set(bool(destination or pattern))
        try:
            return super().dispatch(*args, **kwargs)  # type: ignore[no-untyped-call] # kombu has no types
        finally:
            _is_addressed.reset(token)


def note(app: "Celery") -> None:
    """Have the worker of this app note it; before it makes its mailbox."""
    app.control.mailbox.node_cls = NotingNode


def is_addressed() -> bool:
    """Say whether the command that runs now names its nodes."""
    return _is_addressed.get()
