"""The same bytes and samples on a processor of other instruction sets, emulated by QEMU's user mode.

Run it alone with `pytest -m programs`; Debian has the emulator in `qemu-user`.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vvc_nnr.experiments.cli.main import main

EMULATOR = shutil.which("qemu-x86_64")
OLD = "Nehalem"  # SSE 4.2: neither AVX nor VNNI
RUN = "import sys; from vvc_nnr.experiments.cli.main import main; sys.exit(main(sys.argv[1:]))"
pytestmark = [
    pytest.mark.programs,
    pytest.mark.slow,  # torch is imported by the emulator
    pytest.mark.skipif(EMULATOR is None, reason="no qemu-x86_64 on the PATH"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="emulates a processor of the same kind"),
]


def on_an_old_processor(*arguments: str | Path) -> None:
    assert EMULATOR is not None
    command = [EMULATOR, "-cpu", OLD, sys.executable, "-c", RUN, *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=1500)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_int8_filters_to_the_same_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    luma = np.kron(rng.integers(40, 220, (12, 16)), np.ones((4, 4), int)) + rng.integers(-6, 7, (48, 64))
    chroma = np.kron(rng.integers(90, 160, (12, 8)), np.ones((4, 4), int))
    header = b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\nFRAME\n"
    samples = b"".join(plane.clip(0, 255).astype(np.uint8).tobytes() for plane in (luma, chroma))
    (tmp_path / "a.y4m").write_bytes(header + samples)
    options = ("--model", "inloop-vlop", "--qp", "32", "--precision", "int8")
    on_an_old_processor("filter", tmp_path / "a.y4m", *options, "-o", tmp_path / "old.y4m")
    assert main(["filter", str(tmp_path / "a.y4m"), *options, "-o", str(tmp_path / "here.y4m")]) == 0
    assert sha256(tmp_path / "old.y4m") == sha256(tmp_path / "here.y4m") != sha256(tmp_path / "a.y4m")


def test_networks_are_coded_to_the_same_bytes_and_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", w=rng.normal(0, 0.1, (40, 8, 3, 3)).astype(np.float32), b=np.ones(40, np.float32))
    on_an_old_processor("compress", tmp_path / "a.npz", "-o", tmp_path / "old.nnc")
    on_an_old_processor("decompress", tmp_path / "old.nnc", "-o", tmp_path / "old.safetensors")
    assert main(["compress", str(tmp_path / "a.npz"), "-o", str(tmp_path / "here.nnc")]) == 0
    assert main(["decompress", str(tmp_path / "here.nnc"), "-o", str(tmp_path / "here.safetensors")]) == 0
    assert sha256(tmp_path / "old.nnc") == sha256(tmp_path / "here.nnc")
    assert sha256(tmp_path / "old.safetensors") == sha256(tmp_path / "here.safetensors")
