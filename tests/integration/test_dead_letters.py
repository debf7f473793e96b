"""Attempts and dead letters in a real Redis."""

import json
import os
import pickle
import time
from base64 import b64decode
from dataclasses import asdict, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import redis as redis_py

from worker.board import process_identity
from worker.broker.original import Original
from worker.delivery.attempts import KEPT_SECONDS, Attempt, Attempts, Delivered, Earlier
from worker.delivery.dead_letters import DeadLetters, Letter

LETTERS = [
    Letter(
        *(str(n), "shop.sell", "shop", "poison", 100.0 + n, "w1@h", 0, 7),
        forced=3,
        headers={"retries": 1},
        task_id=str(n),
        message="a1b2c3d4e5f6",
    )
    for n in range(450)
]
HEADERS = {
    "id": "0",
    "task": "shop.sell",
    "timelimit": [None, 30],
    "celery_pymongo_sent_at": 1.5,
    "x-death": [{"time": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), "count": 1}],
    "raw": b"\x00\xff",
    "price": Decimal("1.10"),
    "pairs": {1: (1, 2), "$bytes": "no"},
}
MESSAGE = Original(
    body=b"\x80\x04\x95\x00\xff",
    content_type="application/x-python-serialize",
    content_encoding="binary",
    headers=HEADERS,
    properties={"priority": 3, "correlation_id": "0", "delivery_tag": "t"},
    queue=None,
    counts_returns=False,
    is_redelivered=True,
    exchange="",
    routing_key="shop",
)
SIGNATURE = '{"task": "shop.sell", "args": [1]}'
ONE = {number: Delivered(str(number), "m") for number in (1, 2, 3)}
OWN = Attempt("w1@h", 0, os.getpid(), process_identity.born(os.getpid()), process_identity.boot_id(), 9e9)


def key(*parts: object) -> str:
    return ":".join(("t", "d", *map(str, parts)))


@pytest.fixture
def letters(redis_client: redis_py.Redis) -> DeadLetters:
    return DeadLetters(redis_client, key)


@pytest.fixture
def attempts(redis_client: redis_py.Redis) -> Attempts:
    return Attempts(redis_client, key, done_seconds=60)


def test_letters_are_listed_the_oldest_first_and_in_full(letters: DeadLetters) -> None:
    for letter in reversed(LETTERS):
        letters.put(letter, MESSAGE)
    assert list(letters.letters()) == LETTERS


def test_a_letter_that_comes_again_takes_the_place_of_the_former(letters: DeadLetters) -> None:
    letters.put(LETTERS[0], SIGNATURE)
    letters.put(LETTERS[0], MESSAGE)
    assert list(letters.letters()) == LETTERS[:1]
    assert letters.message("0") == MESSAGE


def test_a_message_is_kept_byte_for_byte(letters: DeadLetters) -> None:
    """And all that is said beside its body, of whatever type."""
    letters.put(LETTERS[0], MESSAGE)
    letters.put(LETTERS[1], replace(MESSAGE, body="{}", content_type="application/json"))
    kept = letters.message("0")
    assert isinstance(kept, Original)
    assert (kept, type(kept.headers["pairs"][1])) == (MESSAGE, tuple)
    text = letters.message("1")
    assert isinstance(text, Original)
    assert text.body == "{}"


def test_what_cannot_be_kept_is_an_error_and_leaves_nothing(
    letters: DeadLetters, redis_client: redis_py.Redis
) -> None:
    with pytest.raises(TypeError):
        letters.put(LETTERS[0], replace(MESSAGE, headers={"who": object()}))
    assert redis_client.keys("t:d:*") == []


def test_a_message_is_shown_without_being_run(letters: DeadLetters) -> None:
    class Guilty:
        def __reduce__(self) -> Any:
            return pytest.fail, ("it was unpickled",)

    letters.put(LETTERS[0], replace(MESSAGE, body=pickle.dumps(Guilty())))
    shown = letters.describe("0")
    assert b64decode(shown["base64"]) == pickle.dumps(Guilty())
    assert (shown["content_type"], shown["headers"]["task"]) == (MESSAGE.content_type, "shop.sell")
    letters.put(LETTERS[1], replace(MESSAGE, body=b"[[1], {}]", content_type="application/json"))
    assert letters.describe("1")["json"] == [[1], {}]
    letters.put(LETTERS[2], replace(MESSAGE, body=b"- [1]", content_type="application/x-yaml"))
    assert letters.describe("2")["text"] == "- [1]"
    assert letters.describe("none") is None


def test_two_messages_of_one_task_id_are_two_letters(letters: DeadLetters) -> None:
    other = replace(LETTERS[0], message="f6e5d4c3b2a1", at=500.0)
    assert letters.put(LETTERS[0], MESSAGE).id == "0"
    kept = letters.put(other, replace(MESSAGE, body=b"other"))
    assert kept == replace(other, id="0~f6e5d4c3")
    assert letters.put(other, replace(MESSAGE, body=b"other")) == kept
    assert list(letters.letters()) == [LETTERS[0], kept]
    assert letters.message("0") == MESSAGE
    letters.drop_same(kept)
    assert list(letters.letters()) == LETTERS[:1]


