from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vvc_nnr import files
from vvc_nnr.errors import InputError
from vvc_nnr.files import AtomicFile, remove_leftovers, temporary_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks")

HOLD = """
import sys
from vvc_nnr.files import AtomicFile, temporary_folder
with AtomicFile(sys.argv[1]) as file, temporary_folder() as folder:
    (folder / "x").write_bytes(b"x")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _looks_again() -> None:
    remove_leftovers.cache_clear()


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of temporary folders."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr(files.tempfile, "tempdir", None)
    return tmp_path / "scratch"


def names(*folders: Path) -> list[str]:
    return [path.name for folder in folders for path in folder.iterdir() if path.name != "scratch"]


def test_a_folder_is_gone_at_the_end_whatever_happens(scratch):
    with temporary_folder() as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b").write_bytes(b"x")
        assert folder.parent == scratch
    with pytest.raises(KeyboardInterrupt), temporary_folder():
        raise KeyboardInterrupt
    assert names(scratch) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(scratch, tmp_path):
    command = [sys.executable, "-c", HOLD, tmp_path / "out"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        held = names(scratch, tmp_path)
        assert len(held) == 2
        for _ in range(2):
            remove_leftovers.cache_clear()
            with AtomicFile(tmp_path / "other"), temporary_folder():
                assert set(held) < set(names(scratch, tmp_path))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert set(held) < set(names(scratch, tmp_path))
    remove_leftovers.cache_clear()
    with AtomicFile(tmp_path / "other"), temporary_folder():
        assert not set(held) & set(names(scratch, tmp_path))
    assert names(scratch, tmp_path) == ["other"]


def test_only_what_is_surely_ours_is_removed(tmp_path, monkeypatch):
    mark = files._machine()
    ours = f".a.{mark}_01234567.part"
    others = [".a.part", f"a.{mark}_01234567.part", f".a.{mark}_0123456.part", ".a.ffffffff_01234567.part"]
    others += [f"{ours}x", "vvc_nnr_x_01234567", f"vvc_nnr_{mark}_abc", ".a.01234567.part"]
    for name in (ours, *others):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / f".b.{mark}_01234567.part").symlink_to(tmp_path / "a")
    others.append(f".b.{mark}_01234567.part")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    remove_leftovers(tmp_path)
    assert set(names(tmp_path)) == {ours, *others}
    monkeypatch.undo()
    remove_leftovers.cache_clear()
    remove_leftovers(tmp_path)
    assert set(names(tmp_path)) == set(others)


def test_without_locks_nothing_is_removed(scratch, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_lock", lambda number, wait=False: False)
    with AtomicFile(tmp_path / "out") as file, temporary_folder():
        file.write(b"abc")
        held = names(scratch, tmp_path)
        monkeypatch.undo()
        remove_leftovers.cache_clear()
        remove_leftovers(tmp_path)
        remove_leftovers(scratch)
        assert names(scratch, tmp_path) == held
    assert (tmp_path / "out").read_bytes() == b"abc"
    assert names(scratch) == []


def test_a_folder_that_another_process_takes_for_a_leftover_is_made_again(scratch, monkeypatch):
    """Between its making and its lock there is a moment in which nobody knows whose it is."""
    taken, open_folder = [], files._open_folder

    def opened(path):
        if not taken:
            taken.append(path)
            path.rmdir()
        return open_folder(path)

    monkeypatch.setattr(files, "_open_folder", opened)
    with temporary_folder() as folder:
        assert folder.is_dir()
        assert [folder] != taken


def test_no_place_for_temporary_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(InputError, match="absent: no temporary folder can be made there"), temporary_folder():
        pass
