"""The codec of documents in messages, and that nothing shows them."""

import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import (
    Binary,
    Code,
    DatetimeMS,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
    json_util,
)
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from tasks import documents
from tasks.documents import Refused, Rejected, decode, encode
from tasks.hiding import shown

KOMBU: Any = kombu_json
FORMATS = ["json", "bson"]
UUIDS: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)


def reads_short_uuids() -> bool:
    """Say whether this bson decodes a binary of the UUIDs' kind and another length; older ones refuse it."""
    try:
        bson.decode(bson.encode({"a": Binary(b"x", 4)}), UUIDS)
    except InvalidBSON:
        return False
    return True


SUBTYPES = [0, 3, 4, 5, 6, 128] if reads_short_uuids() else [0, 5, 6, 128]

# BSON strings are UTF-8, keys hold no NUL; values with no equality of their own are compared as BSON.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
keys = st.one_of(
    texts.filter(lambda text: "\0" not in text),
    st.sampled_from(["$date", "$oid", "$numberLong", "$ref", "__type__", "__value__", "a.b", ""]),
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(allow_nan=False),
    st.just(float("nan")),
    st.decimals(places=3, min_value=-(10**9), max_value=10**9).map(Decimal128),
    st.sampled_from(
        [Decimal128("NaN"), Decimal128("-0E+3"), MinKey(), MaxKey(), Code("f()"), Timestamp(4, 2)]
    ),
    texts,
    st.binary(max_size=12),
    st.builds(Binary, st.binary(max_size=12), st.sampled_from(SUBTYPES)),
    st.uuids(),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.datetimes(timezones=st.just(UTC)),
    st.datetimes(),
    st.integers(-(2**63), 2**63 - 1).map(DatetimeMS),
    st.builds(Regex, keys, st.sets(st.sampled_from("imsux")).map("".join)),
)
nested = st.recursive(
    values,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(keys, inner, max_size=4).filter(lambda value: "$ref" not in value),
    ),
    max_leaves=8,
)
any_document = st.dictionaries(keys.filter(lambda key: key != "$ref"), nested, max_size=5)


def as_bson(document: Any) -> bytes:
    return bson.encode(document, codec_options=UUIDS)


@pytest.mark.parametrize("format", FORMATS)
@settings(deadline=None, max_examples=60)
@given(batch=st.lists(any_document, max_size=4))
@example(batch=[{"n": 5}, {"n": Int64(5)}, {"n": 5.0}, {"n": -0.0}, {"n": 2**40}])
@example(
    batch=[
        {"when": datetime(1, 1, 1, tzinfo=UTC)},
        {"when": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)},
    ]
)
@example(batch=[{"year 0": DatetimeMS(-62198755200000)}, {"year 10000": DatetimeMS(253402300800000)}])
@example(
    batch=[
        {"id": uuid.UUID(int=7)},
        {"short": Binary(b"x", SUBTYPES[2])},
        {"pattern": re.compile("a.b", re.I)},
    ]
)
@example(batch=[{"__type__": "datetime", "__value__": "2020-01-01"}, {"$date": "x"}, {"a": [{"$oid": "b"}]}])
def test_what_is_decoded_is_byte_for_byte_what_was_encoded(format: Any, batch: Any) -> None:
    text = KOMBU.loads(KOMBU.dumps(encode(batch, format=format)))
    assert [as_bson(document) for document in decode(text)] == [as_bson(document) for document in batch]


