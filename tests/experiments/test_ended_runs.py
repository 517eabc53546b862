"""Runs that are ended from outside while a program of theirs works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vvc_nnr.experiments.cli.main import main
from vvc_nnr.files import remove_leftovers
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.y4m import Y4mWriter

ENTRY = Path(__file__).resolve().parents[2] / "_vvc_nnr_command.py"
START = "import runpy, sys; entry = sys.argv.pop(1); sys.exit(runpy.run_path(entry)['main']())"
MAX_WAITS = 3000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Pictures that take the slowest preset a while."""
    rng = np.random.default_rng(0)
    shapes = ((384, 512), (192, 256), (192, 256))
    with Y4mWriter(tmp_path / "noise.y4m", _frame(rng, shapes).format(30)) as writer:
        for _ in range(4):
            writer.write(_frame(rng, shapes))
    return tmp_path / "noise.y4m"


def _frame(rng: np.random.Generator, shapes: tuple[tuple[int, int], ...]) -> Frame:
    return Frame(tuple(rng.integers(0, 256, shape, np.uint8) for shape in shapes), 8, "420")


def started(noise: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """An encoding, and the processes that it has started by now, the encoder among them."""
    (noise.parent / "tmp").mkdir()
    command = [sys.executable, "-c", START, ENTRY, "encode", noise, "--qp", "20", "--preset", "slower"]
    process = subprocess.Popen(
        [*command, "-o", noise.with_name("out.266")],
        env=os.environ | {"TMPDIR": str(noise.parent / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(MAX_WAITS):
        children = children_of(process.pid)
        if any("ffmpeg" in name for name in children.values()) and any((noise.parent / "tmp").rglob("*")):
            return process, list(children)
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("no encoder was started")


def children_of(parent: int) -> dict[int, str]:
    """Numbers and names of the processes that a process has started and that run."""
    found = {}
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            before, _, after = Path("/proc", number, "stat").read_text().rpartition(")")
        except OSError:
            continue
        state, parent_of_it = after.split()[:2]
        if int(parent_of_it) == parent and state != "Z":
            found[int(number)] = before.partition("(")[2]
    return found


def run_still(numbers: list[int]) -> bool:
    for _ in range(MAX_WAITS):
        alive = [number for number in numbers if Path("/proc", str(number)).exists()]
        states = [Path("/proc", str(number), "stat").read_text().rpartition(")")[2].split()[0] for number in alive]
        if all(state == "Z" for state in states):
            return False
        time.sleep(0.02)
    return True


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


def test_a_time_limit_leaves_nothing(noise):
    """As `timeout` and batch systems end a run."""
    process, children = started(noise)
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate()
    said = "vvc-nnr: error: ended by SIGTERM; experiments, training and adapt go on where they stopped when run again\n"
    assert (process.returncode, out, error) == (143, "", said)
    assert not run_still(children)
    assert files_in(noise.parent) == {"noise.y4m", "tmp"}


def test_what_a_killed_run_leaves_goes_with_the_next_run(noise, y4m, monkeypatch, capsys):
    process, children = started(noise)
    process.kill()
    process.communicate()
    assert not run_still(children)
    left = files_in(noise.parent)
    assert any(name.startswith(".out.266.") for name in left)
    assert any(name.startswith("vvc_nnr_") for name in left)
    monkeypatch.setattr("tempfile.tempdir", str(noise.parent / "tmp"))
    remove_leftovers.cache_clear()
    assert main(["encode", str(y4m), "--qp", "40", "-o", str(noise.with_name("other.266"))]) == 0
    assert files_in(noise.parent) == {"noise.y4m", "tmp", "in.y4m", "other.266"}
