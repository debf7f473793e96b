"""Attempts and dead letters in a real Redis."""

import os
import time
from dataclasses import replace

import pytest
import redis as redis_py

from worker import process_identity
from worker.attempts import KEPT_SECONDS, Attempt, Attempts
from worker.dead_letters import DeadLetters, Letter

LETTERS = [
    Letter(str(n), "shop.sell", "shop", "poison", 100.0 + n, "w1@h", 0, 7, forced=3, headers={"retries": 1})
    for n in range(450)
]
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
        letters.put(letter, "{}")
    assert list(letters.letters()) == LETTERS


def test_a_letter_that_comes_again_takes_the_place_of_the_former(letters: DeadLetters) -> None:
    letters.put(LETTERS[0], '{"args": [1]}')
    letters.put(LETTERS[0], '{"args": [2]}')
    assert list(letters.letters()) == LETTERS[:1]
    assert letters.body("0") == '{"args": [2]}'


def test_what_is_dropped_is_gone_and_the_rest_stays(
    letters: DeadLetters, redis_client: redis_py.Redis
) -> None:
    for letter in LETTERS[:3]:
        letters.put(letter, "{}")
    assert letters.drop(["0", "2", "nobody"]) == 2
    assert list(letters.letters()) == LETTERS[1:2]
    assert (letters.find("0"), letters.body("0"), letters.find("1")) == (None, None, LETTERS[1])
    assert letters.drop(["1"]) == 1
    assert redis_client.keys("t:d:*") == []


def test_a_letter_that_took_the_place_of_another_is_not_dropped_for_it(letters: DeadLetters) -> None:
    """A message that is sent again may be back before its letter is dropped."""
    letters.put(LETTERS[0], "{}")
    again = replace(LETTERS[0], at=200.0)
    letters.put(again, "{}")
    letters.drop_same(LETTERS[0])
    assert list(letters.letters()) == [again]
    letters.drop_same(again)
    assert list(letters.letters()) == []


def test_letters_do_not_expire(letters: DeadLetters, redis_client: redis_py.Redis) -> None:
    letters.put(LETTERS[0], "{}")
    assert [redis_client.ttl(name) for name in redis_client.keys("t:d:*")] == [-1, -1]


def test_a_run_that_began_is_there_for_the_next_until_it_ends(attempts: Attempts) -> None:
    assert attempts.begin("1", "a", OWN).attempts == []
    assert attempts.begin("1", "b", OWN).attempts == [OWN]
    attempts.end("1", "a")
    attempts.end("1", "b")
    earlier = attempts.begin("1", "c", OWN)
    assert (earlier.attempts, earlier.was_given_back) == ([], False)
    assert attempts.begin("2", "a", OWN).attempts == []


def test_what_was_given_back_is_known_to_the_next_run(attempts: Attempts) -> None:
    attempts.give_back("1")
    earlier = attempts.begin("1", "a", OWN)
    assert (earlier.attempts, earlier.was_given_back) == ([], True)
    attempts.forget("1")
    assert not attempts.begin("1", "b", OWN).was_given_back


def test_what_is_done_is_known_to_the_next_delivery(attempts: Attempts) -> None:
    """Its acknowledgement may have been lost."""
    attempts.begin("1", "a", OWN)
    attempts.finish("1", "a")
    earlier = attempts.begin("1", "b", OWN)
    assert (earlier.attempts, earlier.is_done) == ([], True)


def test_runs_are_forgotten_after_their_time(attempts: Attempts, redis_client: redis_py.Redis) -> None:
    attempts.begin("1", "a", OWN)
    attempts.give_back("2")
    attempts.begin("3", "a", OWN)
    attempts.finish("3", "a")
    kept = [redis_client.ttl(f"t:d:attempts:{number}") for number in (1, 2, 3)]
    # A message that waits through an outage of days is known still when it is delivered again.
    assert kept == pytest.approx([KEPT_SECONDS, KEPT_SECONDS, 60], abs=2)
    assert time.time() < OWN.until
