"""Return the messages of workers that died (gevent, eventlet).

kombu looks every now and then for messages whose visibility timeout is over. Where there is an event loop a
timer does it. Pools of greenlets have none: there a drain that ends without an event looks. But Redis
answers each BRPOP within a second, if only to say that there is nothing, and that is an event: an idle worker
never looks, and a fleet of such workers alone never gets back what a killed one had in hand.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

from celery import bootsteps
from kombu.transport import redis
from kombu.transport.virtual import Empty
from kombu.utils.eventio import READ

logger = logging.getLogger(__name__)

_INTERVAL_SECONDS = 10


def needed() -> bool:
    """Whether a drain that ends with an empty reply still does not look."""
    poller = _poller()
    try:
        poller.get(None)
    except Empty:
        return not poller.has_looked
    except Exception:  # noqa: BLE001  # upstream has changed beyond recognition
        return False
    return False


def _poller() -> Any:
    """Return a poller that hears one empty reply to a BRPOP."""

    class Poller(redis.MultiChannelPoller):
        has_looked = False

        def handle_event(self, *_event: Any) -> Any:
            raise Empty

        def maybe_restore_messages(self) -> None:
            self.has_looked = True

    make: Any = Poller
    poller = make()
    poller.poller = SimpleNamespace(poll=lambda _timeout: [(0, READ)])
    return poller


class ReturnMessagesOfTheDead(bootsteps.StartStopStep):
    """Look as often as the transport's options say, as the event loop's timer does; one entry per start."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        super().__init__(c, **kwargs)
        self._entry: Any = None

    def include_if(self, c: Any) -> bool:
        """Only where there is no event loop."""
        return c.hub is None

    def start(self, c: Any) -> None:
        self.stop(c)
        transport = c.connection.transport
        if isinstance(transport, redis.Transport):
            # Fixed before kombu 5.7.
            default = getattr(redis.Channel, "unacked_restore_interval", _INTERVAL_SECONDS)
            seconds = c.connection.transport_options.get("unacked_restore_interval", default)
            self._entry = c.timer.call_repeatedly(
                seconds if seconds > 0 else default, self._look, (transport.cycle,)
            )

    def stop(self, c: Any) -> None:
        if self._entry is not None:
            c.timer.cancel(self._entry)
            self._entry = None

    def _look(self, cycle: Any) -> None:
        try:
            cycle.maybe_restore_messages()
        except Exception as error:  # noqa: BLE001  # a lost connection is the drain's to notice
            logger.debug("could not look for messages of dead workers: %r", error)
