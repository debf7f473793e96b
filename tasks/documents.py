"""Documents in a message: one string argument, bounded.

Celery's own JSON refuses an ObjectId and turns a user's `{"__type__": "datetime", ...}` into a datetime, so
documents travel as text of our own: one document per line, each line either canonical Extended JSON (it
starts with a brace) or base64 BSON. A line that cannot be read costs that document, not its batch.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import bson
from bson import ObjectId, json_util
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

BATCH_LIMIT = 10_000
"""Documents in one message. More would keep a slot busy for seconds and make a redelivery costly."""

MESSAGE_LIMIT = 8 * 1024 * 1024
"""Characters of one message's documents, all ASCII. Celery's JSON escapes quotes and backslashes, which at
worst doubles them: 16 MiB, RabbitMQ 4's default `max_message_size`. On Redis kombu's base64 adds a third."""

Format = Literal["json", "bson"]
Document = dict[str, Any]

# Read: dates that no datetime can hold become DatetimeMS, and binary values stay what they were sent as, with
# one exception: see `decode`. Sent: a UUID is binary of the standard subtype 4.
READ_OPTIONS: CodecOptions[Document] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
_SEND_OPTIONS: CodecOptions[Document] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
_SEND_JSON = json_util.JSONOptions(
    json_mode=json_util.JSONMode.CANONICAL, uuid_representation=UuidRepresentation.STANDARD
)

# Most values are of these: asked first, they spare the slower questions to abstract classes.
_SCALARS = (str, bytes, int, float, datetime, ObjectId, type(None))

# What bad text or a bad value raises. Never Exception: a soft time limit is one, and must get through.
CODEC_ERRORS = (
    BSONError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


class Refused(ValueError):
    """The arguments ask for something that is not done; trying again cannot help."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A document that was not written: its place in the batch and why, without a word of its content."""

    index: int
    reason: str
    code: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def encode(documents: Iterable[Mapping[str, Any]], *, format: Format = "json") -> str:
    """Return documents as the one string that `decode` and the data tasks read.

    `json` can be read by people and other languages; `bson` takes an eighth of the time to encode and a third
    to decode. Naive datetimes are UTC. Raises `Refused` above BATCH_LIMIT documents or MESSAGE_LIMIT
    characters, or where BSON has no place for a value.
    """
    lines: list[str] = []
    size = 0
    for index, document in enumerate(documents):
        lines.append(_line(index, document, format))
        size += len(lines[-1]) + 1
        _refuse_excess(len(lines), size)
    return "\n".join(lines)


def decode(text: str, *, target: CodecOptions[Document] = READ_OPTIONS) -> Iterator[Document | Rejected]:
    """Yield each document of an encoded text, or why it cannot be read; refuse a text beyond the limits.

    `target` are the options of the collection that they are for. Where those name a representation of UUIDs,
    binary of subtype 4 becomes a UUID, which the collection encodes in its own way; else it stays as sent.
    """
    if not isinstance(text, str):
        raise Refused(f"documents must be the string that encode() makes, not {type(text).__name__}")
    lines = [line for line in text.split("\n") if line.strip()]
    _refuse_excess(len(lines), len(text))
    options = reading(target)
    return (_document(index, line.strip(), options) for index, line in enumerate(lines))


def reading(target: CodecOptions[Document]) -> json_util.JSONOptions:
    """Return how text and BSON are read that a collection with these options will encode; see `decode`."""
    has_uuids = target.uuid_representation is not UuidRepresentation.UNSPECIFIED
    return json_util.JSONOptions(
        json_mode=json_util.JSONMode.CANONICAL,
        tz_aware=READ_OPTIONS.tz_aware,
        datetime_conversion=READ_OPTIONS.datetime_conversion,
        uuid_representation=UuidRepresentation.STANDARD if has_uuids else UuidRepresentation.UNSPECIFIED,
    )


def depth(value: object) -> int:
    """Return how many levels of documents and arrays a decoded value has."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def _refuse_excess(count: int, size: int) -> None:
    if count > BATCH_LIMIT:
        raise Refused(f"more than {BATCH_LIMIT} documents in one message: send smaller batches")
    if size > MESSAGE_LIMIT:
        raise Refused(f"more than {MESSAGE_LIMIT} characters in one message: send smaller batches")


def _line(index: int, document: Mapping[str, Any], format: Format) -> str:
    try:
        # Extended JSON has no escape: a user's own {"$date": "x"} would come back as a date, or not at all.
        if format == "json" and _is_plain(document):
            return json_util.dumps(document, json_options=_SEND_JSON, separators=(",", ":"))
        return base64.b64encode(bson.encode(document, codec_options=_SEND_OPTIONS)).decode("ascii")
    except CODEC_ERRORS as error:
        kind = type(error).__name__
    raise Refused(f"document {index} has a value or a key that BSON cannot hold ({kind})")


def _is_plain(value: object) -> bool:
    if isinstance(value, _SCALARS):
        return True
    if isinstance(value, dict | Mapping):
        return all(
            isinstance(key, str) and not key.startswith("$") and _is_plain(item)
            for key, item in value.items()
        )
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    # json_util would make a list of a set or a generator; BSON refuses them.
    return not isinstance(value, Iterable)


def _document(index: int, line: str, options: json_util.JSONOptions) -> Document | Rejected:
    if line[0] == "[":
        return Rejected(index, "an array: each line is one document")
    try:
        is_json = line[0] == "{"
        document = json_util.loads(line, json_options=options) if is_json else _from_bson(line, options)
    except json.JSONDecodeError as error:
        return Rejected(index, f"not JSON at character {error.pos}")
    except CODEC_ERRORS as error:
        return Rejected(index, f"neither Extended JSON nor base64 BSON ({type(error).__name__})")
    if not isinstance(document, dict):
        return Rejected(index, "not a document")
    return document


def _from_bson(line: str, options: json_util.JSONOptions) -> Any:
    return bson.decode(base64.b64decode(line, validate=True), codec_options=options)
