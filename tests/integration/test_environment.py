"""Environments made from locks: made, adopted, and made again after an installation was cut off."""

from __future__ import annotations

import multiprocessing
import sys
import venv
from pathlib import Path

import pytest

from ops.local import environment as module
from ops.local.environment import RUN, Environment, SetupError, base_python, ensure
from ops.local.locks import FolderLock


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """An environment of a checkout that pins nothing, so that no test needs a network."""
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "none.txt").write_text("")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "STATE", tmp_path / "state")
    return Environment(".venv", ("none",))


def pin(environment: Environment, *lines: str) -> None:
    environment.lock_files[0].write_text("".join(f"{line} \\\n    --hash=sha256:00\n" for line in lines))


def test_a_half_made_environment_is_made_again(empty: Environment, capsys: pytest.CaptureFixture[str]):
    venv.create(empty.folder)
    litter = empty.folder / "litter"
    litter.touch()
    empty.mark.parent.mkdir()
    empty.mark.touch()
    ensure(empty)
    assert not litter.exists()
    assert not empty.mark.exists()
    assert empty.stamp.exists()
    assert ".venv is broken or half made: making it again" in capsys.readouterr().out


def test_an_environment_without_its_python_is_made_again(empty: Environment):
    venv.create(empty.folder)
    empty.python.unlink()
    ensure(empty)
    assert empty.python.exists()


def test_one_made_by_hand_is_adopted_if_it_has_every_pin(empty: Environment):
    venv.create(empty.folder)
    site = next(empty.folder.glob("lib/python*/site-packages"))
    info = site / "some_thing-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some_thing\nVersion: 1.5\n")
    pin(empty, "some-thing==1.5", "elsewhere==2 ; sys_platform == 'win32'")
    ensure(empty)
    assert empty.stamp.read_text().splitlines() == [
        "elsewhere==2;sys_platform == 'win32'",
        "some-thing==1.5;",
    ]


def test_an_installation_that_fails_is_one_sentence_and_is_not_taken_for_done(
    empty: Environment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "/nonexistent")  # no uv
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    venv.create(empty.folder)
    pin(empty, "some-thing==1.5")
    with pytest.raises(SetupError, match=r"could not install into \.venv: .* See .*venv\.log"):
        ensure(empty)
    assert empty.mark.exists()
    assert not empty.stamp.exists()


def test_a_link_to_a_broken_environment_is_never_removed(empty: Environment, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    empty.folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupError, match="is a link to an environment that does not work"):
        ensure(empty)
    assert (tmp_path / "elsewhere").exists()


def _ensure(root: Path) -> None:
    module.ROOT, module.STATE = root, root / "state"
    ensure(Environment(".venv", ("none",)))


def test_two_at_once_make_one_environment(empty: Environment, tmp_path: Path):
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=_ensure, args=(tmp_path,)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert [one.exitcode for one in both] == [0, 0]
    assert empty.stamp.exists()


def test_a_lock_is_held_by_one_and_says_by_whom(tmp_path: Path):
    with FolderLock(tmp_path / "lock") as one, FolderLock(tmp_path / "lock") as two:
        assert one.acquire()
        assert not two.acquire()
        assert two.holder().isdigit()
        one.release()
        assert two.acquire()


def test_every_lock_of_the_repository_can_be_read():
    pins = RUN.pins()
    assert any(one.startswith("pymongo==4.") for one in pins)
    assert len(pins) > 25


def test_without_a_python_old_enough_the_sentence_says_what_to_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    with pytest.raises(SetupError, match=r"needs Python 3\.11 to 3\.13: install one, or a mongod, or set"):
        base_python((3, 13))
