"""What kinds of values settings take, and what describes one setting."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr

from . import uris
from .redact import redact_uri, redact_value

# MongoDB takes 128 bytes of application name; deployment, node, slot and pid share them with the prefix.
APPNAME_BYTES = 32
DEPLOYMENT_LENGTH = 32


@dataclass(frozen=True)
class Setting:
    """What the type of a field does not say; `option` is its name as an option of MongoClient, `instead` what
    an app of one's own sets where only the service reads the variable.
    """

    variable: str
    unit: str
    reason: str
    allowed: str | None = None
    option: str | None = None
    instead: str | None = None


class SecretUri(SecretStr):
    """A URI that shows everything but its secrets."""

    def __str__(self) -> str:
        return redact_uri(self.get_secret_value())

    def __repr__(self) -> str:
        return f"SecretUri({str(self)!r})"


def _refusing(problem: str | None) -> None:
    if problem:
        raise ValueError(problem)


def check_mongo_uri(value: SecretUri) -> SecretUri:
    _refusing(uris.mongo_uri_problem(value.get_secret_value()))
    return value


def check_redis_url(value: SecretUri) -> SecretUri:
    _refusing(uris.redis_url_problem(value.get_secret_value()))
    return value


def check_dsn(value: SecretUri) -> SecretUri:
    _refusing(uris.dsn_problem(value.get_secret_value()))
    return value


def _quoted(bad: Sequence[str], names: Sequence[str]) -> str:
    """Return the first of what is wrong; of a list that may be a URI in pieces, none."""
    is_uri = any(mark in name for name in names for mark in ("@", "://"))
    return "one of them" if is_uri else repr(redact_value(bad[0]))


def split_list(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def check_modules(names: tuple[str, ...]) -> tuple[str, ...]:
    bad = [name for name in names if not all(part.isidentifier() for part in name.split("."))]
    _refusing(f"{_quoted(bad, names)} is no module name" if bad else None)
    return names


GATED_QUEUES = 20
"""Their names have their place on the board: 64 characters each."""

_NEVER_GATED = ("mongo.health", "mongo.ops")


def split_gated(value: Any) -> Any:
    return [] if value == "none" else split_list(value)


def check_gated(names: tuple[str, ...]) -> tuple[str, ...]:
    never = [name for name in names if name in _NEVER_GATED]
    _refusing(f"{never[0]} carries what must run in an outage" if never else None)
    bad = [name for name in names if not re.fullmatch(r"[A-Za-z0-9._:@-]{1,64}", name)]
    _refusing(f"{_quoted(bad, names)} is no name of a queue" if bad else None)
    _refusing(f"there are {len(names)}" if len(names) > GATED_QUEUES else None)
    return names


_COMPRESSORS = {"zlib": ("zlib",), "snappy": ("snappy",), "zstd": ("compression.zstd", "backports.zstd")}


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def check_compressors(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        modules = _COMPRESSORS.get(name, ())
        missing = f"the Python package for {name} is not installed" if modules else "one of them is unknown"
        _refusing(None if any(map(_importable, modules)) else missing)
    return names


def check_file(path: Path) -> Path:
    _refusing(None if os.path.isfile(path) else "there is no such file")  # Path.is_file may raise
    _refusing(None if os.access(path, os.R_OK) else "it cannot be read")
    return path


def cut_to_bytes(text: str, limit: int) -> str:
    """Return the beginning of `text` that fits in `limit` bytes of UTF-8."""
    return text.encode()[:limit].decode(errors="ignore")


def bytes_within(limit: int) -> AfterValidator:
    def check(value: str) -> str:
        _refusing(f"it has {len(value.encode())} bytes" if len(value.encode()) > limit else None)
        _refusing("it is a URI, and would be shown" if "://" in value else None)
        return value

    return AfterValidator(check)


_READ_PREFERENCES = ("primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest")


def known_read_preference(value: Any) -> Any:
    return {name.lower(): name for name in _READ_PREFERENCES}.get(str(value).lower(), value)


# MongoDB, "Atlas Service Limits": connections per node, by tier.
_ATLAS = {
    **{"M0": 500, "FLEX": 500, "M2": 500, "M5": 500, "M10": 1500, "M20": 3000, "M30": 3000, "M40": 6000},
    **{"M50": 16_000, "M60": 32_000, "M80": 96_000, "M140": 96_000, "M200": 128_000, "M300": 128_000},
}


def connections_of_tier(value: Any) -> Any:
    return _ATLAS.get(str(value).upper(), value)


MilliSeconds = Annotated[int, Field(ge=10, le=3_600_000)]
Interval = Annotated[float, Field(ge=0.5, le=3600)]
ExistingFile = Annotated[Path, AfterValidator(check_file)]
