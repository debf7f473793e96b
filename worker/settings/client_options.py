"""MongoClient's options: what the settings say, and what the URI says instead."""

import os
from typing import TYPE_CHECKING, Any, Literal

from . import uris
from .redact import HIDDEN, is_shown_option
from .table import setting_of

if TYPE_CHECKING:
    from .fields import Settings

Source = Literal["default", "environment", "URI"]


def keywords(settings: "Settings", concurrency: int) -> dict[str, Any]:
    """Return keyword arguments for MongoClient, which would win over the URI: so without what the URI sets.

    The application name is not among them: node, slot and pid are added to it first.
    """
    own = {name: value for name, value, _ in _own(settings, concurrency) if name != "appname"}
    # PyMongo below 4.16 takes a 0 of the URI for a maximum that is less than the minimum.
    return own | ({"maxPoolSize": None} if from_uri(settings).get("maxpoolsize") == "0" else {})


def effective(settings: "Settings", concurrency: int) -> list[tuple[str, Any, Source]]:
    """Return name, value and source of each option, sorted; *** for values that must not be shown."""
    options = [*_own(settings, concurrency), *_from_uri(settings)]
    if not any(name == "tls" for name, _, _ in options):
        options.append(_implied_tls(settings))
    return sorted(options, key=lambda option: option[0].lower())


def min_pool_size(settings: "Settings", concurrency: int) -> int:
    """Return the explicit minimum, or one for each concurrent task up to 10 and the pool's maximum."""
    if settings.min_pool_size != "auto":
        return settings.min_pool_size
    return min(10, max(1, concurrency), max_pool_size(settings))


def from_uri(settings: "Settings") -> dict[str, str]:
    """Return the options that the URI sets, by lower-case name."""
    return uris.mongo_options(settings.mongodb_uri.get_secret_value())


def overridden(settings: "Settings") -> dict[str, str]:
    """Return variable and option where a variable is set and the URI sets the same."""
    chosen = from_uri(settings)
    fields = {name: setting_of(field) for name, field in type(settings).model_fields.items()}
    return {
        setting.variable: setting.option
        for name, setting in fields.items()
        if setting.option and setting.option.lower() in chosen and name in settings.model_fields_set
    }


def made_of(settings: "Settings") -> tuple[Any, ...]:
    """Return what a client is made of: equal where a new one would be the same, TLS files included."""
    options = keywords(settings, 1)
    by_name = {name.lower(): value for name, value in options.items()} | from_uri(settings)
    files = [by_name[name] for name in _TLS_FILES if name in by_name]
    return settings.mongodb_uri, options, [(path, _stamp(path)) for path in files]


_TLS_FILES = ("tlscafile", "tlscertificatekeyfile", "tlscrlfile")


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def max_pool_size(settings: "Settings") -> int:
    """Return the maximum that holds; MongoDB's URIs write 'no maximum' as 0."""
    return int(from_uri(settings).get("maxpoolsize", settings.max_pool_size)) or 1_000_000


def write_concern(settings: "Settings") -> int | str:
    """Return the write concern that holds."""
    value = from_uri(settings).get("w", settings.write_concern)
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _own(settings: "Settings", concurrency: int) -> list[tuple[str, Any, Source]]:
    chosen = from_uri(settings)
    return [
        (option, _value(settings, name, concurrency), _source(settings, name))
        for name, option in _options(settings)
        if option.lower() not in chosen and not _left_out(settings, name)
    ]


def _options(settings: "Settings") -> list[tuple[str, str]]:
    pairs = ((name, setting_of(field).option) for name, field in type(settings).model_fields.items())
    return [(name, option) for name, option in pairs if option]


def _left_out(settings: "Settings", name: str) -> bool:
    if name in ("tls_ca_file", "tls_certificate_key_file", "compressors", "operation_deadline_seconds"):
        return not getattr(settings, name)
    if name in settings.model_fields_set:
        return False
    # tls=False would switch off what mongodb+srv:// and the other TLS options switch on; an
    # unacknowledged write cannot be journaled.
    return name == "tls" or (name == "journal" and write_concern(settings) == 0)


def _value(settings: "Settings", name: str, concurrency: int) -> Any:
    if name == "min_pool_size":
        return min_pool_size(settings, concurrency)
    value = getattr(settings, name)
    if name == "operation_deadline_seconds":
        return round(value * 1000)
    if name == "compressors":
        return ",".join(value)
    return str(value) if name in ("tls_ca_file", "tls_certificate_key_file") else value


def _source(settings: "Settings", name: str) -> Source:
    return "environment" if name in settings.model_fields_set else "default"


def _from_uri(settings: "Settings") -> list[tuple[str, Any, Source]]:
    spelling = {option.lower(): option for _, option in _options(settings)}
    return [
        (spelling.get(name, name), _typed(value) if is_shown_option(name) else HIDDEN, "URI")
        for name, value in from_uri(settings).items()
    ]


def _typed(value: str) -> Any:
    if value in ("true", "false"):
        return value == "true"
    return int(value) if value.isdecimal() else value


def _implied_tls(settings: "Settings") -> tuple[str, Any, Source]:
    """Return what PyMongo makes of the absence of `tls`."""
    if uris.is_srv(settings.mongodb_uri.get_secret_value()) or any(
        n.startswith("tls") for n in from_uri(settings)
    ):
        return ("tls", True, "URI")
    if settings.tls_ca_file or settings.tls_certificate_key_file:
        return ("tls", True, "environment")
    return ("tls", False, "default")
