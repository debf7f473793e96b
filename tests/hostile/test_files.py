"""Files that somebody else laid where a load keeps its own: none is written over, none is believed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.loading.batches import Refusal
from ops.loading.journal import Counts, Journal, Progress
from ops.loading.rejects import RejectsFile
from ops.loading.rows import Row

PRECIOUS = "precious\n"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
DONE = Progress(5, 100, Counts(read=5, inserted=5))


def journal_in(folder: Path) -> Path:
    """Return where the journal of the load `{}` is, without one there."""
    with Journal(folder, {}) as journal:
        journal.save(DONE)
        (path,) = folder.iterdir()
        journal.remove()
    return path


def hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def symbolic_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def pipe(path: Path, _victim: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, _victim: Path) -> None:
    path.mkdir()


def foreign(path: Path, _victim: Path) -> None:
    path.write_text(json.dumps(DONE.to_dict()))
    os.chown(path, 12345, 12345)


def open_to_all(path: Path, _victim: Path) -> None:
    path.write_text(json.dumps(DONE.to_dict()))
    path.chmod(0o666)


TRAPS = [hard_link, symbolic_link, pipe, folder, pytest.param(foreign, marks=AS_ROOT)]


@pytest.mark.parametrize("trap", [*TRAPS, open_to_all])
def test_a_journal_that_is_not_ones_own_is_neither_read_nor_written(
    trap: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text(PRECIOUS)
    state = tmp_path / "state"
    trap(path := journal_in(state), victim)
    before = os.lstat(path)
    with Journal(state, {}) as journal:
        assert journal.read() == Progress()
        journal.save(DONE)
        journal.remove()
    assert journal.problem is not None
    assert journal.problem.startswith(f"cannot save the progress in {state}: ")
    assert victim.read_text() == PRECIOUS
    after = os.lstat(path)
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
    )


def test_a_folder_that_all_may_write_keeps_no_journal_but_one_of_sticky_names_does(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with Journal(tmp_path, {}) as journal:
        journal.save(DONE)
    assert journal.problem is not None
    assert "all users may write there" in journal.problem
    tmp_path.chmod(0o1777)
    with Journal(tmp_path, {}) as journal:
        journal.save(DONE)
        assert (journal.read(), journal.problem) == (DONE, None)


@pytest.mark.parametrize("trap", TRAPS)
def test_rejected_rows_go_to_no_file_that_is_not_ones_own(
    trap: Callable[[Path, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the journal says of where they are."""
    monkeypatch.chdir(tmp_path)
    victim = tmp_path / "victim"
    victim.write_text(PRECIOUS)
    trap(path := tmp_path / "a.rejects.jsonl", victim)
    rejects = RejectsFile(None, "a")
    rejects.go_on(str(path), 0)
    rejects.write([Refusal(Row(1, 1, 1, b"x"), "why")])
    rejects.close()
    assert rejects.path == tmp_path / "a.rejects.2.jsonl"
    assert victim.read_text() == PRECIOUS


def test_rejected_rows_go_to_no_file_with_other_things_in_it(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text(PRECIOUS)
    rejects = RejectsFile(tmp_path / "new", "a")
    rejects.go_on(str(victim), 0)
    rejects.write([Refusal(Row(1, 1, 1, b"x"), "why")])
    rejects.close()
    assert (rejects.path, victim.read_text()) == (tmp_path / "new", PRECIOUS)


WRONG: list[Any] = [-1, 1.5, True, "5", None, [], {}, 10**400, float("nan")]


@pytest.mark.parametrize("name", ["number", "end", "rejects_size", "rejects", "counts"])
def test_a_journal_with_odd_values_is_no_journal(name: str, tmp_path: Path) -> None:
    with Journal(tmp_path, {}) as journal:
        journal.save(DONE)
        (path,) = tmp_path.iterdir()
        for value in [*WRONG, "a\0b"] if name == "rejects" else WRONG:
            if name == "rejects" and value in ("5", None):
                continue
            path.write_text(json.dumps(DONE.to_dict() | {name: value}))
            assert journal.read() == Progress(), value
            path.write_text(
                json.dumps(DONE.to_dict() | {"counts": {**DONE.to_dict()["counts"], "read": value}})
            )
            assert journal.read() == Progress(), value
        path.write_text("[" * 60_000)
        assert journal.read() == Progress()
        path.write_text(json.dumps(DONE.to_dict() | {"of_a_later_version": 1}))
        assert journal.read() == DONE
