"""Plain tasks that hold a connection for long, or leave something open: KEPT keeps it alive."""

from threading import Timer
from typing import Any

from celery import shared_task
from pymongo import CursorType, MongoClient
from pymongo.client_session import ClientSession

from worker.process.process import get_client, get_database

KEPT: list[Any] = []


@shared_task(name="attribution.hold")
def hold() -> int:
    """Ask what the server is told to answer late."""
    return asks_for_long()


def asks_for_long() -> int:
    """Be a line of the project's own."""
    return len(get_database().attribution.distinct("_id"))


@shared_task(name="attribution.leave_session")
def leave_session() -> None:
    """Leave a session."""
    leaves_session()


@shared_task(name="attribution.leave_late")
def leave_late() -> None:
    """Leave another, under a name that was not told yet."""
    leaves_session()


@shared_task(name="attribution.leave_for_a_while")
def leave_for_a_while(seconds: float) -> None:
    """Leave a session that ends after so long."""
    Timer(seconds, leaves_session().end_session).start()


def leaves_session() -> ClientSession:
    """Use a session and keep it."""
    session = get_client().start_session()
    get_database().attribution.find_one({}, session=session)
    KEPT.append(session)
    return session


@shared_task(name="attribution.leave_transaction")
def leave_transaction() -> None:
    """Leave a transaction that nobody commits or aborts."""
    session = get_client().start_session()
    session.start_transaction()
    get_database().attribution.find_one({}, session=session)
    KEPT.append(session)


@shared_task(name="attribution.leave_exhaust_cursor")
def leave_exhaust_cursor() -> None:
    """Leave a cursor that keeps its connection."""
    numbers = get_database().attribution_numbers
    for number in range(100):
        numbers.replace_one({"_id": number}, {"text": "x" * 1000}, upsert=True)
    cursor = numbers.find({}, cursor_type=CursorType.EXHAUST, batch_size=10)
    next(cursor)
    KEPT.append(cursor)


@shared_task(name="attribution.leave_client")
def leave_client(uri: str) -> None:
    """Leave two clients of one line: the first might be meant to stay."""
    for _ in range(2):
        client: MongoClient[Any] = MongoClient(uri)
        client.admin.command("ping")
        KEPT.append(client)


@shared_task(name="attribution.leave_nothing")
def leave_nothing() -> None:
    """Use all of it, and end what was begun."""
    numbers = get_database().attribution_numbers
    with get_client().start_session() as session:
        session.with_transaction(lambda inner: numbers.find_one({}, session=inner))
    with get_client().start_session(snapshot=True) as session:
        KEPT.append(session)
    KEPT.append(numbers.find({}, batch_size=10))
    list(numbers.find({}, cursor_type=CursorType.EXHAUST, batch_size=10))
