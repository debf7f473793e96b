"""What `ops/up` reads, decides and says, without anything running."""

import argparse
import re
import sys
from pathlib import Path

import pytest

from ops.local import child, demo, named
from ops.local.environment import ROOT
from ops.local.gate import steps
from ops.local.health import PATIENCE_SECONDS, Answer, describe
from ops.local.screen import QUIET_SECONDS, Screen
from ops.local.up import parse

REPORT = {
    "verdict": "ok",
    "latency_ms": 1.234,
    "reasons": [],
    "server": "MongoDB 8.0.4",
    "topology": {"type": "ReplicaSetWithPrimary"},
    "node": "demo@here",
    "pid": 17,
}


def test_defaults_are_those_of_a_laptop():
    assert parse([]) == argparse.Namespace(
        fresh=False,
        once=False,
        no_data=False,
        concurrency=2,
        pool="prefork",
        mongo_port=None,
        redis_port=None,
    )


@pytest.mark.parametrize(
    "arguments",
    [["--concurrency", "0"], ["--mongo-port", "x"], ["--redis-port", "65536"], ["--pool", "eventlet"]],
)
def test_a_wrong_argument_ends_with_2_and_names_it(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert f"argument {arguments[0]}: " in capsys.readouterr().err


def test_quick_means_lint_types_and_the_unit_tests():
    quick = steps(quick=True, pytest=[])
    assert [step.name for step in quick] == ["lint", "format", "types", "unit tests"]
    assert quick[-1].module[-2:] == ["tests/unit", "tests/hostile"]


def test_the_whole_gate_adds_the_tests_with_servers_and_the_lowest_versions():
    whole = steps(quick=False, pytest=[])
    assert whole[:4] == steps(quick=True, pytest=[])
    assert [step.environment.name for step in whole[4:]] == [".venv", ".venv-lowest"]


def test_the_full_gate_runs_what_takes_long_and_every_fault():
    whole, full = steps(), steps(full=True)
    assert [step.name for step in full] == [
        *(step.name for step in whole),
        "tests beside other people's packages",
        "every fault on every pool",
        "every fault on three members",
        "mutants of the rules that decide",
    ]
    assert full[-3].module == ["tests.faults", "faults", "--page", "docs/faults.md"]
    assert full[-2].module == [*full[-3].module, "--members", "3"]
    assert [step.module[-2:] for step in whole if step.has_second_run] == [["-m", "not full"]]
    assert not any("not full" in step.module for step in full)


def test_arguments_for_pytest_run_pytest_alone():
    assert [step.module for step in steps(quick=False, pytest=["-k", "outage"])] == [
        ["pytest", "-k", "outage"]
    ]
    assert [step.module for step in steps(quick=True, pytest=["-x"])] == [
        ["pytest", "tests/unit", "tests/hostile", "-x"]
    ]


def test_a_good_answer_says_verdict_latency_server_topology_and_process():
    kind, line = describe(Answer(REPORT, at=10.0), away="", now=11.0)
    assert kind == "ok"
    assert line == "ok · ping 1.2 ms · MongoDB 8.0.4 · ReplicaSetWithPrimary · demo@here pid 17"


def test_a_bad_answer_says_why():
    report = REPORT | {"verdict": "down", "latency_ms": None, "reasons": ["outage: refused"]}
    assert describe(Answer(report, at=10.0), away="", now=11.0)[1].startswith("down · outage: refused · ")


def test_an_old_answer_tells_nothing():
    kind, line = describe(Answer(REPORT, at=10.0), away="", now=10.1 + PATIENCE_SECONDS)
    assert kind == "silent"
    assert line == "unknown · no answer to a health check for 6 s"


def test_what_is_away_comes_before_any_answer():
    kind, line = describe(Answer(REPORT, at=10.0), away="redis", now=10.0)
    assert (kind, line) == ("away: redis", "down · away and being started again: redis")


def test_without_a_terminal_only_news_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    screen = Screen(on_closed=pytest.fail)
    for step, kind, line in (
        (0.0, "ok", "ok 1 ms"),
        (1.0, "ok", "ok 2 ms"),
        (1.0, "down", "down"),
        (QUIET_SECONDS, "down", "down"),
        (0.0, "ok", "ok 3 ms"),
        (QUIET_SECONDS, "ok", "ok 4 ms"),
    ):
        now[0] += step
        screen.health(kind, line)
    printed = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert printed == ["ok 1 ms", "down", "ok 3 ms", "ok 4 ms"]


def test_a_reader_that_has_gone_asks_for_the_end_once(monkeypatch: pytest.MonkeyPatch):
    asked = []
    screen = Screen(on_closed=lambda: asked.append(1))

    def broken(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(screen._console, "print", broken)
    screen.say("one")
    screen.say("two")
    assert asked == [1]


def test_the_data_set_is_loaded_by_the_command_that_a_person_would_type():
    celery, *words = demo.command(ROOT / ".local" / "loads")
    assert Path(celery).name == "celery"
    assert words[:4] == ["-A", "worker", "mongo", "load"]
    assert (ROOT / words[4]).read_text().startswith("date,precipitation,")
    assert words[5:] == ["--into", "demo_weather", "--key", "date", "--state", ".local/loads"]


def test_a_port_that_is_asked_for_in_vain_is_said():
    uri = "redis://:secret@there:6379/0"
    plain = "redis: redis://***@there:6379/0, as the settings name it"
    assert named.describe("redis", uri, port=None) == plain
    assert named.describe("redis", uri, port=6380) == f"{plain}; --redis-port is not used"


def test_the_line_of_health_leaves_room_for_the_terminals_echo_of_an_interrupt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "40"), ("LINES", "30")):
        monkeypatch.setenv(name, value)
    with Screen(on_closed=pytest.fail) as screen:
        screen.health("ok", "ok · " + "x" * 100)
        drawn = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", capsys.readouterr().out).splitlines()[-1]
    assert drawn.endswith("xx…")
    assert len(drawn.strip("\r")) == 40 - len("^C^C")


def test_what_starts_installers_outlives_the_environment_that_is_made_again():
    """`ops/test` is run by the very Python of an environment that may be half made."""
    assert sys.prefix != sys.base_prefix, "tests run in an environment"
    assert not Path(child._PYTHON).is_relative_to(sys.prefix)
