"""A bundle holds what was found and says what was not; and no secret, in whatever way it is written."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.bundle import archive, parts, search
from ops.bundle.parts import Part
from ops.deadline import Deadline
from ops.frame import Answer, Call, command
from ops.group import Group
from ops.problems import NoOutput, UsageProblem
from tests.unit import told_errors
from worker.settings import secret_values
from worker.settings.fields import load_settings

HIDDEN = "s3cr:t/p@ss wörd"

# --- which texts are secrets ---


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mongodb://h/db", set()),
        ("mongodb://h/db?replicaSet=a&w=majority", set()),
        ("mongodb://user:p%40ss@h/db", {"p%40ss", "p@ss", "user:p%40ss@", "user:p@ss@"}),
        ("redis://:pw1234@h/0", {"pw1234", ":pw1234@"}),
        ("mongodb://h/?tlsCertificateKeyFilePassword=abc", {"abc"}),
        ("mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:t0k,A:b", {"t0k", "b"}),
        ("https://publickey@sentry.example.com/1", {"publickey", "publickey@"}),
        ("sentinel://:one123@a;sentinel://:two456@b", {"one123", ":one123@", "two456", ":two456@"}),
        ("plain", {"plain"}),
        ("", set()),
    ],
)
def test_the_secrets_of_a_text(uri: str, expected: set[str]) -> None:
    assert secret_values.of_text(uri) == expected


def test_every_secret_setting_is_looked_for() -> None:
    env = {
        "MONGODB_URI": f"mongodb://u:{quote(HIDDEN, safe='')}@h/db",
        "REDIS_URL": "redis://:redispw@h/0",
        "REDIS_SENTINEL_PASSWORD": "sentinelpw",
        "SENTRY_DSN": "https://dsnkey@sentry.example.com/1",
    }
    found = secret_values.of_settings(load_settings(env, env_file=None))
    assert set(found) == set(env)
    assert HIDDEN in found["MONGODB_URI"]
    assert found["REDIS_SENTINEL_PASSWORD"] == {"sentinelpw"}
    assert secret_values.of_settings(load_settings({}, env_file=None)) == {}


def test_so_are_those_of_celerys_own_configuration() -> None:
    conf = {
        "broker_url": "amqp://guest:rabbit@h//",
        "result_backend": "redis://h/0",
        "broker_transport_options": {"sentinel_kwargs": {"password": "deep"}, "visibility_timeout": 3600},
        "broker_read_url": ["redis://:onepw@a", "redis://:twopw@b"],
        "task_queues": None,
    }
    found = secret_values.of_values(conf)
    assert found["broker_url"] == {"rabbit", "guest:rabbit@"}
    assert found["broker_transport_options"] == {"deep"}
    assert {"onepw", "twopw"} <= found["broker_read_url"]
    assert set(found) == {"broker_url", "broker_transport_options", "broker_read_url"}


# --- searching ---


@pytest.mark.parametrize("secret", [HIDDEN, 'a"quoted\\one', "simple-but-long"])
@pytest.mark.parametrize(
    "write",
    [
        lambda secret: f"password is {secret}.",
        lambda secret: json.dumps({"a": secret}),
        lambda secret: json.dumps({"a": secret}, ensure_ascii=False),
        lambda secret: f"mongodb://u:{quote(secret, safe='')}@h",
    ],
)
def test_a_secret_is_found_however_it_is_written(secret: str, write: Any) -> None:
    assert "the secret of X" in list(search.found(write(secret), {"X": {secret}}))


@given(st.text(min_size=search.SHORT), st.text(), st.text())
def test_a_long_secret_is_found_wherever_it_stands(secret: str, before: str, after: str) -> None:
    found = list(search.found(json.dumps(before + secret + after), {"X": {secret}}))
    assert "the secret of X" in found


def test_a_short_secret_is_a_value_of_its_own_and_no_part_of_a_word() -> None:
    secrets = {"X": {"app"}}
    assert list(search.found('"application app apps"', secrets)) == []
    for text in ('{"a":"app"}', "redis://:app@h", "?password=app&a=1"):
        assert "the secret of X" in list(search.found(text, secrets))


def test_a_password_in_any_uri_is_found_and_what_is_hidden_is_none() -> None:
    assert list(search.found("to redis://u:pw@h/0", {})) == ["a URI with a password"]
    for text in ("redis://u:***@h", "mongodb://***@h/db", "redis://h:6379/0", "https://h/a:b/c@d"):
        assert list(search.found(text, {})) == [], text


def test_what_was_found_is_told_without_the_secret() -> None:
    with pytest.raises(archive.Unsafe) as unsafe:
        archive.refuse_secrets({"a.json": f'"{HIDDEN}"', "b.txt": ""}, {"MONGODB_URI": {HIDDEN}})
    assert unsafe.value.message == "nothing was written: a.json holds the secret of MONGODB_URI"
    assert unsafe.value.exit_code == 70


# --- the file ---


def test_the_archive_has_an_index_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    found = [
        Part("status", {"status.json": '{"a": 1}\n'}, code=2),
        Part("doctor", why="MongoDB does not answer"),
    ]
    told = archive.index(found, deployment="d", at=0.0)
    file = tmp_path / "a.tar.gz"
    before = os.umask(0)
    try:
        archive.write(file, archive.files_of(found, told), deployment="d", at=0.0)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with tarfile.open(file) as opened:
        names = opened.getnames()
        index = json.load(opened.extractfile(names[0]) or io.BytesIO())
    assert names == [f"celery-pymongo-d-19700101T000000Z/{name}" for name in ("index.json", "status.json")]
    assert [(part["name"], part["why_not"], part["exit_code"]) for part in index["parts"]] == [
        ("status", None, 2),
        ("doctor", "MongoDB does not answer", None),
    ]
    assert index["parts"][0]["files"][0]["bytes"] == 9


def test_no_file_is_overwritten_and_none_is_left_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "a.tar.gz"
    there.write_text("mine")
    for refuse in (archive.check, lambda file: archive.write(file, {}, deployment="d", at=0.0)):
        with pytest.raises(NoOutput):
            refuse(there)
    assert there.read_text() == "mine"
    with pytest.raises(UsageProblem):
        archive.check(tmp_path / "a.zip")
    with pytest.raises(NoOutput):
        archive.check(tmp_path / "none" / "a.tgz")

    class Full(io.BytesIO):
        def write(self, _content: Any) -> int:
            raise OSError(28, "No space left on device")

    def full(descriptor: int, _mode: str) -> Full:
        os.close(descriptor)
        return Full()

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(NoOutput, match="No space left"):
        archive.write(tmp_path / "b.tgz", {"a": "b"}, deployment="d", at=0.0)
    assert not (tmp_path / "b.tgz").exists()


# --- its parts ---


@pytest.fixture
def commands() -> click.Group:
    group = click.Group("mongo")

    @command()
    @click.option("--sort", default="name")
    def processes(call: Call, sort: str) -> Answer:
        """Answer."""
        return Answer(
            "processes/1", {"sorted": sort, "verdict": "degraded"}, lambda told: f"by {told['sorted']}"
        )

    @command()
    def status(call: Call) -> Answer:
        """Fail as a server does."""
        raise ConnectionError("redis://u:pw@h")

    @click.group(cls=Group)
    def dead() -> None: ...

    @command(group=dead, name="list")
    def list_letters(call: Call) -> Answer:
        """Answer."""
        return Answer("dead-list/1", {}, lambda _told: "none")

    for each in (processes, status, dead):
        group.add_command(each)
    return group


def call(**app: Any) -> Call:
    return Call(SimpleNamespace(**app), Deadline(5))


def test_a_part_is_a_commands_document_and_what_a_person_reads_of_it(commands: click.Group) -> None:
    part = parts._command(call(), commands, ("processes", "--sort", "age"))()
    assert json.loads(part.files["processes.json"])["sorted"] == "age"
    assert part.files["processes.txt"] == "by age\n"
    assert (part.code, part.why) == (1, None)
    assert parts._command(call(), commands, ("dead", "list"))().files["dead-list.txt"] == "none\n"


def test_what_cannot_be_had_says_why_without_a_servers_words(commands: click.Group) -> None:
    mongo = told_errors.mongo()
    failed = parts._command(call(mongo=mongo), commands, ("status",))()
    assert failed.why == "Redis at h:6379/0 does not answer (ConnectionError)"
    assert failed.files == {}
    missing = parts._command(call(), commands, ("doctor",))()
    assert missing.why == "this version has no such command"


def test_whatever_happens_to_one_part_the_others_are_there(commands: click.Group) -> None:
    found = {part.name: part for part in parts.gather(call(), commands)}
    assert found["processes"].files
    assert found["versions"].files
    # No app worth the name: what asks it fails, and says so.
    assert found["flights"].why == found["settings"].why == "AttributeError"


def test_flight_recorders_of_the_nodes_that_answer_are_there_where_one_is_silent() -> None:
    members = ["w1@h/0", "w2@h/0"]
    processes = [SimpleNamespace(member=m, state="live", report={"circuit": "closed"}) for m in members]

    class View:
        def look(self) -> Any:
            return SimpleNamespace(buried=[])

        def assess(self, _sight: Any) -> Any:
            return SimpleNamespace(processes=processes)

        def ask(self, _command: str, *, nodes: list[str], seconds: float, slot: int) -> dict[str, Any]:
            assert nodes == ["w1@h", "w2@h"]
            threading.Event().wait(seconds)  # for the silent one, as the broadcast does
            return {"w1@h": {"slots": [{"slot": slot, "records": [{"event": "ready"}]}]}}

    app: Any = SimpleNamespace(mongo=SimpleNamespace(view=View()))
    asking = Call(app, Deadline(1.0))
    part = parts._flights(asking)
    assert asking.deadline.left > 0  # for the bundle, whose parts have one deadline
    told = json.loads(part.files["flights.json"])
    assert told["flights"] == {"w1@h/0": [{"event": "ready"}]}
    assert (told["silent"], told["silent_nodes"]) == (["w2@h/0"], ["w2@h"])


def test_a_part_that_came_too_late_says_how_long_it_was_waited_for(commands: click.Group) -> None:
    class View:
        def look(self) -> None:
            threading.Event().wait(5.0)

    late = replace(call(mongo=SimpleNamespace(view=View())), deadline=Deadline(0.2))
    part = next(part for part in parts.gather(late, commands) if part.name == "flights")
    assert part.why is not None
    assert part.why.startswith("no answer within")
    assert part.seconds > 0.1