def test_letters_of_a_version_before_and_after_stay_readable(
    letters: DeadLetters, redis_client: redis_py.Redis
) -> None:
    old = {"id": "7", "task": "shop.sell", "queue": "shop", "reason": "poison", "at": 1.0, "node": "w1@h"}
    old |= {"slot": 0, "pid": 7, "forced": 3, "error": None, "headers": {}, "post_mortem": None}
    new = old | {"id": "8", "task_id": "8", "message": "m", "at": 2.0, "told_later": True}
    for letter in (old, new):
        stored: dict[Any, Any] = {"letter": json.dumps(letter), "body": SIGNATURE}
        redis_client.hset(f"t:d:dead-letter:{letter['id']}", mapping=stored)
        redis_client.zadd("t:d:dead-letters", {str(letter["id"]): float(str(letter["at"]))})
    found = list(letters.letters())
    assert [(one.id, one.task_id, one.message) for one in found] == [("7", "7", ""), ("8", "8", "m")]
    assert letters.message("7") == SIGNATURE
    assert letters.describe("7")["task"] == "shop.sell"
    letters.drop_same(found[0])
    assert list(letters.letters()) == found[1:]


def test_what_is_dropped_is_gone_and_the_rest_stays(
    letters: DeadLetters, redis_client: redis_py.Redis
) -> None:
    for letter in LETTERS[:3]:
        letters.put(letter, MESSAGE)
    assert letters.drop(["0", "2", "nobody"]) == 2
    assert list(letters.letters()) == LETTERS[1:2]
    assert (letters.find("0"), letters.message("0"), letters.find("1")) == (None, None, LETTERS[1])
    assert letters.drop(["1"]) == 1
    assert redis_client.keys("t:d:*") == []


def test_a_letter_that_took_the_place_of_another_is_not_dropped_for_it(letters: DeadLetters) -> None:
    """A message that is sent again may be back before its letter is dropped."""
    letters.put(LETTERS[0], MESSAGE)
    again = replace(LETTERS[0], at=200.0)
    letters.put(again, MESSAGE)
    letters.drop_same(LETTERS[0])
    assert list(letters.letters()) == [again]
    letters.drop_same(again)
    assert list(letters.letters()) == []


def test_letters_do_not_expire(letters: DeadLetters, redis_client: redis_py.Redis) -> None:
    letters.put(LETTERS[0], MESSAGE)
    assert [redis_client.ttl(name) for name in redis_client.keys("t:d:*")] == [-1, -1]


def test_a_run_that_began_is_there_for_the_next_until_it_ends(attempts: Attempts) -> None:
    assert attempts.begin(ONE[1], "a", OWN).attempts == []
    assert attempts.begin(ONE[1], "b", OWN).attempts == [OWN]
    attempts.end(ONE[1], "a")
    attempts.end(ONE[1], "b")
    earlier = attempts.begin(ONE[1], "c", OWN)
    assert (earlier.attempts, earlier.was_given_back) == ([], False)
    assert attempts.begin(ONE[2], "a", OWN).attempts == []


def test_runs_of_another_message_of_the_same_task_are_another_story(attempts: Attempts) -> None:
    other = Delivered("1", "n")
    attempts.begin(ONE[1], "a", OWN)
    attempts.give_back(ONE[1])
    attempts.finish(ONE[1], "b")
    assert attempts.begin(other, "c", OWN) == Earlier(was_given_back=False, attempts=[])
    attempts.forget(other)
    assert attempts.begin(ONE[1], "d", OWN) == Earlier(was_given_back=True, attempts=[OWN], is_done=True)


def test_what_a_version_before_noted_counts_for_each_message(
    attempts: Attempts, redis_client: redis_py.Redis
) -> None:
    """A message that it ran is delivered to this one."""
    noted = {name: value for name, value in asdict(OWN).items() if not name.startswith("main")}
    redis_client.hset("t:d:attempts:1", mapping={"run": json.dumps(noted), "given-back": "1", "done": "1"})
    assert attempts.begin(ONE[1], "a", OWN) == Earlier(was_given_back=True, attempts=[OWN], is_done=True)


def test_a_message_that_is_certainly_new_has_no_runs(attempts: Attempts) -> None:
    """It has the name of one that was sent alike."""
    attempts.begin(ONE[1], "a", OWN)
    first = replace(ONE[1], is_first=True)
    assert attempts.begin(first, "b", OWN) == Earlier(was_given_back=False, attempts=[])
    assert len(attempts.begin(ONE[1], "c", OWN).attempts) == 1


def test_what_was_given_back_is_known_to_the_next_run(attempts: Attempts) -> None:
    attempts.give_back(ONE[1])
    earlier = attempts.begin(ONE[1], "a", OWN)
    assert (earlier.attempts, earlier.was_given_back) == ([], True)
    attempts.forget(ONE[1])
    assert not attempts.begin(ONE[1], "b", OWN).was_given_back


def test_what_is_done_is_known_to_the_next_delivery(attempts: Attempts) -> None:
    """Its acknowledgement may have been lost."""
    attempts.begin(ONE[1], "a", OWN)
    attempts.finish(ONE[1], "a")
    earlier = attempts.begin(ONE[1], "b", OWN)
    assert (earlier.attempts, earlier.is_done) == ([], True)


def test_runs_are_forgotten_after_their_time(attempts: Attempts, redis_client: redis_py.Redis) -> None:
    attempts.begin(ONE[1], "a", OWN)
    attempts.give_back(ONE[2])
    attempts.begin(ONE[3], "a", OWN)
    attempts.finish(ONE[3], "a")
    kept = [redis_client.ttl(f"t:d:attempts:{number}:m") for number in (1, 2, 3)]
    # A message that waits through an outage of days is known still when it is delivered again.
    assert kept == pytest.approx([KEPT_SECONDS, KEPT_SECONDS, 60], abs=2)
    assert time.time() < OWN.until
