"""Texts without what they may quote: credentials, filters, documents, commands, what a server said of them.

Nobody can tell a secret from a word by its look, so the text of the driver's errors is not cleaned: it is
told anew, from the phrases that are the driver's own. Of other texts the parts that have the look of a URI, a
document or a password go, and all that the errors behind an event are known to quote.
"""

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from bson import errors as bson_errors
from pymongo import errors

from ..mongo.classify import classify
from ..settings.redact import redact_uri
from ..text import shorten

WITHHELD = "[withheld]"

MOST = 8192
"""Characters of a text that are looked at and kept."""

_DRIVER = ("pymongo", "bson", "gridfs")

# What the driver says by itself, of whatever document or user.
_PHRASES = (
    "Connection refused",
    "Connection reset by peer",
    "connection closed",
    "connection pool paused",
    "Broken pipe",
    "No route to host",
    "Network is unreachable",
    "Name or service not known",
    "Temporary failure in name resolution",
    "timed out",
    "SSL handshake failed",
    "certificate verify failed",
    "No servers found yet",
    "No replica set members found yet",
    "No primary available for writes",
    "No replica set members match selector",
    "No servers match selector",
    "Timed out while checking out a connection from connection pool",
    "Authentication failed",
    "Authentication required",
    "not primary",
    "node is recovering",
    "operation was interrupted",
    "operation exceeded time limit",
    "Cannot use MongoClient after close",
    "duplicate key error",
    "Document failed validation",
    "not authorized",
    "document too large",
)

# Words of the protocol, and those phrases: replacing them in other texts would hide nothing.
_INNOCENT = frozenset(phrase.lower() for phrase in _PHRASES) | {
    "code", "codename", "errmsg", "error", "errinfo", "errorlabels", "index", "keypattern", "keyvalue",
    "ninserted", "nmatched", "nmodified", "nremoved", "nupserted", "upserted", "writeerrors", "true", "false",
    "none", "writeconcernerrors", "writeconcernerror", "topologyversion", "connection", "localhost",
}  # fmt: skip

# None of the patterns below hides anything where this finds nothing; a class of letters is looked for fast.
_TRIGGER = re.compile(r"[{@(=:]")
# To the last @ of a line: a password that nobody escaped may hold anything.
_STORE_URI = re.compile(
    r"\b(?:mongodb(?:\+srv)?|rediss?(?:\+\w+)?|sentinel|amqps?)://(?:[^\n]{0,500}@)?\S*", re.IGNORECASE
)
_OTHER_URI = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/?#]*@\S*", re.IGNORECASE)
_TO_THE_END = re.compile(r"(full error|dup key|batch op errors occurred|E11000)\b.*", re.DOTALL)
# A name is looked at once, from its beginning, and nothing is tried again: a text may be made of such words.
_ASSIGNED = re.compile(
    r"(?<![\w-])(?=[\w-]*?(?:passw|pwd|secret|token|api_?key|credential|authorization|private_?key))"
    r"([\w-]++)(['\"]?\s*+[=:]\s*+['\"]?)(?:(?:Bearer|Basic)\s++)?[^\s'\",;&]++",
    re.IGNORECASE,
)
_QUOTING = re.compile(r"full error|dup key|batch op errors|E11000|pymongo|bson|gridfs")
_SENSITIVE = re.compile(
    r"passw|pwd|secret|token|api_?key|credential|authorization|private_?key", re.IGNORECASE
)
_BRACE = re.compile(r"\{\s*(?:b?(?:'[^']*'|\"[^\"]*\")|[\w$.-]+)\s*:")
# Characters by which a text is known: as many as it has of these.
_STARTS = (12, 4, 1)
_CLOSE = {"{": "}", "(": ")", "[": "]"}


def _names() -> list[str]:
    modules = (errors, bson_errors)
    kinds = {name for module in modules for name, kind in vars(module).items() if _is_error(kind)}
    return sorted(kinds)


