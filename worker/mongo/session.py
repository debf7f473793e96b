"""Sessions whose `with_transaction` ends in an outage: PyMongo's tries again for two minutes."""

from collections.abc import Callable
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.errors import AutoReconnect, PyMongoError


class BoundedSession(ClientSession):
    """A session of PyMongo's that `bound` was given; see there."""

    _is_away: Callable[[], bool]
    _is_repeating = False

    def with_transaction(self, callback: Callable[[ClientSession], Any], *args: Any, **kwargs: Any) -> Any:
        """Run a callback in a transaction as PyMongo does, tried again while MongoDB is not away."""

        def body(session: ClientSession) -> Any:
            try:
                return callback(session)
            except PyMongoError as error:
                self._end_if_away(error)
                raise

        self._is_repeating = True
        try:
            return super().with_transaction(body, *args, **kwargs)
        finally:
            self._is_repeating = False

    def commit_transaction(self) -> None:
        """Commit as PyMongo does."""
        try:
            super().commit_transaction()
        except PyMongoError as error:
            if self._is_repeating:
                self._end_if_away(error)
            raise

    def _end_if_away(self, error: PyMongoError) -> None:
        # Without the labels by which PyMongo tries again; the first error is its cause.
        if self._is_away():
            raise AutoReconnect(f"not tried again, since MongoDB is away: {error}") from error


def bound(session: ClientSession, is_away: Callable[[], bool]) -> None:
    """Have this session's `with_transaction` raise its error where `is_away` says that it need not try again.

    PyMongo makes its sessions itself, so that this one gets another class.
    """
    session.__class__ = BoundedSession
    vars(session)["_is_away"] = is_away
