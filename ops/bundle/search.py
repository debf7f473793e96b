"""Whether a text holds a secret: one that is known, or a URI with a password in it. Pure functions."""

import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from ..output import to_json
from ..text import printable

SHORT = 6
"""A secret of fewer characters may be a part of any word, so it is looked for as a value of its own alone."""

# What is hidden stands there as stars.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^/\s\"'@:]{0,200}:(?!\*+@)[^/\s\"'@]{1,200}@")


def found(text: str, secrets: Mapping[str, set[str]]) -> Iterator[str]:
    """Yield what the text holds of them, by what each belongs to; never the secret itself."""
    for name, texts in secrets.items():
        if any(_holds(text, form) for secret in texts for form in _forms(secret)):
            yield f"the secret of {name}"
    if _URI.search(text):
        yield "a URI with a password"


def _forms(secret: str) -> set[str]:
    """Return the ways in which a secret may be written: as it is, in JSON, in a URI, with escapes."""
    in_json = json.dumps(secret)[1:-1]
    readable = json.dumps(secret, ensure_ascii=False)[1:-1]
    escaped = to_json(secret)[1:-1]
    in_uri = quote(secret, safe="", errors="replace")
    return {secret, in_json, readable, escaped, in_uri, printable(secret)}


def _holds(text: str, form: str) -> bool:
    if len(form) >= SHORT:
        return form in text
    return re.search(rf"[\"':=]{re.escape(form)}[\"'@&]", text) is not None
