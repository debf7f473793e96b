"""Events, transactions and breadcrumbs without credentials, filters, documents, command bodies.

Pure but for the event itself, which is changed in place, as the SDK's own scrubber does. Everything that is
not known to be harmless is looked at: an integration of tomorrow puts its data into a place of its own.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from logging import LogRecord
from typing import Any

from . import text_scrub
from .text_scrub import WITHHELD, Quoted

# Whatever stands under these names is of a task's, a command's or a server's: all of it may be a document.
_HIDDEN = frozenset(
    [
        "args", "kwargs", "argsrepr", "kwargsrepr", "retval", "result", "vars",
        "command", "cmd", "filter", "query", "pipeline", "update", "updates", "deletes",
        "document", "documents", "doc", "docs", "reply", "details", "errmsg", "errinfo",
        "keyvalue", "keypattern", "writeerrors",
        "db.statement", "db.query.text", "db.query.summary",
    ]
)  # fmt: skip
_SECRET = (
    "passw", "pwd", "secret", "token", "api_key", "apikey", "credential", "authorization",
    "private_key", "cookie",
)  # fmt: skip

# What the SDK writes of itself and of the program: not made of anybody's data.
_HARMLESS = frozenset(
    [
        "contexts", "dist", "environment", "event_id", "fingerprint", "level", "measurements", "modules",
        "platform", "release", "sdk", "server_name", "spans", "start_timestamp", "timestamp",
        "transaction_info", "type", "_meta",
    ]
)  # fmt: skip
_HARMLESS_CONTEXTS = frozenset(["runtime", "os", "device", "profile"])
_OF_AN_ERROR = frozenset(["type", "module", "value", "stacktrace", "thread_id", "id", "crashed", "current"])
_OF_A_FRAME = frozenset(
    [
        "abs_path", "colno", "context_line", "filename", "function", "in_app", "lineno", "module", "package",
        "platform", "post_context", "pre_context",
    ]
)  # fmt: skip
_OF_A_COMMAND = frozenset(
    [
        "db.collection.name", "db.driver.name", "db.mongodb.collection", "db.name", "db.namespace",
        "db.operation", "db.operation.name", "db.system", "db.system.name", "net.peer.name",
        "net.peer.port", "operation_ids", "sentry.op", "sentry.origin", "server.address", "server.port",
        "thread.id", "thread.name",
    ]
)  # fmt: skip

# Commands whose value is the name of a collection.
_OF_A_COLLECTION = frozenset(
    [
        "aggregate", "collStats", "count", "create", "createIndexes", "delete", "distinct", "drop",
        "dropIndexes", "find", "findAndModify", "insert", "listIndexes", "update",
    ]
)  # fmt: skip

_COLLECTION = frozenset(["db.mongodb.collection", "db.collection.name"])


class Scrubber:
    """Scrubs for one process."""

    def __init__(self) -> None:
        self._secrets: tuple[str, ...] = ()

    def learn(self, secrets: Iterable[str]) -> None:
        """Keep these texts out of everything from now on: credentials that the settings hold."""
        self._secrets = tuple(sorted({*self._secrets, *secrets}, key=len, reverse=True))

    def event(self, event: dict[str, Any], hint: Mapping[str, Any]) -> dict[str, Any]:
        """Scrub an error event or a message. Of one that cannot be scrubbed only its kind is sent."""
        try:
            return self._event(event, hint)
        except Exception as error:  # noqa: BLE001 - an event that is lost here would be missed by somebody
            return _bare(event, error)

    def transaction(self, event: dict[str, Any], hint: Mapping[str, Any]) -> dict[str, Any]:
        """Scrub a transaction and its spans."""
        try:
            for span in event.get("spans") or ():
                self.span(span, hint)
            self._contexts(event, self._secrets)
            for name in event.keys() - _HARMLESS:
                event[name] = self._clean(event[name])
        except Exception as error:  # noqa: BLE001 - as above
            return _bare(event, error)
        return event

    def span(self, span: dict[str, Any], _hint: Mapping[str, Any]) -> dict[str, Any]:
        """Scrub a span: of a command of MongoDB's its name and collection stay."""
        for name in ("data", "attributes"):
            data = span.get(name)
            if not data:
                continue
            operation = _operation(data)
            if operation is None:
                span[name] = self._clean(data)
                continue
            # "description" in a transaction, "name" in a stream of spans.
            for described in ("description", "name"):
                if described in span:
                    span[described] = operation
            span[name] = _of_command(data)
            if span.get("tags"):
                span["tags"] = _of_command(span["tags"])
            return span
        for name in ("description", "name", "tags"):
            if span.get(name):
                span[name] = self._clean(span[name])
        return span

    def breadcrumb(self, crumb: dict[str, Any], hint: Mapping[str, Any]) -> dict[str, Any] | None:
        """Scrub a breadcrumb; None where that fails: it is a crumb."""
        try:
            return self._breadcrumb(crumb, hint)
        except Exception:  # noqa: BLE001 - one that may hold anything is better not kept
            return None

    def log(self, log: dict[str, Any], _hint: Mapping[str, Any]) -> dict[str, Any] | None:
        """Scrub a line of the log that is sent as such; None where that fails."""
        try:
            return self._clean(log)  # type: ignore[no-any-return] # a dict is cleaned to a dict
        except Exception:  # noqa: BLE001 - as above
            return None

    def _event(self, event: dict[str, Any], hint: Mapping[str, Any]) -> dict[str, Any]:
        error = (hint.get("exc_info") or (None, None))[1]
        quotations = text_scrub.quotations(error)
        quoted = text_scrub.Quotes((*self._secrets, *quotations)) if quotations else self._secrets
        for part in ("exception", "threads"):
            for one in (event.get(part) or {}).get("values") or ():
                for name in one.keys() - _OF_AN_ERROR:
                    one[name] = self._clean(one[name], quoted)
                if part == "exception":
                    one["value"] = self._said(one, error, quoted)
                _strip_frames(one, quoted)
        _strip_frames(event, quoted)
        if "logentry" in event:
            event["logentry"] = self._entry(event["logentry"], hint.get("log_record"), quoted)
        self._contexts(event, quoted)
        for name in event.keys() - _HARMLESS - {"exception", "threads", "stacktrace", "logentry"}:
            event[name] = self._clean(event[name], quoted)
        return event

    def _contexts(self, event: dict[str, Any], quoted: Quoted) -> None:
        for name, context in (event.get("contexts") or {}).items():
            if name == "trace" and isinstance(context, dict):
                for part in ("data", "description"):
                    if context.get(part):
                        context[part] = self._clean(context[part], quoted)
            elif name not in _HARMLESS_CONTEXTS:
                event["contexts"][name] = self._clean(context, quoted)

    def _breadcrumb(self, crumb: dict[str, Any], hint: Mapping[str, Any]) -> dict[str, Any]:
        if crumb.get("category") == "query":
            data = crumb.get("data")
            told: dict[str, Any] = data if isinstance(data, dict) else {}
            crumb["message"] = _operation(told) or WITHHELD
            crumb["data"] = _of_command(told)
            return crumb
        record = hint.get("log_record")
        if record is not None and crumb.get("message"):
            crumb["message"] = _rebuilt(record, self._secrets)
        # The moment is the SDK's to write.
        for name in crumb.keys() - {"timestamp", "type", "level"}:
            crumb[name] = self._clean(crumb[name])
        return crumb

    def _said(self, one: Mapping[str, Any], error: BaseException | None, quoted: Quoted) -> Any:
        value = one.get("value")
        kind = one.get("type")
        behind = next((found for found in text_scrub.chain(error) if type(found).__name__ == kind), None)
        if text_scrub.is_driver(one.get("module")) or (
            behind is not None and text_scrub.is_driver_error(behind)
        ):
            return text_scrub.told(behind, str(value))
        return self._clean(value, quoted)

    def _entry(self, entry: Any, record: LogRecord | None, quoted: Quoted) -> Any:
        if record is None or not isinstance(entry, dict):
            return self._clean(entry, quoted)
        # The template is the program's, its parameters are anybody's.
        return {
            "message": text_scrub.clean(str(record.msg), quoted),
            "formatted": _rebuilt(record, quoted),
            "params": [],
        }

    def _clean(self, value: Any, quoted: Quoted | None = None) -> Any:
        quoted = self._secrets if quoted is None else quoted
        # Names are few, but for those that an error quotes: not kept beyond its event.
        clean_name = _name if quoted is self._secrets else _name.__wrapped__
        # By how often it is so: this is asked of every value of every transaction.
        if isinstance(value, str):
            return text_scrub.clean(value, quoted)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, dict):
            return {
                clean_name(name, quoted): WITHHELD
                if member and _is_hidden(name)
                else self._clean(member, quoted)
                for name, member in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._clean(item, quoted) for item in value]
        return text_scrub.clean(str(value), quoted)