@settings(deadline=None, max_examples=50)
@given(st.one_of(st.text(), st.text('{}[]":,$ datebinryoumLgO0123\\'), st.binary().map(repr)))
def test_no_text_whatever_raises_anything_but_a_refusal(text: Any) -> None:
    assert all(isinstance(item, dict | Rejected) for item in decode(text))


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
)
WRAPPERS = [
    *json_util._PARSERS,
    "$options",
    "$scope",
    "$type",
    "base64",
    "subType",
    "pattern",
    "options",
    "t",
    "i",
]
wrapped = st.recursive(
    json_values,
    lambda inner: st.dictionaries(st.sampled_from(WRAPPERS), inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None, max_examples=150)
@given(wrapped)
def test_malformed_extended_json_costs_its_own_document_only(value: Any) -> None:
    text = f"{json.dumps({'bad': value})}\n{encode([{'good': 1}])}"
    bad, good = decode(text)
    assert isinstance(bad, dict | Rejected)
    assert good == {"good": 1}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"a": ', "not JSON at character"),
        ('{"a": {"$date": "secret"}}', "neither Extended JSON nor base64 BSON (ValueError)"),
        ('{"a": {"$oid": "secret"}}', "neither Extended JSON nor base64 BSON (InvalidId)"),
        ('{"$oid": "5f5f5f5f5f5f5f5f5f5f5f5f"}', "not a document"),
        ("secret", "neither Extended JSON nor base64 BSON"),
        ("[1]", "an array: each line is one document"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "(RecursionError)"),
    ],
)
def test_a_bad_line_says_where_and_why_but_not_what(line: Any, reason: Any) -> None:
    good, bad, last = decode(f'{{"n": 1}}\n{line}\n{{"n": 2}}\n')
    assert (good, last) == ({"n": 1}, {"n": 2})
    assert isinstance(bad, Rejected)
    assert bad.index == 1
    assert reason in bad.reason
    assert "secret" not in str(bad.to_dict())


def test_both_modes_of_extended_json_and_blank_lines_are_read() -> None:
    text = '{"n": {"$numberInt": "5"}}\r\n\n  {"n": 5, "d": {"$date": "2020-01-01T00:00:00Z"}}\n'
    assert list(decode(text)) == [{"n": 5}, {"n": 5, "d": datetime(2020, 1, 1, tzinfo=UTC)}]


def test_plain_documents_are_readable_lines_and_those_with_dollar_keys_are_bson() -> None:
    plain, dollar = encode([{"n": 5}, {"a": {"$date": "x"}}]).split("\n")
    assert plain == '{"n":{"$numberInt":"5"}}'
    assert not dollar.startswith("{")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "value", [{"a": {1, "secret"}}, {1: "secret"}, {"a": object()}, {"secret\0": 1, 2: 3}]
)
def test_what_bson_cannot_hold_is_refused_without_being_quoted(format: Any, value: Any) -> None:
    with pytest.raises(Refused, match="document 1 has a value or a key that BSON cannot hold") as caught:
        encode([{}, value], format=format)
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("format", FORMATS)
def test_a_batch_is_refused_above_its_limit_on_both_sides(format: Any) -> None:
    most: list[dict[str, Any]] = [{} for _ in range(documents.BATCH_LIMIT)]
    text = encode(most, format=format)
    assert len(list(decode(text))) == documents.BATCH_LIMIT
    with pytest.raises(Refused, match="more than 10000 documents"):
        encode([*most, {}], format=format)
    with pytest.raises(Refused, match="more than 10000 documents"):
        decode(text + "\n{}")


def test_a_message_is_refused_above_its_limit_before_all_of_it_was_encoded() -> None:
    read = []

    def endless() -> Iterator[dict[str, str]]:
        while True:
            read.append(1)
            yield {"a": "x" * 1024 * 1024}

    with pytest.raises(Refused, match="more than 8388608 characters"):
        encode(endless())
    assert len(read) == 8
    with pytest.raises(Refused, match="more than 8388608 characters"):
        decode(" " * (documents.MESSAGE_LIMIT + 1))


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_the_message_is_at_most_twice_the_encoded_text(text: Any) -> None:
    encoded = encode([{"a": text.encode("utf-8", "replace").decode()}])
    assert encoded.isascii()
    assert len(KOMBU.dumps(encoded)) <= 2 * len(encoded) + 2


def test_only_a_string_is_decoded() -> None:
    with pytest.raises(Refused, match="must be the string that encode"):
        decode([{"a": 1}])  # type: ignore[arg-type]  # the mistake that is tested


def test_shown_arguments_keep_the_names_and_hide_the_documents() -> None:
    assert shown(("sales", "secret"), {"key": "sku"}) == {
        "argsrepr": "('sales', <hidden, 6 long>)",
        "kwargsrepr": "{'key': 'sku'}",
    }
    hidden = shown(("sales",), {"documents": "secret", "pipeline": ["secret"]})
    assert hidden["kwargsrepr"] == "{'documents': <hidden, 6 long>, 'pipeline': <hidden, 1 long>}"
    assert shown(None, None) == {"argsrepr": "()", "kwargsrepr": "{}"}