def _is_error(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__.startswith(_DRIVER)


_REPR = re.compile(rf"\b(?:{'|'.join(_names())}|SON|RawBSONDocument)(?=\()")
_TRACEBACK = re.compile(r"\b((?:pymongo|bson|gridfs)(?:\.\w{1,80}+){1,8}+): .*", re.DOTALL)


def is_driver(module: object) -> bool:
    """Say whether an error of this module may quote documents in whatever it says."""
    return isinstance(module, str) and module.split(".")[0] in _DRIVER


def is_driver_error(error: BaseException) -> bool:
    """Say whether an error is one of the driver's, be it of a class that somebody derived from it."""
    return any(is_driver(kind.__module__) for kind in type(error).__mro__)


def told(error: BaseException | None, text: str) -> str:
    """Return what may be said of an error of the driver's: its code, its class, its own phrases."""
    said = [phrase for phrase in _PHRASES if phrase in text]
    if error is not None:
        code = getattr(error, "code", None)
        said += [f"code {code}"] if isinstance(code, int) else []
        said.append(f"class {classify(error)}")
    return "; ".join([*said, "the rest may quote documents and is withheld"])


class Quotes:
    """Texts to be withheld, found in another by how they begin: one error of a bulk write quotes thousands,
    and an event has hundreds of texts.
    """

    def __init__(self, parts: Iterable[str]) -> None:
        self._by_start: dict[str, list[str]] = {}
        for part in set(parts):
            length = next((length for length in _STARTS if len(part) >= length), 0)
            self._by_start.setdefault(part[:length], []).append(part)

    def within(self, text: str) -> list[str]:
        """Return those that may be in the text, the longest first."""
        starts = {text[at : at + length] for length in _STARTS for at in range(len(text) - length + 1)}
        known = {*(starts & self._by_start.keys()), *self._by_start.keys() & {""}}
        return sorted((part for start in known for part in self._by_start[start]), key=len, reverse=True)


Quoted = tuple[str, ...] | Quotes


def clean(text: str, quoted: Quoted = ()) -> str:
    """Return a text of anybody's without what has the look of a secret, and without all that is `quoted`."""
    text = shorten(text, MOST)
    for part in quoted.within(text) if isinstance(quoted, Quotes) else quoted:
        if part in text:
            text = text.replace(part, WITHHELD)
    if _TRIGGER.search(text) is None:
        return text
    # Each pattern is asked of the few texts alone that have what it needs.
    if "://" in text:
        text = _STORE_URI.sub(lambda found: redact_uri(found.group()), text)
        text = _OTHER_URI.sub(lambda found: _without_user(found.group()), text)
    if _QUOTING.search(text):
        text = _TO_THE_END.sub(rf"\1 {WITHHELD}", text)
        text = _TRACEBACK.sub(rf"\1: {WITHHELD}", text)
    if "(" in text:
        text = _without_literals(text, _REPR, opening="(")
    if "{" in text:
        text = _without_literals(text, _BRACE, opening="{")
    return _ASSIGNED.sub(rf"\1\2{WITHHELD}", text) if _SENSITIVE.search(text) else text


def quotations(error: BaseException | None) -> tuple[str, ...]:
    """Return the texts that an error of the driver's, or one behind or beside it, may quote; longest first.

    Else a part of one would go and leave the rest of the whole.
    """
    of_driver = (one for one in chain(error) if is_driver_error(one))
    return tuple(sorted({part for one in of_driver for part in _quoted(one)}, key=len, reverse=True))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all behind it: causes, contexts, and the members of groups."""
    seen: set[int] = set()
    waiting = deque([error])
    while waiting:
        one = waiting.popleft()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def _quoted(error: BaseException) -> Iterator[str]:
    whole = str(error)
    parts = {*_leaves([error.args, vars(error)]), whole}
    parts |= {part for part in re.split(r"[\n,;]\s*|: ", whole) if len(part) >= 8}
    yield from (part for part in parts if len(part) >= 4 and part.lower() not in _INNOCENT)


def _leaves(value: Any, depth: int = 0) -> Iterator[str]:
    if depth > 12:
        return
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _leaves(item, depth + 1)
    elif isinstance(value, bytes):
        yield value.decode(errors="replace")
        yield repr(value)
    elif isinstance(value, BaseException):
        yield str(value)
        yield from _leaves(list(value.args), depth + 1)
    elif isinstance(value, str):
        # As it is, and as it is quoted within something else.
        yield from {value, value.strip(), repr(value)[1:-1], json.dumps(value)[1:-1]}
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _without_user(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://***@{rest.rpartition('@')[2]}"


def _without_literals(text: str, pattern: re.Pattern[str], *, opening: str) -> str:
    """Return the text with each literal that begins as the pattern has it reduced to its brackets."""
    kept, at = [], 0
    while found := pattern.search(text, at):
        start = text.index(opening, found.start())
        end = _end_of(text, start)
        kept += [text[at:start], opening, "…", _CLOSE[opening]]
        at = end
    return "".join([*kept, text[at:]])


def _end_of(text: str, start: int) -> int:
    """Return the place behind the literal that begins here; the text's end where it was cut."""
    depth, quote = 0, ""
    at = start
    while at < len(text):
        letter = text[at]
        if quote:
            if letter == "\\":
                at += 1
            elif letter == quote:
                quote = ""
        elif letter in "'\"":
            quote = letter
        elif letter in "{([":
            depth += 1
        elif letter in "})]":
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return len(text)
