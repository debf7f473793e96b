"""What tells a message from others of its task's id, and how one that was kept is sent again.

A task's id is no message: `replace()` keeps it, and a caller may send it twice. Each message that a process
with this package sends has a name of its own in a header, which its retries and other copies carry on. One
from elsewhere is known by the tag that kombu's own transports (Redis, files, databases) put into it, and
where there is none, as with AMQP, by its bytes: there the broker says whether a message was delivered before.
"""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery.signals import before_task_publish
from kombu.serialization import dumps, loads, prepare_accept_content, registry

from . import original, queues
from .original import Original

if TYPE_CHECKING:
    from celery import Celery

HEADER = "celery_pymongo_message"
"""The header of our messages: their name."""

_TAG_LENGTH = 36

# What a broker, or a copy, adds to the headers of a message that was delivered before.
_OF_DELIVERY = frozenset(
    {
        *("redelivered", "x-delivery-count", "x-acquired-count", original.COPY_OF_REDELIVERED, "x-death"),
        *("x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"),
        *("x-last-death-exchange", "x-last-death-queue", "x-last-death-reason"),
    }
)
# Properties that kombu's transports write themselves; and what was kept has outlived its expiration.
_NOT_SENT = frozenset({"delivery_info", "delivery_tag", "body_encoding", "expiration"})


def connect() -> None:
    """Name each message that this process sends."""
    before_task_publish.connect(_on_publish, weak=False, dispatch_uid="celery_pymongo.message")


def _on_publish(headers: Any = None, **_kwargs: Any) -> None:
    if isinstance(headers, dict):
        headers.setdefault(HEADER, uuid.uuid4().hex)


def name_of(task: Any) -> str:
    """Return the name by which the runs of this message are known beside its task's id."""
    return hashlib.blake2s(f"{task.name} {_name(task.request)}".encode(), digest_size=8).hexdigest()


def carry_on(request: Any) -> None:
    """Have the copies of a message from elsewhere, as its retries, go under its name, as those of ours do."""
    if not hasattr(request, HEADER):
        request.headers = {**(request.headers or {}), HEADER: _name(request)}


def is_first_delivery(task: Any) -> bool:
    """Say whether the message, named by its bytes, is certainly delivered for the first time.

    What is known under its name is then of another that was sent alike. AMQP's brokers promise that what they
    do not call redelivered was never delivered; kombu's own transports do not all tell.
    """
    request = task.request
    properties = request.properties or {}
    is_named = hasattr(request, HEADER) or "delivery_info" in properties
    return not is_named and original.KEY in properties and not original.is_redelivered(request)


def _name(request: Any) -> str:
    name = getattr(request, HEADER, None) or _tag(request.properties or {})
    if name:
        return str(name)
    came = original.of(request)
    return "" if came is None else _digest(came)


def _tag(properties: Mapping[str, Any]) -> str | None:
    """Return the tag that stays with the message, a UUID; some transports have a new one at each delivery."""
    tag = properties.get("delivery_tag")
    return tag if isinstance(tag, str) and len(tag) == _TAG_LENGTH else None


def _digest(came: Original) -> str:
    headers = {name: value for name, value in came.headers.items() if name not in _OF_DELIVERY}
    told = hashlib.blake2s(original.raw(came), digest_size=16)
    told.update(repr(sorted(headers.items())).encode())
    return told.hexdigest()


def send(app: "Celery", kept: Original, *, producer: Any = None, mandatory: bool = False) -> None:
    """Send a message again to where it was sent, byte for byte, but for its `expires`.

    By this producer, else one of the app's; `mandatory`: it is an error where no queue takes it.
    Raises the broker's OperationalError, and what decoding a message of Celery's first protocol raises.
    """
    headers = {name: value for name, value in kept.headers_of_copy().items() if name not in _OF_DELIVERY}
    if "task" in headers:
        headers |= {"expires": None} if headers.get("expires") else {}
    else:
        kept = _without_expiry(app, kept)
    if queues.HEADER in headers:
        queues.stamp(headers)
    with app.producer_or_acquire(producer) as chosen:
        copied = kept.properties_of_copy(user=chosen.connection.userid)
        properties = {name: value for name, value in copied.items() if name not in _NOT_SENT}
        chosen.publish(
            kept.body,
            exchange=kept.exchange,
            routing_key=kept.routing_key,
            priority=properties.pop("priority", None) or 0,
            content_type=kept.content_type,
            content_encoding=kept.content_encoding,
            compression=headers.pop("compression", None),
            headers=headers,
            declare=_destination(app, kept),
            mandatory=mandatory,
            retry=True,
            retry_policy=app.conf.task_publish_retry_policy,
            **properties,
        )


def _without_expiry(app: "Celery", kept: Original) -> Original:
    """Return a message of Celery's first protocol, which says in its body when it expires."""
    kinds = prepare_accept_content(app.conf.accept_content)
    told = loads(kept.body, kept.content_type, kept.content_encoding, accept=kinds)
    if not told.get("expires"):
        return kept
    serializer = registry.type_to_name[kept.content_type]
    kind, encoding, body = dumps(told | {"expires": None}, serializer=serializer)
    return replace(kept, body=body, content_type=kind, content_encoding=encoding)


def _destination(app: "Celery", kept: Original) -> list[Any]:
    """Return the queues that the message went to, as the app declares them: a broker drops what has none."""
    known = app.amqp.queues
    if not kept.exchange:
        try:
            return [known[kept.routing_key]]
        except KeyError:
            # It is to be there already: task_create_missing_queues is off.
            return []
    return [queue for queue in known.values() if queue.exchange.name == kept.exchange]
