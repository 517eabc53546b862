"""Damaged payloads through the kernels alone, compiled with sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FLAGS = "-std=c++17 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -Wno-psabi -ffp-contract=off -pthread"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_damaged_payloads_under_sanitizers(tmp_path):
    program = tmp_path / "fuzz_payload"
    source = ROOT / "tests" / "native" / "fuzz_payload.cpp"
    subprocess.run(["g++", *FLAGS.split(), "-I", ROOT / "vvc_nnr" / "_native", source, "-o", program], check=True)
    done = subprocess.run([program, "100000", "1"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1000")
