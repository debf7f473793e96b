"""Text for people: whole words, counted nouns."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.text import ELLIPSIS, agree, count, count_of, names, shorten, shorten_bytes

ROOT = Path(__file__).resolve().parents[2]


def test_both_packages_have_the_same() -> None:
    """Neither may import the other by its name: the tree is imported under two."""
    assert (ROOT / "ops/text.py").read_text() == (ROOT / "worker/text.py").read_text()


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("Authentication failed", 21, "Authentication failed"),
        ("Authentication failed", 20, "Authentication…"),
        ("Authentication failed", 15, "Authentication…"),
        ("localhost:27017: Connection refused", 20, "localhost:27017…"),
        ("a:27017, b:27017: Connection refused", 14, "a:27017…"),
        ("a:27017,b:27017: Connection refused", 14, "a:27017…"),
        ("not primary (code 10107)", 14, "not primary…"),
        ("one\ntwo", 5, "one…"),
        ("x" * 30, 10, "x" * 9 + "…"),
        ("", 5, ""),
    ],
)
def test_a_text_that_is_too_long_ends_with_a_whole_word(text: str, limit: int, shown: str) -> None:
    assert shorten(text, limit) == shown


def test_the_end_may_be_what_is_kept() -> None:
    assert shorten("open made by app/tasks.py:12", 20, keep_end=True) == "…by app/tasks.py:12"
    assert shorten("x" * 30, 10, keep_end=True) == "…" + "x" * 9


@given(st.text(), st.integers(1, 40), st.booleans())
@example(",000000", 6, True)
def test_it_keeps_to_the_limit_and_to_the_text(text: str, limit: int, keep_end: bool) -> None:
    shown = shorten(text, limit, keep_end=keep_end)
    assert len(shown) <= limit
    if shown != text:
        kept = shown.strip(ELLIPSIS) if ELLIPSIS not in text else ""
        assert kept in text


@given(st.text(alphabet=st.characters(codec="utf-8")), st.integers(3, 40))
def test_bytes_are_whole_characters(text: str, limit: int) -> None:
    shown = shorten_bytes(text, limit)
    assert len(shown.encode()) <= limit
    assert shown == text or shown.endswith(ELLIPSIS)


@pytest.mark.parametrize(
    ("number", "noun", "shown"),
    [
        (0, "process", "0 processes"),
        (1, "process", "1 process"),
        (1, "dead letter", "1 dead letter"),
        (2, "dead letter", "2 dead letters"),
        (4096, "query", "4,096 queries"),
        (2, "key", "2 keys"),
        (2, "batch", "2 batches"),
    ],
)
def test_a_noun_is_counted(number: int, noun: str, shown: str) -> None:
    assert count(number, noun) == shown


def test_a_noun_goes_with_the_whole_and_a_verb_with_the_part() -> None:
    assert f"{count_of(1, 1, 'process')} {agree(1, 'is', 'are')}" == "1 of 1 process is"
    assert f"{count_of(2, 8, 'process')} {agree(2, 'is', 'are')}" == "2 of 8 processes are"
    assert f"{count(1, 'dead letter')} {agree(1, 'waits', 'wait')}" == "1 dead letter waits"


def test_of_many_names_the_first_are_named() -> None:
    assert names(["a", "b"]) == "a, b"
    assert names([str(n) for n in range(1500)], 2) == "0, 1 and 1,498 more"
