"""Texts of anybody's: one of four times the length takes some four times as long, whatever is in it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pymongo import errors

from ops import problems
from ops.bundle import search
from ops.loading import columns
from worker import text
from worker.mongo import classify, reasons
from worker.process import denials
from worker.sentry import outage_errors, text_scrub
from worker.sentry.crons import entries
from worker.sentry.scrub import Scrubber
from worker.settings import redact, uris
from worker.store import redis_errors

ROOT = Path(__file__).resolve().parents[2]

TOKENS = (
    *("a", "0", "-", ".", " ", "\n", ":", "=", "'", '"', "(", ")", "{", "}", "[", ",", ";", "/", "@", "\\"),
    *("pwd", "pwd-", "pwd ", "token=", "pwd='", "a:", "a.", "-a", "::", "a,", "é", "_"),
    *("x://", "mongodb://", "redis+a", "a://b@", "a@", "x://a:*"),
    *("pymongo.", "pymongo.a: ", "bson.a.", "E11000 ", "dup key", "full error"),
    *("A(", "SON(", "{ ", "{'a", "{a", '{"a":', "{'", "b'"),
    *("'code': ", "[Errno ", "[SSL: ", " (configured timeouts:", "(_ssl.c:", "('a', 1"),
    *("not authorized on ", "not authorized on a to execute command { a: ", 'command { a: "', "command a "),
    *("<ServerDescription ", ", <ServerDescription ('a', 1) server_type: x, rtt: 1, error=A("),
    *("]>", ")>]>", "certificate ", "OOM", "sentinel://;"),
)
"""What texts are made of, over and over: each begins something that a pattern looks for, and ends nothing."""

ENDS = (("", ""), ("pwd", "!"), ("x://", " "), ("{", " :"), ("'code': ", "x"), ("", "="))
FEW_ENDS = ENDS[:2]

SIZES = ((2000, 8000, ENDS), (8000, 32_000, FEW_ENDS))
"""The scrubber looks at no more than the first of these; the second shows what is slow in a few places."""

SLOW_SECONDS = 0.01
"""What is quicker is not worth a ratio: a clock has its own."""

MOST_TIMES = 10.0
"""Four is linear, sixteen quadratic, sixty-four cubic; a busy machine is between."""


def error_of(made: str, kind: type[errors.PyMongoError] = errors.AutoReconnect) -> errors.PyMongoError:
    return kind(made)


LOOKS: dict[str, Callable[[str], Any]] = {
    "clean": text_scrub.clean,
    "quotations": lambda made: text_scrub.quotations(error_of(made)),
    "told": lambda made: text_scrub.told(error_of(made), made),
    "event": lambda made: Scrubber().event({"message": made, "extra": {"x": made}}, {}),
    "breadcrumb": lambda made: Scrubber().breadcrumb({"message": made, "data": {"x": made}}, {}),
    "explained": lambda made: outage_errors.is_explained(error_of(made), ["h:27017"]),
    "reason": lambda made: reasons.reason(error_of(made)),
    "selection": lambda made: reasons.reason(error_of(made, errors.ServerSelectionTimeoutError)),
    "refused": lambda made: reasons.reason(errors.OperationFailure(made, 18)),
    "classify": lambda made: classify.classify(error_of(made)),
    "denied": denials.operation,
    "redact": redact.redact_uri,
    "value": redact.redact_value,
    "shorten": lambda made: (text.shorten(made, 1000), text.shorten(made, 1000, keep_end=True)),
    "bytes": lambda made: text.shorten_bytes(made, 1000),
    "slug": entries.slug_of,
    "secret": lambda made: list(search.found(made, {"x": {"secret", "a"}})),
    "login": uris.has_login,
    "redis": lambda made: redis_errors.code(Exception(made)),
    "line": problems.in_one_line,
    "types": lambda made: re.split(columns.BETWEEN, made),
}
"""All that looks for something in a text that somebody else may have written."""


def texts(token: str, size: int, ends: Sequence[tuple[str, str]]) -> Iterator[str]:
    for before, after in ends:
        yield before + token * (size // len(token)) + after


def seconds(look: Callable[[str], Any], made: str) -> float:
    began = time.process_time()
    look(made)
    return time.process_time() - began


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", LOOKS)
def test_a_text_four_times_as_long_takes_four_times_as_long(name: str) -> None:
    look = LOOKS[name]
    for token, (small, large, ends) in product(TOKENS, SIZES):
        for short, long in zip(texts(token, small, ends), texts(token, large, ends), strict=True):
            slow = seconds(look, long)
            if slow > SLOW_SECONDS:
                quick = min(seconds(look, short) for _ in range(3))
                slow = min(slow, seconds(look, long))
                assert slow <= MOST_TIMES * max(quick, SLOW_SECONDS / 4), (token, quick, slow)


def test_the_trap_notices_what_it_is_for() -> None:
    """The test above would otherwise pass for a trap that is broken."""
    cubic = re.compile(r"([\w-]*(?:pwd|token)[\w-]*)(['\"]?\s*[=:]\s*)[^\s]+")
    assert seconds(cubic.search, "pwd" * 160) > MOST_TIMES * max(1e-6, seconds(cubic.search, "pwd" * 40))


def bulk(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The event of a bulk write of which so many were refused, in a program that says a lot."""
    refused = [
        {
            "index": n,
            "code": 11_000,
            "errmsg": f"E11000 x {n}",
            "op": {"_id": f"id-{n}", "mail": f"c{n}@e.org"},
        }
        for n in range(number)
    ]
    error = errors.BulkWriteError({"writeErrors": refused, "nInserted": 0})
    said = [{"message": f"order {n} of id-{n} is done", "data": {"a": "b" * 50}} for n in range(200)]
    return {"breadcrumbs": {"values": said}}, {"exc_info": (type(error), error, None)}


