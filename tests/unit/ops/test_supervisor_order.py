"""In which order the supervisor starts and stops, with children that are no processes."""

import signal
from pathlib import Path

import pytest

from ops.local.child import Child
from ops.local.servers import ServerError
from ops.local.supervisor import Service, StartError, Supervisor


class Fake(Child):
    """A child that only remembers: `hears` are the signals that end it."""

    def __init__(self, name: str, story: list[str], *, hears: tuple[int, ...] = (signal.SIGTERM,)) -> None:
        self.name = name
        self.story = story
        self.hears = hears
        self.up = False
        self.log = Path(f"{name}.log")

    @property
    def pid(self) -> int:
        return 1

    @property
    def returncode(self) -> int | None:
        return None if self.up else -9

    @property
    def is_running(self) -> bool:
        return self.up

    def start(self) -> None:
        self.story.append(f"{self.name} starts")
        self.up = True

    def signal(self, number: signal.Signals) -> None:
        if number != signal.SIGCONT:
            self.story.append(f"{self.name} {number.name}")
        if number in self.hears:
            self.up = False

    def wait(self, seconds: float) -> bool:
        return not self.up

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.up = False


@pytest.fixture
def story() -> list[str]:
    return []


def test_each_starts_when_the_one_before_is_ready_and_stops_before_it(story: list[str]):
    ready: list[int] = []
    one, two = Fake("one", story), Fake("two", story)
    supervisor = Supervisor(
        [Service(one, one.start, ready=lambda: bool(ready)), Service(two, two.start)], say=lambda _: None
    )
    supervisor.tick()
    supervisor.tick()
    assert story == ["one starts"]
    ready.append(1)
    supervisor.tick()
    supervisor.tick()
    assert supervisor.is_complete
    supervisor.stop(is_hurried=lambda: False)
    assert story == ["one starts", "two starts", "two SIGTERM", "one SIGTERM"]


def test_a_death_is_said_and_the_first_restart_waits_half_a_second(story: list[str]):
    said: list[str] = []
    one = Fake("one", story)
    supervisor = Supervisor([Service(one, one.start)], say=said.append)
    supervisor.tick()
    one.up = False
    supervisor.tick()
    supervisor.tick()
    assert said == ["one was killed by SIGKILL, starting it again in 0.5 s"]
    assert supervisor.away() == "one"
    assert story == ["one starts"]


def test_a_first_start_that_fails_is_an_error(story: list[str]):
    def refuse() -> None:
        raise ServerError("port 1 is taken")

    with pytest.raises(StartError, match="port 1 is taken"):
        Supervisor([Service(Fake("one", story), refuse)], say=lambda _: None).tick()


def test_what_ends_before_it_was_ready_is_an_error(story: list[str]):
    one = Fake("one", story)
    supervisor = Supervisor([Service(one, one.start, ready=lambda: False)], say=lambda _: None)
    supervisor.tick()
    one.up = False
    with pytest.raises(StartError, match=r"one was killed by SIGKILL at its start, see one\.log"):
        supervisor.tick()


def test_one_that_hears_nothing_is_killed_after_its_last_words(story: list[str]):
    deaf = Fake("deaf", story, hears=())
    words = (signal.SIGTERM, signal.SIGQUIT)
    supervisor = Supervisor(
        [Service(deaf, deaf.start, last_words=words, stop_seconds=0.0)], say=lambda _: None
    )
    supervisor.tick()
    supervisor.stop(is_hurried=lambda: False)
    assert story == ["deaf starts", "deaf SIGTERM", "deaf SIGQUIT", "deaf SIGKILL"]


def test_in_a_hurry_only_the_last_word_is_said(story: list[str]):
    one = Fake("one", story, hears=(signal.SIGQUIT,))
    words = (signal.SIGTERM, signal.SIGQUIT)
    supervisor = Supervisor([Service(one, one.start, last_words=words)], say=lambda _: None)
    supervisor.tick()
    supervisor.stop(is_hurried=lambda: True)
    assert story == ["one starts", "one SIGQUIT"]
