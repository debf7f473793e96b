"""Text for people: cut between words, counted nouns, names in a row, nothing that a terminal obeys. Pure."""

import json
import re
from collections.abc import Collection

ELLIPSIS = "…"

_BYTES = len(ELLIPSIS.encode())
# Between two words; a host and its port are one.
_GAP = re.compile(r"\s|(?<=[,;])(?=\S)")

_PLAIN = re.compile(r"[^ -~]")


def printable(text: str, *, keep: str = "", as_json: bool = False) -> str:
    """Return a text with an escape in place of each character that cannot be seen: of those a terminal obeys
    some, and a lone surrogate cannot be written at all. `keep` are left as they are. `as_json`: the escapes
    are those of JSON, which the text is.
    """
    if text.isprintable():
        return text

    def shown(found: re.Match[str]) -> str:
        one = found[0]
        if one.isprintable() or one in keep:
            return one
        return json.dumps(one)[1:-1] if as_json else one.encode("unicode_escape").decode()

    return _PLAIN.sub(shown, text)


def shorten(text: str, limit: int, *, keep_end: bool = False) -> str:
    """Return a text in at most `limit` characters: whole words and an ellipsis where something is left out.

    `keep_end` leaves out the beginning. A word that is longer than the limit has to be cut all the same.
    """
    if len(text) <= limit:
        return text
    if keep_end:
        return ELLIPSIS + _from_a_word(text, len(text) - limit + len(ELLIPSIS))
    return _to_a_word(text, limit - len(ELLIPSIS)) + ELLIPSIS


def shorten_bytes(text: str, limit: int) -> str:
    """Return a text in at most `limit` bytes of UTF-8, as `shorten` does."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return text
    return _to_a_word(text, len(encoded[: limit - _BYTES].decode("utf-8", "ignore"))) + ELLIPSIS


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return '1 process' or '4,096 processes'."""
    return f"{number:,} {noun if number == 1 else plural or _plural(noun)}"


def count_of(number: int, of: int, noun: str) -> str:
    """Return '1 of 1 process' or '2 of 8 processes'."""
    return f"{number:,} of {count(of, noun)}"


def agree(number: int, singular: str, plural: str) -> str:
    """Return the verb that goes with so many."""
    return singular if number == 1 else plural


def names(members: Collection[str], most: int = 10) -> str:
    """Return the first of the names, and how many there are more."""
    shown = ", ".join(list(members)[:most])
    return shown if len(members) <= most else f"{shown} and {len(members) - most:,} more"


def _to_a_word(text: str, end: int) -> str:
    # The gap may lie right behind the last word that fits.
    gaps = [gap.start() for gap in _GAP.finditer(text, 0, end + 1) if gap.start()]
    return text[: gaps[-1] if gaps else end].rstrip(" ,;:([{")


def _from_a_word(text: str, start: int) -> str:
    # One between a comma and what follows has no length, and may lie before what there is room for.
    gap = next((found for found in _GAP.finditer(text, start - 1) if found.end() >= start), None)
    return text[gap.end() if gap else start :].lstrip()


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    is_consonant_y = noun.endswith("y") and noun[-2:-1] not in "aeiou"
    return f"{noun[:-1]}ies" if is_consonant_y else f"{noun}s"
