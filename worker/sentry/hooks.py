"""What the SDK asks before it keeps or sends anything: our answers, after the app's own."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from . import sdk
from .scrub import Scrubber

logger = logging.getLogger("celery_pymongo.sentry")

Event = dict[str, Any]
Hint = Mapping[str, Any]
Hook = Callable[[Any, Any], Any]


class Desk(Protocol):
    """Who sees each error event on its way; None keeps it from being sent."""

    def look(self, event: Event, hint: Hint, /) -> Event | None:
        """Before it is scrubbed: add to it, or leave out what something else tells better."""

    def hold(self, event: Event, hint: Hint, /) -> Event | None:
        """As it would be sent: keep it for a while, where it is not known yet what explains it."""


_OURS = "is_celery_pymongo"

_BACKGROUND = "pymongo.client"
"""PyMongo logs here, as errors, what its background threads meet: a pool that cannot be filled, a client that
is closed meanwhile. That MongoDB is away the circuits tell.
"""


def attach(client: Any, scrubber: Scrubber, desk: Desk) -> bool:
    """Chain ours to whatever the app has set on this client; False where they are there already.

    An app's own hook is asked first, and what it drops stays dropped: so nothing that it adds gets past the
    scrubber.
    """
    if getattr(client.options.get("before_send"), _OURS, False):
        return False
    sdk.ignore_logger(_BACKGROUND)
    ours: dict[str, Hook] = {
        "before_send": _before_send(scrubber, desk),
        "before_send_transaction": scrubber.transaction,
        "before_breadcrumb": scrubber.breadcrumb,
        "before_send_log": scrubber.log,
        "before_send_span": scrubber.span,
    }
    for name, hook in ours.items():
        client.options[name] = _chained(client.options.get(name), hook)
    # Under these names the SDK once knew two of them, and asks there first.
    experiments = client.options.get("_experiments") or {}
    for name in ours.keys() & experiments.keys():
        experiments[name] = _chained(experiments[name], ours[name])
    return True


def _chained(theirs: Hook | None, ours: Hook) -> Hook:
    def asked(item: Any, hint: Any) -> Any:
        kept = item if theirs is None else theirs(item, hint)
        return None if kept is None else ours(kept, hint or {})

    setattr(asked, _OURS, True)
    return asked


def _before_send(scrubber: Scrubber, desk: Desk) -> Hook:
    def before_send(event: Event, hint: Hint) -> Event | None:
        # A check-in comes this way, too: it is a name and a number.
        if event.get("type") == "check_in":
            return event
        kept = _survived(desk.look, event, hint)
        return None if kept is None else _survived(desk.hold, scrubber.event(kept, hint), hint)

    return before_send


def _survived(ask: Callable[[Event, Hint], Event | None], event: Event, hint: Hint) -> Event | None:
    try:
        return ask(event, hint)
    except Exception as error:  # noqa: BLE001 - what we would have added must not cost the event
        logger.debug("an event goes as it is: %s", type(error).__name__)
        return event
