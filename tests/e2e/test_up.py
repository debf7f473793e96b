"""`ops/up` as a person meets it: in a checkout of its own, started, watched, interrupted and killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pymongo
import pytest

from ops.local import programs
from ops.local.environment import DEVELOPMENT, ensure

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
GONE_SECONDS = 20.0


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files as they are now, without what git ignores, with this checkout's environments."""
    copy = copied(tmp_path_factory.mktemp("checkout"))
    for environment in ROOT.glob(".venv*"):
        (copy / environment.name).symlink_to(environment)
    return copy


@pytest.fixture(scope="module")
def checkout_without_mongod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Likewise, without the environment that has a mongod."""
    copy = copied(tmp_path_factory.mktemp("without"))
    for name in (".venv", ".venv-valkey", ".venv-secantus"):
        (copy / name).symlink_to(ROOT / name)
    return copy


def copied(copy: Path) -> Path:
    """The files as they are now, without what git ignores."""
    git = [shutil.which("git") or "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    # Up to date before it is shared: the copy would else install itself into it.
    ensure(DEVELOPMENT)
    return copy


class Up:
    """One `ops/up`, its output in a file."""

    def __init__(self, checkout: Path, *arguments: str, **environment: str) -> None:
        self.checkout = checkout
        self._file = checkout / f"up-{time.monotonic_ns()}.out"
        named = {"MONGODB_URI": "", "REDIS_URL": "", "OPS_UP_ENVIRONMENT": ""}
        with self._file.open("wb") as output:
            self.process = subprocess.Popen(
                [str(checkout / "ops" / "up"), *arguments],
                cwd=checkout,
                env=os.environ | named | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._file.read_text()

    def wait_for(self, pattern: str, seconds: float = START_SECONDS) -> re.Match[str]:
        found: list[re.Match[str]] = []

        def seen() -> bool:
            found.extend(re.finditer(pattern, self.output, re.M))
            assert found or self.process.poll() is None, self.output
            return bool(found)

        assert eventually(seen, seconds), f"no {pattern!r} in:\n{self.output}"
        return found[0]

    def children(self) -> list[psutil.Process]:
        children: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return children

    def close(self) -> None:
        """Kill what a failed test left behind."""
        with suppress(psutil.NoSuchProcess):
            psutil.Process(self.process.pid).kill()
        self.process.wait(10)


@pytest.fixture
def up(checkout: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*arguments: str, **environment: str) -> Up:
        started.append(Up(checkout, *arguments, **environment))
        return started[-1]

    yield start
    for one in started:
        one.close()
    for process in of_checkout(checkout):  # where a tether failed, too
        with suppress(psutil.NoSuchProcess):
            process.kill()


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def are_gone(processes: list[psutil.Process]) -> bool:
    """A zombie is gone: only its new parent can take its exit code."""
    return not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def of_checkout(checkout: Path) -> list[psutil.Process]:
    """Every process that works for this checkout, whoever its parent is now."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(checkout) or str(checkout) in " ".join(process.cmdline()):
                found.append(process)
    return [process for process in found if not are_gone([process])]


def test_it_loads_the_data_and_a_second_start_is_refused_until_sigterm_ends_all(
    checkout: Path, up: Callable[..., Up]
):
    first = up("--fresh")
    port = int(first.wait_for(r"mongo: .* on 127\.0\.0\.1:(\d+)")[1])
    shown = first.wait_for(
        r" load: (MONGODB_URI=\S+ REDIS_URL=\S+ \.venv/bin/celery -A worker mongo load .+)$"
    )[1]
    first.wait_for(r" load: .* into app\.demo_weather: 1,461 rows read = 1,461 written \(1,461 new\)")
    first.wait_for(r"^\S+ ok · ping [\d.]+ ms · (SecantusDB|MongoDB) ")
    with pymongo.MongoClient[dict[str, object]](f"mongodb://127.0.0.1:{port}/", timeoutMS=10_000) as client:
        hottest = client.app.demo_weather.find_one(sort=[("temp_max", -1)])
    assert hottest is not None
    assert (hottest["temp_max"], str(hottest["date"])) == (35.6, "2014-08-11 00:00:00")
    copy = ["sh", "-c", shown]
    copied = subprocess.run(copy, cwd=checkout, check=True, capture_output=True, text=True, timeout=60)
    assert "1,461 rows read = 0 written (0 new) + 1,461 unchanged" in copied.stdout

    second = up()
    assert second.process.wait(30) == 1
    assert second.output == f"ops/up: it runs already (pid {first.process.pid}); stop it there with Ctrl-C\n"

    children = first.children()
    assert len(children) >= 4
    first.process.terminate()
    assert first.process.wait(60) == 0
    assert are_gone(children)
    assert of_checkout(checkout) == []
    assert first.output.endswith("all is stopped\n")