@lru_cache(maxsize=1024)
def _name(name: Any, quoted: Quoted) -> Any:
    return text_scrub.clean(name, quoted) if isinstance(name, str) else name


@lru_cache(maxsize=1024)
def _is_hidden(name: Any) -> bool:
    lowered = str(name).lower()
    return lowered in _HIDDEN or any(part in lowered for part in _SECRET)


def _of_command(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may be told of a command of MongoDB's: where it went, and its name."""
    operation = data.get("db.operation") or data.get("db.operation.name")
    kept = _OF_A_COMMAND if operation in _OF_A_COLLECTION else _OF_A_COMMAND - _COLLECTION
    return {name: value for name, value in data.items() if name in kept}


def _operation(data: Mapping[str, Any]) -> str | None:
    """Return a command's name and its collection from what the SDK tells of it; None of anything else."""
    name = data.get("db.operation") or data.get("db.operation.name")
    is_mongo = "mongodb" in (data.get("db.system"), data.get("db.system.name"))
    if not is_mongo or not isinstance(name, str):
        return None
    collection = data.get("db.mongodb.collection") or data.get("db.collection.name")
    is_known = name in _OF_A_COLLECTION and isinstance(collection, str)
    return f"{name} {collection}" if is_known else name


def _rebuilt(record: LogRecord, quoted: Quoted) -> str:
    """Return a log line's text with each of its parameters cleaned; containers and errors are not quoted."""
    args = record.args
    try:
        if isinstance(args, Mapping):
            text = str(record.msg) % {name: _shown(value, quoted) for name, value in args.items()}
        elif args:
            text = str(record.msg) % tuple(_shown(value, quoted) for value in args)
        else:
            text = str(record.msg)
    except (TypeError, ValueError, KeyError):
        text = str(record.msg)
    return text_scrub.clean(text, quoted)


def _shown(value: object, quoted: Quoted) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, BaseException) and text_scrub.is_driver_error(value):
        return f"{type(value).__name__} ({text_scrub.told(value, str(value))})"
    if isinstance(value, (Mapping, list, tuple, set, frozenset, bytes)):
        return f"<{type(value).__name__}>"
    return text_scrub.clean(str(value), quoted)


def _strip_frames(holder: Mapping[str, Any], quoted: Quoted) -> None:
    """Leave of each frame where it is in the code: no variables, and no secret that stands in the source."""
    stack = holder.get("stacktrace")
    if stack:
        frames = stack.get("frames") or ()
        stack["frames"] = [
            {name: _of_source(frame[name], quoted) for name in frame.keys() & _OF_A_FRAME}
            for frame in frames
            if frame
        ]


def _of_source(value: Any, quoted: Quoted) -> Any:
    if isinstance(value, (list, tuple)):
        return [_of_source(line, quoted) for line in value]
    return text_scrub.clean(value, quoted) if isinstance(value, str) else value


def _bare(event: Mapping[str, Any], error: Exception) -> dict[str, Any]:
    """Return what is certainly harmless of an event."""
    kept = {
        name: event[name] for name in ("event_id", "timestamp", "platform", "level", "type") if name in event
    }
    values = (event.get("exception") or {}).get("values") or ()
    kinds = [{"type": str(one.get("type")), "value": WITHHELD} for one in values if isinstance(one, Mapping)]
    message = f"an event could not be scrubbed ({type(error).__name__}) and is withheld"
    return kept | {"message": message} | ({"exception": {"values": kinds}} if kinds else {})
