"""Events as the SDK makes them: real errors through a real client, to a transport that keeps them."""

import copy
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sentry_sdk
from bson import errors as bson_errors
from pymongo import errors
from sentry_sdk.transport import Transport

DSN = "https://key@sentry.invalid/1"


class Kept(Transport):
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []
        self.transactions: list[Any] = []
        self.check_ins: list[Any] = []
        self.flushed: list[float] = []

    def capture_envelope(self, envelope: Any) -> None:
        for item in envelope.items:
            if event := item.get_event():
                self.events.append(copy.deepcopy(event))
            elif transaction := item.get_transaction_event():
                self.transactions.append(copy.deepcopy(transaction))
            elif item.type == "check_in":
                self.check_ins.append(json.loads(item.get_bytes()))

    def flush(self, timeout: float, callback: Any = None) -> None:
        self.flushed.append(timeout)

    @property
    def text(self) -> str:
        """All of it."""
        return json.dumps([self.events, self.transactions], default=str, ensure_ascii=False)


@contextmanager
def sdk(**options: Any) -> Iterator[Kept]:
    """A fresh SDK that keeps its events and patches nothing; ends with none."""
    kept = Kept()
    quiet: dict[str, Any] = {
        "dsn": DSN,
        "default_integrations": False,
        "auto_enabling_integrations": False,
        "enable_backpressure_handling": False,  # a thread that sleeps
    }
    with warnings.catch_warnings():
        # That the option for personal data is deprecated is no concern of ours: apps set it.
        warnings.simplefilter("ignore", DeprecationWarning)
        sentry_sdk.init(**quiet | options | {"transport": kept})
    with sentry_sdk.isolation_scope() as scope:
        scope.clear()
        yield kept
    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.get_global_scope().set_client(None)


def driver_classes() -> list[type[Exception]]:
    """Every class of error of pymongo and bson."""
    found = [kind for module in (errors, bson_errors) for kind in vars(module).values()]
    kinds = {kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception)}
    own = (kind for kind in kinds if kind.__module__.startswith(("pymongo.", "bson.")))
    return sorted(own, key=lambda kind: (kind.__module__, kind.__name__))


def make(kind: type[Exception], secret: Any) -> Exception:
    """Return an error of this class with the secret in every place that the class has."""
    text = f"the server says: bad value {secret!r} for {{'name': '{secret}'}}"
    details = {
        "ok": 0.0,
        "code": 11000,
        "codeName": f"{secret}",
        "errmsg": f"E11000 duplicate key error collection: a.b index: x_1 dup key: {{ x: {secret!r} }}",
        "keyValue": {"x": secret, f"{secret}": 1},
        "writeErrors": [{"index": 0, "code": 11000, "errmsg": f"dup {secret}", "op": {"_id": secret}}],
        "writeConcernErrors": [{"errmsg": f"{secret}", "errInfo": {"doc": [secret]}}],
        "errorLabels": ["RetryableWriteError"],
    }
    arguments: tuple[Any, ...] = (text,)
    if issubclass(kind, errors.BulkWriteError):
        arguments = (details,)
    elif issubclass(kind, errors.ClientBulkWriteException):
        arguments = (details, True)
    elif issubclass(kind, (errors.OperationFailure, errors.WriteConcernError)):
        arguments = (text, 11000, details)
    elif issubclass(kind, errors.AutoReconnect):
        arguments = (text, details if kind is errors.NotPrimaryError else [details])
    elif issubclass(kind, errors.EncryptedCollectionError):
        arguments = (ValueError(text), details)
    elif issubclass(kind, errors.EncryptionError):
        arguments = (ValueError(text),)
    return kind(*arguments)
