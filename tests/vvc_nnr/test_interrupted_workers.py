"""Ctrl-C of a terminal, which goes to all processes of a group: this one tells of it, its workers do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = """
import contextlib, signal, sys, time
from pathlib import Path
from vvc_nnr.executors import SlurmSettings, on_processes, on_slurm

def slow(place):
    time.sleep(60)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background has not
    print("ready", flush=True)
    local = SlurmSettings(cluster="local", array=2)
    is_slurm = sys.argv[1] == "slurm"
    results = on_slurm(slow, [[1], [2]], local, Path(sys.argv[2])) if is_slurm else on_processes(slow, [1, 2], 2)
    try:
        with contextlib.closing(results):
            next(results)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="processes have no groups")
@pytest.mark.parametrize("kind", ["processes", "slurm"])
def test_workers_say_nothing_of_an_interrupt(tmp_path: Path, kind: str) -> None:
    if kind == "slurm" and find_spec("submitit") is None:
        pytest.skip("the package submitit is not installed")
    script = tmp_path / "interrupted.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), kind, str(tmp_path / "jobs")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.5)  # its workers are being started, or at work
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "")
