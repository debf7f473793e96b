"""Every text of the settings that must never be seen: what leaves the machine can be searched for it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pydantic import SecretStr

from .redact import is_shown_option
from .table import setting_of
from .types import SecretUri

if TYPE_CHECKING:
    from .fields import Settings


def of_settings(settings: "Settings") -> dict[str, set[str]]:
    """Return the secrets of each setting that has any, by its variable."""
    found: dict[str, set[str]] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, SecretUri):
            found[setting_of(field).variable] = of_text(value.get_secret_value())
        elif isinstance(value, SecretStr):  # a password, whatever it looks like
            found[setting_of(field).variable] = {value.get_secret_value()}
    return {variable: texts for variable, texts in found.items() if texts}


def of_values(values: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return the secrets in the URIs and passwords of a configuration, by name, however deep they stand."""
    found = {name: set(_deep(name, value)) for name, value in values.items()}
    return {name: texts for name, texts in found.items() if texts}


def of_text(text: str) -> set[str]:
    """Return the secrets of a URI, as they are written in it and as they are meant; other text is one itself.

    A URI's are its password, or what stands for a user where there is no password but a key (a DSN), and the
    values of options that are not known to be harmless.
    """
    if "://" not in text:
        return {text} if text else set()
    found = {secret for part in re.split(r";(?=[a-z+]+://)", text) for secret in _of_uri(part)}
    return {form for secret in found for form in (secret, unquote(secret)) if form}


def _of_uri(uri: str) -> Iterator[str]:
    scheme, _, rest = uri.partition("://")
    location, _, query = rest.partition("?")
    userinfo, at, _ = location.rpartition("@")
    user, colon, password = userinfo.partition(":")
    if at and (password or scheme in ("http", "https")):
        yield password if colon else user
        # In a whole it is more than its parts: a password that is a word of every day's is found by it.
        yield f"{userinfo}@"
    if at and colon and scheme in ("http", "https"):
        yield user
    for option in re.split("[&;]", query):
        name, equals, value = option.partition("=")
        if equals and not is_shown_option(name) and name.lower() != "username":
            # mechanism properties: AWS_SESSION_TOKEN:…,SERVICE_NAME:…
            yield from (part.partition(":")[2] or part for part in value.split(","))


def _deep(name: str, value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        return [text for key, inner in value.items() for text in _deep(str(key), inner)]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [text for inner in value for text in _deep(name, inner)]
    if not isinstance(value, str):
        return []
    if "password" in name.lower():
        return {value, *of_text(value)} if value else []
    return of_text(value) if "://" in value and "@" in value else []
