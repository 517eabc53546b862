"""Signals that end a command, at awkward moments."""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from vvc_nnr.experiments.cli.main import SIGNALS, Interrupted, run_interruptible
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.y4m import Y4mWriter

ENTRY = Path(__file__).resolve().parents[2] / "_vvc_nnr_command.py"
FOR_EVER_S = 60


@pytest.fixture(autouse=True)
def _heeded_signals():
    """As a terminal starts a command; what runs the tests may ignore some."""
    before = {name: signal.signal(getattr(signal, name), signal.default_int_handler) for name in SIGNALS}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


def send(name: str) -> None:
    os.kill(os.getpid(), getattr(signal, name))


@pytest.mark.skipif(sys.platform == "win32", reason="folders in use cannot be removed")
def test_a_current_folder_that_was_removed(tmp_path):
    script = 'mkdir gone; cd gone; rmdir ../gone; exec "$0" -c "$2" "$1" inspect inloop-lop'
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import _vvc_nnr_command as c; sys.exit(c.main())"
    command = ["sh", "-c", script, sys.executable, str(ENTRY.parent), code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "vvc-nnr: error: the current folder is not there (No such file or directory); change to another\n"
    )


@pytest.mark.parametrize("name", SIGNALS)
def test_each_signal_is_an_exception_with_its_exit_code(name):
    before = [signal.getsignal(getattr(signal, each)) for each in (*SIGNALS, "SIGALRM")]

    def work() -> None:
        send(name)
        time.sleep(FOR_EVER_S)

    with pytest.raises(Interrupted) as caught:
        run_interruptible(work)
    assert caught.value.exit_code == 128 + getattr(signal, name)
    assert str(caught.value).startswith("interrupted;" if name == "SIGINT" else f"ended by {name};")
    assert [signal.getsignal(getattr(signal, each)) for each in (*SIGNALS, "SIGALRM")] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_without_a_signal_nothing_changes():
    before = [signal.getsignal(getattr(signal, name)) for name in SIGNALS]
    assert run_interruptible(lambda: 5) == 5
    with pytest.raises(ValueError, match="x"):
        run_interruptible(lambda: int("x"))
    assert [signal.getsignal(getattr(signal, name)) for name in SIGNALS] == before


def test_a_signal_that_is_ignored_stays_so():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert run_interruptible(lambda: send("SIGHUP")) is None


def test_a_thread_that_gets_no_signals_just_works():
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(run_interruptible(lambda: 5)))
    thread.start()
    thread.join()
    assert found == [5]


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_exception_that_python_swallows_comes_again_and_is_told_once(monkeypatch, number):
    class Deaf:
        def __del__(self) -> None:
            send(number)
            time.sleep(FOR_EVER_S)

    def work() -> None:
        deaf = Deaf()
        del deaf
        time.sleep(FOR_EVER_S)

    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    before = sys.unraisablehook
    with pytest.raises(Interrupted):
        run_interruptible(work)
    assert not told
    assert sys.unraisablehook == before


def test_an_exception_that_code_swallows_comes_again():
    class Deaf:
        def __del__(self) -> None:
            try:
                send("SIGTERM")
                time.sleep(FOR_EVER_S)
            except BaseException:
                swallowed.append(True)

    def work() -> None:
        deaf = Deaf()
        del deaf
        assert swallowed
        time.sleep(FOR_EVER_S)

    swallowed: list[bool] = []
    with pytest.raises(Interrupted):
        run_interruptible(work)


def test_an_exception_that_code_turns_into_another_one_is_itself_again():
    def work() -> None:
        try:
            send("SIGTERM")
            time.sleep(FOR_EVER_S)
        except BaseException as error:
            raise ImportError("initialization failed") from error

    with pytest.raises(Interrupted):
        run_interruptible(work)


def test_a_second_signal_does_not_disturb_the_tidying():
    tidied: list[str] = []

    def work() -> None:
        try:
            send("SIGTERM")
            time.sleep(FOR_EVER_S)
        finally:
            send("SIGINT")
            time.sleep(0.2)
            tidied.append("all")

    with pytest.raises(Interrupted, match="SIGTERM"):
        run_interruptible(work)
    assert tidied == ["all"]


def test_a_module_is_imported_to_its_end(tmp_path, monkeypatch):
    (tmp_path / "heavy_module.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(0.2)\nis_whole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def work() -> None:
        importlib.import_module("heavy_module")
        time.sleep(FOR_EVER_S)

    with pytest.raises(Interrupted):
        run_interruptible(work)
    assert sys.modules.pop("heavy_module").is_whole


@pytest.mark.parametrize("place", ["__enter__", "__exit__"])
def test_a_with_block_begins_and_ends_whole(place):
    class Folder:
        n_made = n_removed = 0

        def __enter__(self) -> None:
            self.n_made += 1
            self._be_slow("__enter__")

        def __exit__(self, *_: object) -> None:
            self._be_slow("__exit__")
            self.n_removed += 1

        def _be_slow(self, here: str) -> None:
            if here == place:
                send("SIGTERM")
                time.sleep(0.1)

    folder = Folder()

    def work() -> None:
        with folder:
            time.sleep(FOR_EVER_S if place == "__enter__" else 0)
        time.sleep(FOR_EVER_S)

    with pytest.raises(Interrupted):
        run_interruptible(work)
    assert (folder.n_made, folder.n_removed) == (1, 1)


def test_a_with_block_that_never_begins_is_left_all_the_same(tmp_path):
    """A FIFO without a reader."""

    class Waiting:
        def __enter__(self) -> None:
            send("SIGTERM")
            time.sleep(FOR_EVER_S)

        def __exit__(self, *_: object) -> None: ...

    def work() -> None:
        with Waiting():
            pass

    with pytest.raises(Interrupted):
        run_interruptible(work)


def test_the_command_and_its_start_know_the_same_signals():
    assert runpy.run_path(str(ENTRY))["SIGNALS"] == SIGNALS


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_while_modules_are_imported_is_one_line(tmp_path, name):
    (tmp_path / "vvc_nnr").mkdir()
    (tmp_path / "vvc_nnr" / "__init__.py").write_text(
        f"import time\nprint('here', flush=True)\ntime.sleep({FOR_EVER_S})\n"
    )
    code = "import runpy, sys; sys.path.insert(0, sys.argv[2]); runpy.run_path(sys.argv[1])['main']()"
    command = [sys.executable, "-c", code, ENTRY, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(getattr(signal, name))
        error = process.communicate()[1]
    what = "interrupted" if name == "SIGINT" else f"ended by {name}"
    assert (process.returncode, error) == (128 + getattr(signal, name), f"vvc-nnr: error: {what}\n")


AFTER_AN_EXPERIMENT = """
import os, signal, sys
from vvc_nnr.experiments.cli.main import main

sequence, out = sys.argv[1:]
words = ["--sequences", sequence, "--qps", "37", "--out", out, "--cache", out + "/cache", "--backend", "openvino"]
assert main(["experiment", "tool-by-tool", *words]) == 0
signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_signal_after_an_experiment_is_heard(tmp_path):
    """OpenVINO's plugin hands out stacks for signal handlers; one that was taken back ended the process."""
    pytest.importorskip("openvino")
    planes = tuple(np.full(shape, 99, np.uint8) for shape in ((48, 64), (24, 32), (24, 32)))
    with Y4mWriter(tmp_path / "a.y4m", Frame(planes, 8, "420").format(30)) as writer:
        writer.write(Frame(planes, 8, "420"))
    command = [sys.executable, "-c", AFTER_AN_EXPERIMENT, tmp_path / "a.y4m", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["heard"]), done.stderr
