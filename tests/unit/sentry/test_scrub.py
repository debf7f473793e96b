"""No credential, filter, document or command body leaves the process, wherever it was planted."""

import logging
from typing import Any

import pytest
import sentry_sdk
from hypothesis import given
from hypothesis import strategies as st
from pymongo import errors
from sentry_sdk.integrations.logging import LoggingIntegration

from tests.unit.sentry_events import driver_classes, make, sdk
from worker.sentry import hooks
from worker.sentry.scrub import Scrubber

SECRET = "".join(["zq7", "-planted-", "ünïque"])
"""Not one literal: frames quote their source."""


class Open:
    """A desk that lets everything pass."""

    def look(self, event: Any, _hint: Any) -> Any:
        return event

    def hold(self, event: Any, _hint: Any) -> Any:
        return event


def attached(*secrets: str) -> Scrubber:
    scrubber = Scrubber()
    scrubber.learn(secrets)
    hooks.attach(sentry_sdk.get_client(), scrubber, Open())
    return scrubber


def fail(error: BaseException) -> None:
    document = {"_id": 1, "name": SECRET}  # a local variable, as tasks have them
    try:
        raise error
    except type(error) as caught:
        sentry_sdk.capture_exception(caught)
    del document


@pytest.mark.parametrize("kind", driver_classes(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_the_text_of_no_error_of_the_driver_is_sent(kind: type[Exception]) -> None:
    with sdk(include_local_variables=True, send_default_pii=True) as kept:
        attached()
        error = make(kind, SECRET)
        assert SECRET in f"{error} {vars(error)}"  # or nothing was planted
        fail(error)
    (event,) = kept.events
    assert event["exception"]["values"][-1]["type"] == kind.__name__
    assert "withheld" in event["exception"]["values"][-1]["value"]
    assert SECRET not in kept.text


@pytest.mark.parametrize("kind", driver_classes(), ids=lambda kind: kind.__name__)
def test_nor_is_what_an_error_of_the_app_quotes_of_it(kind: type[Exception]) -> None:
    """Whether it was raised from it, while it was handled, or within a group."""
    with sdk() as kept:
        attached()
        planted = make(kind, SECRET)
        try:
            try:
                raise planted
            except kind as error:
                raise ValueError(f"order 7 failed: {error}") from error
        except ValueError as error:
            sentry_sdk.capture_exception(error)
        try:
            try:
                raise planted
            except kind as error:
                raise KeyError(str(error)[:60]) from None
        except KeyError as error:
            sentry_sdk.capture_exception(error)
        fail(ExceptionGroup("several", [RuntimeError(repr(planted)), planted]))
        fail(RuntimeError(f"failed: {planted!r}"))
    assert len(kept.events) == 4
    assert SECRET not in kept.text
    assert "order 7 failed" in kept.text


def test_a_class_that_an_app_derives_is_one_of_the_drivers() -> None:
    class OrderError(errors.PyMongoError):
        """As an app has them."""

    with sdk() as kept:
        attached()
        fail(OrderError(f"no order {SECRET}"))
    assert SECRET not in kept.text


def test_what_the_driver_says_of_the_connection_is_told() -> None:
    with sdk() as kept:
        attached()
        fail(errors.AutoReconnect("db.internal:27017: [Errno 111] Connection refused"))
        fail(errors.DuplicateKeyError("E11000 duplicate key error dup key: { x: 1 }", 11000, {}))
    refused, duplicate = [event["exception"]["values"][-1]["value"] for event in kept.events]
    assert refused.startswith("Connection refused; class outage; ")
    assert duplicate.startswith("duplicate key error; code 11000; class data; ")


@pytest.mark.parametrize(
    "text",
    [
        f"connecting to mongodb://app:{SECRET}@db1,db2/shop?replicaSet=rs",
        f"connecting to mongodb+srv://{SECRET}@db1/shop",
        f"mongodb://app:{SECRET}/with a blank@host and more",
        f"redis://:{SECRET}@cache:6379/0 is away",
        f"see postgres://u:{SECRET}@pg/x",
        f"options mongodb://db/?authMechanismProperties=AWS_SESSION_TOKEN:{SECRET}",
        f"inserting {{'_id': 1, 'name': '{SECRET}'}} failed",
        f'the filter was {{"user": {{"$in": ["{SECRET}"]}}}}',
        f"dup key: {{ email: {SECRET} }}",
        f"SON([('find', 'users'), ('filter', '{SECRET}')])",
        f"DuplicateKeyError('it is {SECRET}')",
        f"Traceback…\npymongo.errors.WriteError: {SECRET}\nmore {SECRET}",
        f"not primary, full error: {{'errmsg': '{SECRET}'}}",
        f"password={SECRET}",
        f"api_key: '{SECRET}'",
        f"Authorization: Bearer {SECRET}",
        f"cut off {{'name': '{SECRET}",
    ],
)
def test_a_text_of_the_apps_own_loses_what_looks_like_a_secret(text: str) -> None:
    with sdk(integrations=[LoggingIntegration()]) as kept:
        attached()
        sentry_sdk.add_breadcrumb(message=text, data={"x": text})
        sentry_sdk.set_extra("argv", ["celery", text])
        sentry_sdk.set_context("mine", {"text": text, "deep": [{"er": text}]})
        sentry_sdk.set_tag("text", text)
        fail(RuntimeError(text))
        logging.getLogger("shop").error(text)  # noqa: G004,RUF100 - the template is what is tested
        sentry_sdk.capture_message(text)
    assert len(kept.events) == 3
    assert SECRET not in kept.text


def test_harmless_texts_stay_as_they_are() -> None:
    lines = [
        "failed with 1 document",
        "took 3.1 s (p99 4)",
        "https://docs.example/x?page=2",
        "{} is {0}",
        "a@b",
    ]
    with sdk() as kept:
        attached()
        for line in lines:
            sentry_sdk.capture_message(line)
    assert [event["message"] for event in kept.events] == lines


@pytest.mark.parametrize(
    "arguments",
    [
        ("saving %s failed", {"_id": 1, "name": SECRET}),
        ("saving %s failed", [SECRET]),
        ("saving failed: %s", make(errors.DuplicateKeyError, SECRET)),
        ("saving failed: %r of %s", make(errors.WriteError, SECRET), 3),
        ("by %(document)s", {"document": {"a": SECRET}}),
    ],
)
def test_parameters_of_the_log_that_are_documents_or_errors_are_not_quoted(arguments: Any) -> None:
    with sdk(integrations=[LoggingIntegration()]) as kept:
        attached()
        logging.getLogger("shop").warning(*arguments)
        logging.getLogger("shop").error(*arguments, extra={"data": {"args": SECRET, "kwargs": {"x": SECRET}}})
    (event,) = kept.events
    assert event["breadcrumbs"]["values"][0]["message"].startswith(("saving", "by <dict>"))
    assert SECRET not in kept.text


def test_a_credential_of_the_settings_is_found_anywhere() -> None:
    with sdk() as kept:
        attached(SECRET)
        sentry_sdk.add_breadcrumb(message=f"({SECRET})")
        fail(RuntimeError(f"refused {SECRET}."))
    assert "refused [withheld]." in kept.text
    assert SECRET not in kept.text


COMMANDS = [
    ("find", {"find": "users", "filter": {SECRET: SECRET}}),
    ("aggregate", {"aggregate": "users", "pipeline": [{"$project": {"x": SECRET}}]}),
    ("insert", {"insert": "users", "documents": [{SECRET: SECRET}]}),
    ("createUser", {"createUser": SECRET, "pwd": SECRET}),
    ("createIndexes", {"createIndexes": "users", "indexes": [{"partialFilterExpression": {"a": SECRET}}]}),
]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_of_a_command_its_name_and_collection_are_told(name: str, command: dict[str, Any]) -> None:
    """As the SDK's integration of PyMongo tells of it, with the app's leave to send personal data."""
    from sentry_sdk.integrations.pymongo import CommandTracer, PyMongoIntegration

    class Started:
        connection_id = ("db", 27017)
        database_name = "shop"
        operation_id = request_id = 1
        command_name = name

    Started.command = command  # type: ignore[attr-defined] # as the driver's event has it
    options = {"traces_sample_rate": 1.0, "send_default_pii": True}
    with sdk(integrations=[PyMongoIntegration()], **options) as kept:
        attached()
        with sentry_sdk.start_transaction(name="task", op="task"):
            tracer = CommandTracer()
            tracer.started(Started)  # type: ignore[arg-type] # all that it looks at
            tracer.succeeded(Started)  # type: ignore[arg-type] # likewise
            with sentry_sdk.start_span(op="http", name=f"GET https://x:{SECRET}@api/") as span:
                span.set_data("args", [SECRET])
        sentry_sdk.capture_message("after")
    (transaction,), (event,) = kept.transactions, kept.events
    described = "createUser" if name == "createUser" else f"{name} users"
    assert transaction["spans"][0]["description"] == described
    assert event["breadcrumbs"]["values"][0]["message"] == described
    assert SECRET not in kept.text


def test_spans_that_are_streamed_and_logs_that_are_sent_are_scrubbed_too() -> None:
    scrubber = Scrubber()
    data = {"db.system.name": "mongodb", "db.operation.name": "find", "db.collection.name": "users"}
    span = {"name": f"{SECRET}", "attributes": data | {"db.query.text": SECRET}}
    assert SECRET not in str(scrubber.span(span, {}))
    assert span["name"] == "find users"
    log = {"body": f"mongodb://a:{SECRET}@h", "attributes": {"x": f"password={SECRET}", "n": 1}}
    assert SECRET not in str(scrubber.log(log, {}))


def test_an_event_that_cannot_be_scrubbed_is_told_without_anything_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Scrubber, "_event", lambda *_arguments: 1 / 0)
    with sdk() as kept:
        attached()
        fail(RuntimeError(SECRET))
    (event,) = kept.events
    assert event["exception"]["values"] == [{"type": "RuntimeError", "value": "[withheld]"}]
    assert "ZeroDivisionError" in event["message"]
    assert SECRET not in kept.text


# -- the app's own hooks ---------------------------------------------------------------------------


def test_the_apps_own_hooks_are_asked_first_and_what_they_add_is_scrubbed() -> None:
    def before_send(event: Any, _hint: Any) -> Any:
        event.setdefault("extra", {})["own"] = f"mongodb://a:{SECRET}@h"
        return event if event.get("message") != "not this" else None

    def before_breadcrumb(crumb: Any, _hint: Any) -> Any:
        return crumb | {"message": f"own {crumb['message']}"} if crumb["message"] != "nor this" else None

    def before_send_transaction(event: Any, _hint: Any) -> Any:
        return event | {"transaction": "own"}

    own = (before_send, before_breadcrumb, before_send_transaction)
    names = ("before_send", "before_breadcrumb", "before_send_transaction")
    with sdk(traces_sample_rate=1.0, **dict(zip(names, own, strict=True))) as kept:
        attached()
        attached()  # once more changes nothing
        sentry_sdk.capture_message("not this")
        sentry_sdk.add_breadcrumb(message="nor this")
        sentry_sdk.add_breadcrumb(message="this")
        sentry_sdk.capture_message("this")
        with sentry_sdk.start_transaction(name="x"):
            pass
    (event,) = kept.events
    assert [crumb["message"] for crumb in event["breadcrumbs"]["values"]] == ["own this"]
    assert event["extra"]["own"] == "mongodb://***@h"
    assert kept.transactions[0]["transaction"] == "own"
    assert SECRET not in kept.text


def test_a_check_in_goes_as_it_is() -> None:
    from sentry_sdk.crons import capture_checkin

    with sdk() as kept:
        attached()
        capture_checkin("mongo-health-check", status="ok")
    assert kept.check_ins[0]["monitor_slug"] == "mongo-health-check"


# -- whatever comes --------------------------------------------------------------------------------

MARK = "zq7mark"
texts = st.text(alphabet="ab'\"{}()[]:=@/\\ ,\n$.%é", max_size=12)
secrets = st.builds(lambda a, b: f"{a}{MARK}{b}", texts, texts)
values = st.recursive(
    st.one_of(secrets, st.integers(), st.none(), st.binary(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)


@given(st.sampled_from(driver_classes()), secrets, st.booleans(), values)
def test_whatever_a_server_says_stays_here(
    kind: type[Exception], secret: str, wrap: bool, value: Any
) -> None:
    with sdk() as kept:
        attached()
        error = make(kind, secret)
        vars(error)["more"] = {"x": value}  # a server may answer anything
        outer = RuntimeError(f"while saving: {error} {value}")
        outer.__cause__ = error
        fail(outer if wrap else error)
    assert len(kept.events) == 1
    assert MARK not in kept.text


@given(
    st.recursive(
        st.one_of(texts, st.integers(), st.floats(), st.none(), st.booleans()),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
        max_leaves=20,
    ),
    secrets,
    st.sampled_from(["args", "kwargs", "filter", "documents", "password", "X-Api-Key-Token", "pipeline"]),
)
def test_whatever_stands_under_a_name_of_documents_goes(noise: Any, secret: str, name: str) -> None:
    with sdk() as kept:
        attached()
        sentry_sdk.set_context("noise", {"a": noise, "b": [{name: {"x": [secret]}}], name: secret})
        sentry_sdk.capture_message("here")
    assert len(kept.events) == 1
    assert MARK not in kept.text


@given(texts, secrets, texts)
def test_a_uri_loses_its_user_whatever_is_around_it(before: str, secret: str, after: str) -> None:
    """A line's end within a password ends what can be told from the text after it."""
    password = secret.replace("\n", "")
    with sdk() as kept:
        attached()
        sentry_sdk.capture_message(f"{before} mongodb://app:{password}@db/x {after}")
    assert MARK not in kept.text
