"""mongoengine's documents through the process's one client: `from celery_pymongo.mongoengine import connect`.

Loaded by those alone who import it; mongoengine is no dependency of this package. What mongoengine keeps by
alias and by document class are handles (see `process.handles`): right in every child of a fork, after a
replacement of the client, and within `use_client()`, also where the app connects at a module's top.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mongoengine
from mongoengine.connection import ConnectionFailure

from .process.handles import ClientHandle, DatabaseHandle, Handle
from .process.process import current
from .settings import uris

# mongoengine wants a name when it connects, when nobody knows the settings yet; its own default is "test".
_SETTINGS_DATABASE = "celery_pymongo-settings"


def connect(
    db: str | None = None,
    alias: str = mongoengine.DEFAULT_CONNECTION_NAME,
    *,
    name: str | None = None,
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    **_options: Any,
) -> Any:
    """Give documents of `alias` the client of the process that uses them; open nothing here.

    The database is `db` (or `name`), else the one of a URI in `host`, else what the settings name. `host`
    and `port` may be what mongoengine was given before; where they name other servers than MONGODB_URI the
    first use raises mongoengine's ConnectionFailure. Other options have no effect: the client has those of
    its settings and its URI. `mongoengine.disconnect()` forgets the alias and leaves the client open.
    """
    named = [host] if isinstance(host, str) else list(host or [])
    if port is not None and not named:
        named = ["localhost"]
    in_uri = next((found for text in named if "://" in text and (found := uris.mongo_database(text))), None)
    return mongoengine.connect(
        db or name or in_uri or _SETTINGS_DATABASE,
        alias,
        mongo_client_class=_Client(frozenset(each for text in named for each in _hosts(text, port))),
        uuidRepresentation="standard",  # mongoengine warns without; what holds is the client's own
    )


def _hosts(text: str, port: int | None = None) -> list[str]:
    """Return the hosts of a URI, or the one that is named alone, with their ports."""
    hosts = uris.mongo_hosts(text) if "://" in text else [text]
    ending = "" if uris.is_srv(text) else f":{port or 27017}"
    return [host.lower() if ":" in host else f"{host.lower()}{ending}" for host in hosts]


@dataclass(frozen=True)
class _Client:
    """In the place of a class of clients. Equal for equal arguments: mongoengine compares them."""

    asked: frozenset[str] = field(default_factory=frozenset)

    def __call__(self, **_options: Any) -> "SharedClient":
        return SharedClient(self.asked)


class SharedClient(ClientHandle):
    """Stands for the process's client, which mongoengine does not close."""

    __slots__ = ("_asked",)

    def __init__(self, asked: frozenset[str]) -> None:
        super().__init__()
        object.__setattr__(self, "_asked", asked)

    def __reduce__(self) -> Any:
        return type(self), (self._asked,)

    def close(self) -> None:
        """Leave the client open: it is not mongoengine's."""

    def _named(self, name: str) -> Handle:
        return SharedDatabase(None if name == _SETTINGS_DATABASE else name, self)

    def _present(self) -> Any:
        self.refuse_other_servers()
        return super()._present()

    def refuse_other_servers(self) -> None:
        """Raise mongoengine's ConnectionFailure where connect() named none of this process's servers."""
        if not self._asked:
            return
        ours = _hosts(current().settings.mongodb_uri.get_secret_value())
        if not self._asked & set(ours):
            raise ConnectionFailure(
                f"connect() names {', '.join(sorted(self._asked))}, and this process's client is of "
                f"{', '.join(ours)} (MONGODB_URI): leave `host` out, or use mongoengine's own connect()"
            )


class SharedDatabase(DatabaseHandle):
    """Stands for a database of the process's client, where connect() named no other servers."""

    __slots__ = ()

    def _present(self) -> Any:
        self._of.refuse_other_servers()
        return super()._present()