def test_what_an_error_quotes_is_looked_for_by_its_beginning() -> None:
    """Each of thousands of quotations was looked for in each of hundreds of texts."""

    def took(number: int) -> float:
        event, hint = bulk(number)
        began = time.process_time()
        kept = Scrubber().event(event, hint)["breadcrumbs"]["values"]
        assert kept[7]["message"] == "order 7 of [withheld] is done"
        return time.process_time() - began

    quick = min(took(500) for _ in range(3))
    assert took(2000) <= MOST_TIMES * max(quick, SLOW_SECONDS)
    assert took(2000) < 1.0


@pytest.mark.parametrize("word", ["pwd", "password", "pwd-", "token_", "secret.", "pwd: "])
def test_a_text_of_sensitive_words_is_scrubbed_at_once(word: str) -> None:
    """It kept a worker's main process for a minute, with the interpreter's lock."""
    for number in (500, 700, 100_000):
        assert seconds(text_scrub.clean, word * number) < 0.5
        assert seconds(text_scrub.clean, word * number + "=x") < 0.5


@pytest.mark.parametrize(
    ("said", "hidden"),
    [
        ("password=hunter2 next", "password=[withheld] next"),
        ("my-api_key : 'abc'", "my-api_key : '[withheld]'"),
        ('{"x": 1} token="abc"', '{…} token="[withheld]"'),
        ("Authorization: Bearer abc.def", "Authorization: [withheld]"),
        ("a=password=b", "a=password=[withheld]"),
        ("db_passwd_old=x&y=z", "db_passwd_old=[withheld]&y=z"),
        ("pwd pwd=x", "pwd pwd=[withheld]"),
        ("passport=7", "passport=7"),
    ],
)
def test_what_is_assigned_to_a_sensitive_name_goes(said: str, hidden: str) -> None:
    assert text_scrub.clean(said) == hidden


def test_each_server_of_a_selection_is_told() -> None:
    servers = (
        "<ServerDescription ('a', 1) server_type: Unknown, rtt: None, error=AutoReconnect('a:1: off')>",
        """<ServerDescription ('b', 2) server_type: Unknown, rtt: None, error=AutoReconnect("b:2: it's")>""",
    )
    said = (
        f"No servers found yet, Topology Description: <TopologyDescription servers: [{', '.join(servers)}]>"
    )
    found = reasons.reason(errors.ServerSelectionTimeoutError(said))
    assert found == "a:1: off; b:2: it's"


def test_every_pattern_of_the_project_is_among_what_is_timed_or_reads_what_is_its_own() -> None:
    """A new file with a pattern is to be looked at: does it meet a text of somebody else's?"""
    folders = ("worker", "tasks", "ops")
    found = {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "re.compile(" in path.read_text() and not {"local", "benchmarks"} & set(path.parts)
    }
    assert found - TIMED - OWN == set()
    for path in TIMED:
        import_module(path.removesuffix(".py").replace("/", "."))


TIMED = {
    "ops/bundle/search.py",
    "ops/loading/columns.py",
    "ops/problems.py",
    "worker/process/denials.py",
    "worker/mongo/classify.py",
    "worker/mongo/reasons.py",
    "worker/settings/redact.py",
    "worker/store/redis_errors.py",
    "worker/sentry/outage_errors.py",
    "worker/sentry/text_scrub.py",
    "worker/text.py",
    "worker/settings/uris.py",
}

OWN = {
    "ops/doctor/checks/refused.py",  # a sentence of ours, in a report of bounded length
    "ops/doctor/checks/strain.py",  # three words in a reason of at most 120 characters
    "ops/drills/pools.py",  # options of a command, by fullmatch
    "ops/drills/safety.py",  # a name of a database, by fullmatch
    "ops/history/span.py",  # options of a command, by fullmatch
    "ops/loading/csv_rows.py",  # possessive throughout; its own tests time it
    "ops/loading/json_rows.py",  # likewise
    "worker/integration/config.py",  # two words in a setting
    "ops/text.py",  # as worker/text.py, and of texts of ours
    "worker/board/file.py",  # names of ours, by fullmatch
    "worker/fleet/history.py",  # an id of a stream, by fullmatch
    "worker/server/tls.py",  # words in what `reasons` returned
    "worker/store/records.py",  # single characters
}
