"""A message as it came: serializing it again may give other bytes, and a task may change its arguments."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY = "celery_pymongo_original"
"""Where MAIN puts it for the process that runs the task: among the request's properties. What stands beside
them Celery takes for a header, and sends with each retry.
"""

COPY_OF_REDELIVERED = "celery_pymongo_redelivered"
"""The header of a copy whose original was delivered before: the broker does not know that the copy was."""

_COUNT = "x-delivery-count"
# What the broker writes, and where it would send copies beside the queue.
_NOT_COPIED = frozenset({_COUNT, "x-acquired-count", "CC", "BCC"})
_ATTRIBUTES = frozenset({"content_type", "content_encoding", "application_headers"})


@dataclass(frozen=True)
class Original:
    """What came, decompressed, as kombu hands it out: `headers` say by what it was compressed. `queue` is
    None where the transport does not say; `properties` are AMQP's, by their names; it was sent to `exchange`
    with `routing_key`.

    `counts_returns`: its queue counts how often it goes back, and drops it at a limit.
    """

    body: bytes | str
    content_type: str | None
    content_encoding: str | None
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    queue: str | None
    counts_returns: bool
    is_redelivered: bool
    exchange: str = ""
    routing_key: str = ""

    def headers_of_copy(self) -> dict[str, Any]:
        """Return the headers that a copy has."""
        kept = {name: value for name, value in self.headers.items() if name not in _NOT_COPIED}
        return kept | ({COPY_OF_REDELIVERED: True} if self.is_redelivered else {})

    def properties_of_copy(self, *, user: str | None) -> dict[str, Any]:
        """Return the properties, beside those that are attributes, of a copy that `user` sends: the broker
        refuses a message in another user's name.
        """
        kept = {name: value for name, value in self.properties.items() if name not in _ATTRIBUTES}
        if kept.get("user_id") != user:
            kept.pop("user_id", None)
        return kept


def tell(message: Any, queue: Any) -> dict[str, Any]:
    """Return what MAIN says of a message from this queue of kombu's, or from None, for `of` to read."""
    declared = {} if queue is None else queue.queue_arguments or {}
    return {
        "body": message.body,
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "headers": message.headers,
        "queue": None if queue is None else queue.name,
        "counts_returns": _COUNT in message.headers or declared.get("x-queue-type") == "quorum",
    }


def of(request: Any) -> Original | None:
    """Return the message of a task's request; None where MAIN did not tell, as for an eager task."""
    properties = dict(getattr(request, "properties", None) or {})
    told = properties.pop(KEY, None)
    if told is None:
        return None
    info = getattr(request, "delivery_info", None) or {}
    return Original(
        **told,
        properties=properties,
        is_redelivered=is_redelivered(request),
        exchange=info.get("exchange") or "",
        routing_key=info.get("routing_key") or "",
    )


def raw(message: Original) -> bytes:
    """Return the body as bytes."""
    return message.body if isinstance(message.body, bytes) else message.body.encode()


def is_redelivered(request: Any) -> bool:
    """Say whether the message, or the one that it is a copy of, was delivered before."""
    delivered_again = (getattr(request, "delivery_info", None) or {}).get("redelivered")
    return bool(delivered_again or getattr(request, COPY_OF_REDELIVERED, False))