@pytest.mark.full
def test_where_no_mongod_can_be_had_secantusdb_is_started_and_the_line_says_why(
    checkout_without_mongod: Path,
) -> None:
    if programs.secantus() is None:
        pytest.skip("SecantusDB is not installed: the whole of ops/test does that")
    path = str(ROOT / ".venv" / "bin") + ":/usr/bin:/bin"
    if shutil.which("mongod", path=path):
        pytest.skip("this system has a mongod")
    # As where the wheel is gone from the index.
    without = Up(checkout_without_mongod, "--once", PATH=path, PIP_NO_INDEX="1", UV_NO_INDEX="1")
    try:
        assert without.process.wait(120) == 0, without.output
    finally:
        without.close()
    assert re.search(
        r"^no mongod here \(none on the PATH, and .+\): SecantusDB is started instead, which is not mongod$",
        without.output,
        re.M,
    )
    without.wait_for(r"mongo: SecantusDB 0\.7\.0b3 \(not mongod\) on ")
    without.wait_for(r" load: .* 1,461 rows read = 1,461 written")
    without.wait_for(r"^\S+ ok · ping [\d.]+ ms · SecantusDB ")


@pytest.mark.full
def test_sigkill_leaves_no_process_and_the_next_start_works_with_the_same_data(
    checkout: Path, up: Callable[..., Up]
):
    killed = up()
    killed.wait_for(r" load: .* 1,461 rows read = ")
    children = killed.children()
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait(10)
    assert eventually(lambda: are_gone(children), GONE_SECONDS)
    assert of_checkout(checkout) == []

    again = up("--once", "--no-data")
    assert again.process.wait(90) == 0, again.output
    again.wait_for(r"^\S+ ok · ping")


@pytest.mark.full
def test_what_dies_is_started_again(up: Callable[..., Up]):
    running = up("--no-data")
    for name in ("redis", "mongo", "beat", "worker"):
        pid = int(running.wait_for(rf"{name}: .*pid (\d+)")[1])
        os.kill(pid, signal.SIGKILL)
        running.wait_for(rf"{name} was killed by SIGKILL, starting it again in 0\.5 s")
        running.wait_for(rf"{name} started again \(pid \d+\)")
    running.wait_for(r"worker started again[^\0]* ok · ping")
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0, running.output


@pytest.mark.full
def test_a_second_interrupt_hurries_the_end(checkout: Path, up: Callable[..., Up]):
    running = up("--no-data")
    running.wait_for(r" ok · ping")
    running.process.send_signal(signal.SIGINT)
    running.wait_for("stopping")
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(15) == 0, running.output
    assert of_checkout(checkout) == []


@pytest.mark.parametrize(
    "awaited",
    [
        "starting redis",
        "pid",
        *(pytest.param(name, marks=pytest.mark.full) for name in ("starting mongo", "starting worker")),
    ],
)
def test_an_interrupt_while_it_starts_leaves_nothing(awaited: str, checkout: Path, up: Callable[..., Up]):
    starting = up()
    starting.wait_for(awaited)
    starting.process.send_signal(signal.SIGINT)
    assert starting.process.wait(60) == 0, starting.output
    assert "Traceback" not in starting.output
    assert of_checkout(checkout) == []


def test_an_occupied_port_is_one_clear_line(up: Callable[..., Up]):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = up("--redis-port", str(port))
        assert refused.process.wait(60) == 1
    assert f"ops/up: redis: port {port} on 127.0.0.1 is used by another program\n" in refused.output
    assert "Traceback" not in refused.output


def test_a_wrong_setting_is_said_before_anything_starts(up: Callable[..., Up]):
    refused = up(MONGODB_URI="postgres://elsewhere")
    assert refused.process.wait(60) == os.EX_CONFIG
    assert refused.output.startswith("ops/up: MONGODB_URI: ")
    assert "starting" not in refused.output


@pytest.mark.parametrize("name", ["MONGODB_URI", "REDIS_URL"])
def test_a_server_that_the_settings_name_and_that_is_not_there_is_one_clear_line(
    up: Callable[..., Up], name: str
):
    address = {
        "MONGODB_URI": "mongodb://someone:secret@127.0.0.1:1/",
        "REDIS_URL": "redis://:secret@127.0.0.1:1/0",
    }
    refused = up("--once", **{name: address[name]})
    assert refused.process.wait(60) == 1
    (line,) = refused.output.splitlines()
    assert line.startswith(f"ops/up: {name}: ")
    assert "cannot be used: " in line
    assert "refused" in line
    assert "secret" not in line
