"""How a client is made: options from the settings, and a handshake that says who it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.driver_info import DriverInfo

from ..mongo.holder import Client
from ..mongo.session import bound
from ..pool.adapter import TrackedPool
from ..server.set_names import SetNames
from ..tracking.leaks import remember_session

if TYPE_CHECKING:
    from ..settings.fields import Settings

# The handshake refuses more (MongoDB, "Handshake": client.application.name).
_APPNAME_BYTES = 128


@dataclass(frozen=True)
class Identity:
    """Who owns a client: shown in the server's log, in `$currentOp` and in Atlas."""

    deployment: str
    node: str
    slot: int
    pid: int

    def appname(self, prefix: str) -> str:
        """Return `prefix/deployment/node/slot/pid` in at most 128 bytes; a long node name loses its end."""
        tail = f"/{self.slot}/{self.pid}"
        head = f"{prefix}/{self.deployment}/{self.node}".encode()
        return head[: _APPNAME_BYTES - len(tail)].decode(errors="ignore") + tail


class WatchedClient(MongoClient[dict[str, Any]]):
    """A client that knows which task started a session. Those that PyMongo makes for an operation come from
    elsewhere, and end with it.
    """

    is_away: Callable[[], bool] | None = None

    def start_session(self, *args: Any, **kwargs: Any) -> ClientSession:
        """Start a session as PyMongo does, and remember whose it is; see `session.bound`."""
        session = super().start_session(*args, **kwargs)
        remember_session(session)
        if self.is_away is not None:
            bound(session, self.is_away)
        return session


def build_client(  # noqa: PLR0913 - what a client is made of
    settings: "Settings",
    identity: Identity,
    *,
    concurrency: int,
    listeners: Sequence[Any] = (),
    options: Mapping[str, Any] | None = None,
    is_away: Callable[[], bool] | None = None,
) -> Client:
    """Make the client of a process; `concurrency` is how many tasks the process runs at a time.

    No I/O: the first operation connects. `options` win over the settings and over the URI. `is_away` says
    whether MongoDB has been away for so long that a transaction need not be tried again. Raises pymongo's
    ConfigurationError for options that only pymongo can judge.
    """
    client = WatchedClient(
        settings.mongodb_uri.get_secret_value(),
        connect=False,
        appname=identity.appname(settings.appname),
        driver=DriverInfo("celery-pymongo", own_version()),
        event_listeners=[*listeners, SetNames()],
        _pool_class=TrackedPool,
        **{**settings.client_options(concurrency), **(options or {})},
    )
    client.is_away = is_away
    return client


def own_version() -> str:
    """Return the installed version of celery-pymongo, or 'checkout' where it runs from a tree."""
    try:
        return version("celery-pymongo")
    except PackageNotFoundError:
        return "checkout"
