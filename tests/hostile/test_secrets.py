"""A secret in a place where it does not belong is refused, and is in nothing that is said about it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from worker.celery import create_app
from worker.errors import SettingsError
from worker.settings import secret_values
from worker.settings.fields import describe, load_settings, settings_warnings
from worker.store import app_redis

SECRET = "-".join(["xK7", "s3cr3t"])
KEY = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----"
PLACES = [
    f"mongodb://u:{SECRET}@h/db",
    f"mongodb+srv://u:{SECRET}@h.example",
    f"mongodb://u:{SECRET},1@h",
    f"redis://:{SECRET}@h:1/0",
    f"rediss://u:{SECRET}@h?password={SECRET}",
    f"redis://h?password={SECRET}",
    f"redis://h?{SECRET}=1",
    f"redis://h?foo={SECRET}&{SECRET}=2",
    f"sentinel://:{SECRET}@a;sentinel://:{SECRET}@b",
    f"https://{SECRET}@sentry.example/1",
    KEY,
]
PIECE = f":{SECRET}@h"
SECRET_VARIABLES = [row.variable for row in describe() if row.file_variable]
VARIABLES = [*(row.variable for row in describe()), *(f"{name}_FILE" for name in SECRET_VARIABLES)]
MASTER = {"REDIS_SENTINEL_MASTER": "main"}


def told(environ: dict[str, str]) -> str:
    """Return all that settings, their warnings and the service's app say; no other error comes of them."""
    refused = refusal(environ)
    if refused:
        return refused
    settings = load_settings(environ, env_file=None)
    return "\n".join([*settings_warnings(environ, env_file=None), repr(settings), repr(settings.redacted())])


def refusal(environ: dict[str, str]) -> str:
    """Return why the service does not take these settings, "" where it does."""
    try:
        app = create_app(load_settings(environ, env_file=None))
        app.connection_for_write().transport  # noqa: B018 - kombu reads the URL here
    except SettingsError as error:
        return str(error)
    return ""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("variable", VARIABLES)
def test_a_uri_with_its_password_or_a_key_is_shown_in_no_variable(variable: str) -> None:
    for value in PLACES:
        assert SECRET not in told(MASTER | {variable: value}), value
    # The end of one may be a name, as of a database: then it is taken, and shown as one.
    assert SECRET not in refusal(MASTER | {variable: PIECE})


@pytest.mark.parametrize("variable", SECRET_VARIABLES)
@pytest.mark.parametrize("value", [SECRET, f"./{SECRET}", f"/{SECRET}", f"/{SECRET}/b", f"no/such/{SECRET}"])
def test_a_password_in_place_of_its_files_name_is_not_shown(variable: str, value: str) -> None:
    said = told(MASTER | {f"{variable}_FILE": value})
    assert SECRET not in said
    assert said == f"{variable}_FILE: what it names cannot be read (no such file or directory)"


def test_a_uri_in_place_of_its_files_name_is_called_so() -> None:
    said = told({"MONGODB_URI_FILE": PLACES[0]})
    assert said == "MONGODB_URI_FILE: it names a file; what it has looks like the value of MONGODB_URI itself"


def test_the_name_of_a_file_in_a_folder_that_is_there_is_shown(tmp_path: Path) -> None:
    said = told({"REDIS_URL_FILE": f"{tmp_path}/gone"})
    assert said == f"REDIS_URL_FILE: '{tmp_path}/gone' cannot be read (no such file or directory)"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"redis://:{SECRET}@h/0?password={SECRET}", "not in both places"),
        (f"rediss://u:{SECRET}@h/0?username=u", "not in both places"),
        ("redis://h?ssl_cert_reqs=none", "does not take its options"),
        ("redis://h?foo=1", "does not take its options"),
        ("redis://h?db=x", "does not take its options"),
        ("redis://h?max_connections=-1", "does not take its options"),
        ("redis://h?password=p", "takes no options but those of TLS"),
        ("redis://h?db=1", "takes no options but those of TLS"),
        ("sentinel://a;sentinel://b?virtual_host=1", "takes no options but those of TLS"),
        ("sentinel://a?ssl_cert_reqs=maybe", "is none, optional or required"),
    ],
)
def test_what_the_transport_does_not_take_is_one_line_and_no_traceback(url: str, reason: str) -> None:
    said = told(MASTER | {"REDIS_URL": url})
    assert said.startswith("REDIS_URL: ")
    assert reason in said
    assert "\n" not in said


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
NEAR = st.sampled_from(
    ["mongodb://", "redis://", "sentinel://", "https://", "@", ":", "/", "?", "&", "=", "h", ","]
)
VALUE = st.one_of(TEXT, st.lists(NEAR | st.just(SECRET), max_size=12).map("".join), st.sampled_from(PLACES))


@pytest.mark.timeout(60)
@given(st.dictionaries(st.sampled_from(VARIABLES), VALUE, max_size=6))
def test_no_settings_end_in_anything_but_settings_or_lines(environ: dict[str, str]) -> None:
    assert all(line.isprintable() for line in refusal(environ).splitlines())


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1, max_size=30))
def test_a_password_is_searched_for_whole_whatever_it_looks_like(password: str) -> None:
    settings = load_settings({"REDIS_SENTINEL_PASSWORD": password}, env_file=None)
    assert password in secret_values.of_settings(settings)["REDIS_SENTINEL_PASSWORD"]
    assert password in secret_values.of_values({"password": password})["password"]


def test_a_sentinels_password_that_looks_like_a_uri_is_hidden() -> None:
    conf: Any = type("Conf", (dict,), {"__getattr__": lambda self, name: self.get(name)})()
    conf["broker_url"] = "sentinel://h"
    conf["broker_transport_options"] = {"sentinel_kwargs": {"password": f"a://{SECRET}"}, "master_name": "m"}
    found = app_redis.effective(load_settings({}, env_file=None), conf)
    assert found is not None
    assert type(found.redis_sentinel_password) is SecretStr
    assert SECRET not in repr(found.redacted())


def test_secret_files_are_small_regular_files(tmp_path: Path) -> None:
    """A pipe would keep the process waiting, a device has no end."""
    pipe, large, binary = (tmp_path / name for name in ("pipe", "large", "binary"))
    os.mkfifo(pipe)
    large.write_bytes(b"x" * 2 * 1024 * 1024)
    binary.write_bytes(b"\xff")
    for path, why in (
        (pipe, "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (large, "more than 1024 KiB"),
        (binary, "not UTF-8 text"),
        (tmp_path, "is a directory"),
    ):
        assert told({"REDIS_URL_FILE": str(path)}) == f"REDIS_URL_FILE: '{path}' cannot be read ({why})"
        with pytest.raises(SettingsError) as caught:
            load_settings({}, env_file=path)
        assert str(caught.value) == f"{path}: cannot be read ({why}); mend it or remove it"
