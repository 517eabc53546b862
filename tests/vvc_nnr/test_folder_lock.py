"""The lock of a folder: one run at a time, named, and nothing of it left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vvc_nnr import folder_lock
from vvc_nnr.errors import InputError
from vvc_nnr.folder_lock import LOCK, locked_folder

HOLD = """
import sys, time
from pathlib import Path
from vvc_nnr.folder_lock import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["with locks", "without locks"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a file system with locks, and on one without."""
    if request.param == "without locks":

        def refused(number: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, "no locks available")

        monkeypatch.setattr(fcntl, "flock", refused)
    return tmp_path / "results"


def test_one_run_at_a_time_and_nothing_is_left(folder: Path) -> None:
    folder.mkdir()
    for _ in range(2):
        with locked_folder(folder):
            before = (folder / LOCK).read_bytes()
            who = rf"results: another run is writing it \(process {os.getpid()} on {socket.gethostname()} since 2"
            with pytest.raises(InputError, match=who), locked_folder(folder):
                pass
            assert (folder / LOCK).read_bytes() == before
        assert list(folder.iterdir()) == []


def test_a_folder_that_nothing_was_written_to_goes_again(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked_folder(folder / "a" / "b"):
        _ = 1 / 0
    assert not folder.exists()
    with locked_folder(folder / "a" / "b"):
        (folder / "a" / "rows").touch()
    assert [path.name for path in (folder / "a").iterdir()] == ["rows"]


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(InputError, match=f"process {process.pid} on"), locked_folder(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert (tmp_path / LOCK).exists()
    with locked_folder(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / LOCK).read_text()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "holder", ["", "process 1 on another-machine since 2020", "\x00\xff rubbish", "process x on y"]
)
def test_without_locks_a_file_of_another_machine_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: str
) -> None:
    monkeypatch.setattr(folder_lock, "_lock", lambda number: False)
    (tmp_path / LOCK).write_text(holder)
    with pytest.raises(InputError, match=r"if that process is gone, remove .*\.lock"), locked_folder(tmp_path):
        pass
    assert (tmp_path / LOCK).read_text() == holder


def test_without_locks_a_process_of_this_machine_that_is_gone_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_lock, "_lock", lambda number: False)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / LOCK).write_text(f"process {gone.pid} on {socket.gethostname()} since 2020\n")
    with locked_folder(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: cannot be (made|written)"), locked_folder(tmp_path / "file"):
        pass
    with pytest.raises(InputError, match="cannot be made"), locked_folder(tmp_path / "file" / "a"):
        pass
