"""How a client logs in and encrypts, without its secrets.

PyMongo keeps both in options that have no public name: this is the one place that reads them. Where another
version has them elsewhere they are unknown.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Login:
    """Who logs in: the user (None where the mechanism needs none), the database that knows the user, how."""

    user: str | None
    source: str
    mechanism: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Encryption:
    """Whether a client speaks TLS, and the file of its own certificate, where it has one."""

    is_on: bool
    certificate: Path | None = None


def login_of(client: Any) -> Login | None:
    """Return how a client logs in; None where it does not, or where that is unknown."""
    credentials = getattr(_pool_options(client), "_credentials", None)
    if credentials is None:
        return None
    mechanism = credentials.mechanism
    # The server offers SCRAM-SHA-256 or SCRAM-SHA-1.
    return Login(
        credentials.username, credentials.source, "SCRAM" if mechanism == "DEFAULT" else str(mechanism)
    )


def encryption_of(client: Any) -> Encryption:
    """Return how a client encrypts."""
    options = getattr(getattr(client, "options", None), "_options", None) or {}
    by_name = {name.lower(): value for name, value in options.items()}
    path = by_name.get("tlscertificatekeyfile")
    is_on = getattr(_pool_options(client), "_ssl_context", None) is not None
    return Encryption(is_on, None if path is None else Path(path))


def _pool_options(client: Any) -> Any:
    return getattr(getattr(client, "options", None), "pool_options", None)
