from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vvc_nnr.children import run_child

# A program that starts another one, notes both numbers and waits.
FAMILY = ["/bin/sh", "-c", 'sleep 600 & echo $$ $! > "$0.new"; mv "$0.new" "$0"; wait']
PARENT = "import sys; from vvc_nnr.children import run_child; run_child([*sys.argv[2:], sys.argv[1]])"


def is_alive(number: int) -> bool:
    try:
        stat = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def family_in(note: Path) -> list[int]:
    """The numbers of both programs, once they run."""
    for _ in range(2000):
        if note.exists():
            return [int(word) for word in note.read_text().split()]
        time.sleep(0.01)
    raise AssertionError(f"{note} was not written")


def all_gone(numbers: list[int]) -> bool:
    for _ in range(1000):
        if not any(map(is_alive, numbers)):
            return True
        time.sleep(0.01)
    return False


def test_exit_code_and_output():
    done = run_child(["/bin/sh", "-c", "cat; echo told >&2; exit 3"], input=b"given")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"given", b"told\n")
    done = run_child(["/bin/sh", "-c", "echo a; echo b >&2; echo $X; cat"], merge_output=True, environment={"X": "c"})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"a\nb\nc\n", None)


def test_a_program_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        run_child(["/no/such/program"])


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_too_long_ends_the_program_and_what_it_started(tmp_path):
    with pytest.raises(subprocess.TimeoutExpired):
        run_child([*FAMILY, str(tmp_path / "note")], timeout_s=1)
    assert all_gone(family_in(tmp_path / "note"))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_an_interrupt_ends_the_program_and_what_it_started(tmp_path):
    note = tmp_path / "note"

    def interrupt() -> None:
        family_in(note)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs the tests may ignore it
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            run_child([*FAMILY, str(note)])
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert all_gone(family_in(note))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_the_death_of_this_process_ends_the_program_and_what_it_started(tmp_path, number):
    note = tmp_path / "note"
    with subprocess.Popen([sys.executable, "-c", PARENT, note, *FAMILY]) as parent:
        family = family_in(note)
        assert all(map(is_alive, family))
        parent.send_signal(number)
    assert all_gone(family)


def test_nothing_is_left_of_a_program_that_ended(tmp_path):
    """Nor of what it started and did not wait for."""
    done = run_child(["/bin/sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"])
    assert all_gone([int(done.stdout)])
