"""`client` and `db`: names for a module's top that open nothing there and are right in every process.

A handle stands for the process's client, one of its databases or collections. It holds no client: each use
asks for the one of the process that uses it, so a handle made before a fork, pickled or cached is right in
every child, after a replacement of the client, and within `use_client()`.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from .process import get_client, get_database


class Handle:
    """What all handles do: an attribute that PyMongo's class has is looked up in the object of this process,
    any other name is that of a database or collection, as in PyMongo.
    """

    _stands_for: ClassVar[type[Any]]
    __slots__ = ("_name", "_of")
    # With __getitem__ alone, iterating would ask for item after item for ever.
    __iter__ = None

    def __init__(self, name: str | None = None, of: "Handle | None" = None) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_of", of)

    # isinstance() asks for this: GridFS and others take nothing but a Database.
    @property  # type: ignore[misc] # the class of what a handle stands for
    def __class__(self) -> type[Any]:
        return self._stands_for

    def __getattr__(self, name: str) -> Any:
        if hasattr(self._stands_for, name):
            return getattr(self._present(), name)
        if name.startswith("_"):
            raise AttributeError(f"{self!r} has no attribute {name!r}; use [{name!r}] for what is called so")
        return self[name]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{self!r} is a handle: {name!r} cannot be set")

    def __getitem__(self, name: str) -> "Handle":
        if not isinstance(name, str):
            raise TypeError(f"a name in {self!r} must be str, not {type(name).__name__}")
        return self._named(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __bool__(self) -> bool:
        raise NotImplementedError(f"{self!r} has no truth value; compare with None instead")

    def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError(f"{self!r} is not callable: {self._stands_for.__name__} has no such method")

    def __dir__(self) -> list[str]:
        return dir(self._stands_for)

    def __copy__(self) -> "Handle":
        return self

    def __deepcopy__(self, _memo: object) -> "Handle":
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return type(self), (self._name, self._of)

    def _named(self, name: str) -> "Handle":
        """Return the handle of what is called so in it."""
        raise NotImplementedError

    def _present(self) -> Any:
        """Return the object of this process that the handle stands for."""
        raise NotImplementedError


class ClientHandle(Handle):
    """Stands for the process's client."""

    _stands_for = MongoClient
    __slots__ = ()

    def __repr__(self) -> str:
        return "celery_pymongo.client"

    def __bool__(self) -> bool:
        return True

    def _named(self, name: str) -> Handle:
        return DatabaseHandle(name)

    def _present(self) -> Any:
        return get_client()


class DatabaseHandle(Handle):
    """Stands for a database of the process's client: by name, or the one that the settings name."""

    _stands_for = Database
    __slots__ = ()

    def __repr__(self) -> str:
        return "celery_pymongo.db" if self._name is None else f"celery_pymongo.client[{self._name!r}]"

    def _named(self, name: str) -> Handle:
        return CollectionHandle(name, self)

    def _present(self) -> Any:
        return get_database(self._name)


class CollectionHandle(Handle):
    """Stands for a collection of a database of the process's client."""

    _stands_for = Collection
    __slots__ = ()

    def __repr__(self) -> str:
        return f"{self._of!r}[{self._name!r}]"

    def _named(self, name: str) -> Handle:
        return CollectionHandle(f"{self._name}.{name}", self._of)

    def _present(self) -> Any:
        return self._of._present()[self._name]


client = ClientHandle()
"""The process's client, for a module's top."""

db = DatabaseHandle()
"""The database that the settings name, of the process's client, for a module's top."""
