"""Events, transactions and breadcrumbs without credentials, filters, documents, command bodies.

Pure but for the event itself, which is changed in place, as the SDK's own scrubber does. Everything that is
not known to be harmless is looked at: an integration of tomorrow puts its data into a place of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from logging import LogRecord
from typing import Any

from . import words
from .words import WITHHELD

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
    "passw",
    "pwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "credential",
    "authorization",
    "private_key",
    "cookie",
)

# What says where code is, and when: not made of anybody's data.
_AS_IT_IS = frozenset(
    [
        "event_id",
        "timestamp",
        "start_timestamp",
        "platform",
        "level",
        "modules",
        "sdk",
        "_meta",
        "fingerprint",
        "type",
    ]
)

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
            spans = event.pop("spans", None)
            self._all_but(event, ())
            return event if spans is None else event | {"spans": spans}
        except Exception as error:  # noqa: BLE001 - as above
            return _bare(event, error)

    def span(self, span: dict[str, Any], _hint: Mapping[str, Any]) -> dict[str, Any]:
        """Scrub a span: of a command of MongoDB's its name and collection stay."""
        for name in ("data", "attributes"):
            data = span.get(name)
            if not data:
                continue
            if (operation := _operation(data)) is not None:
                # "description" in a transaction, "name" in a stream of spans.
                for described in {"description", "name"} & span.keys():
                    span[described] = operation
            span[name] = self._clean(_without_names(data))
        if span.get("tags"):
            span["tags"] = self._clean(_without_names(span["tags"]))
        for described in ("description", "name"):
            text = span.get(described)
            if isinstance(text, str):
                span[described] = words.clean(text, self._secrets)
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
        quoted = self._secrets + words.quotations(error)
        raised = (event.get("exception") or {}).get("values") or ()
        said = [self._said(one, error, quoted) for one in raised]
        for one in raised:
            _forget_variables(one)
        for one in (event, *((event.get("threads") or {}).get("values") or ())):
            _forget_variables(one)
        if "logentry" in event:
            event["logentry"] = self._entry(event["logentry"], hint.get("log_record"), quoted)
        self._all_but(event, ("logentry",), quoted)
        # Not cleaned once more: that would find the error's code among what the error quotes.
        for one, text in zip((event.get("exception") or {}).get("values") or (), said, strict=True):
            one["value"] = text
        return event

    def _breadcrumb(self, crumb: dict[str, Any], hint: Mapping[str, Any]) -> dict[str, Any]:
        data = crumb.get("data")
        if crumb.get("category") == "query":
            told: dict[str, Any] = data if isinstance(data, dict) else {}
            crumb["message"] = _operation(told) or WITHHELD
            crumb["data"] = self._clean(_without_names(told))
            return crumb
        record = hint.get("log_record")
        if record is not None and crumb.get("message"):
            crumb["message"] = _rebuilt(record, self._secrets)
        return self._clean(crumb)  # type: ignore[no-any-return] # a dict is cleaned to a dict

    def _said(self, one: Mapping[str, Any], error: BaseException | None, quoted: Sequence[str]) -> Any:
        value = one.get("value")
        behind = next(
            (found for found in words.chain(error) if type(found).__name__ == one.get("type")), None
        )
        if words.is_driver(one.get("module")) or (behind is not None and words.is_driver_error(behind)):
            return words.told(behind, str(value))
        return self._clean(value, quoted)

    def _entry(self, entry: Any, record: LogRecord | None, quoted: Sequence[str]) -> Any:
        if record is None or not isinstance(entry, dict):
            return self._clean(entry, quoted)
        # The template is the program's, its parameters are anybody's.
        return {
            "message": words.clean(str(record.msg), quoted),
            "formatted": _rebuilt(record, quoted),
            "params": [],
        }

    def _all_but(
        self, event: dict[str, Any], kept: Sequence[str], quoted: Sequence[str] | None = None
    ) -> None:
        for name in event.keys() - _AS_IT_IS - set(kept):
            event[name] = self._clean(event[name], quoted)

    def _clean(self, value: Any, quoted: Sequence[str] | None = None) -> Any:
        quoted = self._secrets if quoted is None else quoted
        if isinstance(value, str):
            return words.clean(value, quoted)
        if isinstance(value, dict):
            return {_name(name, quoted): self._under(name, member, quoted) for name, member in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._clean(item, quoted) for item in value]
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return words.clean(str(value), quoted)

    def _under(self, name: Any, value: Any, quoted: Sequence[str]) -> Any:
        lowered = str(name).lower()
        if value and (lowered in _HIDDEN or any(part in lowered for part in _SECRET)):
            return WITHHELD
        if lowered in _STRUCTURE and isinstance(value, str):
            return value
        return self._clean(value, quoted)


# Members of frames and spans that name places and moments. `type` and `module` are an error's class.
_STRUCTURE = frozenset(
    [
        "filename", "abs_path", "function", "module", "context_line", "trace_id", "span_id", "parent_span_id",
        "timestamp", "start_timestamp", "type", "op", "origin", "status", "level", "category", "logger",
    ]
)  # fmt: skip


def _name(name: Any, quoted: Sequence[str]) -> Any:
    return words.clean(name, quoted) if isinstance(name, str) else name


def _operation(data: Mapping[str, Any]) -> str | None:
    """Return a command's name and its collection from what the SDK tells of it; None of anything else."""
    name = data.get("db.operation") or data.get("db.operation.name")
    is_mongo = "mongodb" in (data.get("db.system"), data.get("db.system.name"))
    if not is_mongo or not isinstance(name, str):
        return None
    collection = data.get("db.mongodb.collection") or data.get("db.collection.name")
    is_known = name in _OF_A_COLLECTION and isinstance(collection, str)
    return f"{name} {collection}" if is_known else name


def _without_names(data: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of a command without what some have in a collection's place: a user's name."""
    name = data.get("db.operation") or data.get("db.operation.name")
    if name is None or name in _OF_A_COLLECTION:
        return data
    return {key: value for key, value in data.items() if key not in _COLLECTION}


def _rebuilt(record: LogRecord, quoted: Sequence[str]) -> str:
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
    return words.clean(text, quoted)


def _shown(value: object, quoted: Sequence[str]) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, BaseException) and words.is_driver_error(value):
        return f"{type(value).__name__} ({words.told(value, str(value))})"
    if isinstance(value, (Mapping, list, tuple, set, frozenset, bytes)):
        return f"<{type(value).__name__}>"
    return words.clean(str(value), quoted)


def _forget_variables(holder: Mapping[str, Any]) -> None:
    for frame in (holder.get("stacktrace") or {}).get("frames") or ():
        frame.pop("vars", None)


def _bare(event: Mapping[str, Any], error: Exception) -> dict[str, Any]:
    """Return what is certainly harmless of an event."""
    kept = {
        name: event[name] for name in ("event_id", "timestamp", "platform", "level", "type") if name in event
    }
    values = (event.get("exception") or {}).get("values") or ()
    kinds = [{"type": str(one.get("type")), "value": WITHHELD} for one in values if isinstance(one, Mapping)]
    message = f"an event could not be scrubbed ({type(error).__name__}) and is withheld"
    return kept | {"message": message} | ({"exception": {"values": kinds}} if kinds else {})
