"""Damaged payloads through the kernels alone: compiled with sanitizers, and by all compilers at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FLAGS = "-std=c++17 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -Wno-psabi -ffp-contract=off -pthread"

# What 3200 damaged payloads come to by any compiler on any processor: codewords, numbers and quantised indices.
CHECKSUM = "1158ce648cf34018"
STRICT = "-Wall -Wextra -Werror -pthread"
# A compiler, its flags, and the emulator that runs what it makes.
COMPILERS = {
    "GCC": ("g++", f"{STRICT} -Wno-psabi", ()),
    "Clang": ("clang++", f"{STRICT} -Wno-psabi", ()),
    "ISO C++ alone": ("g++", f"{STRICT} -pedantic-errors -DNNR_ISO", ()),
    "GCC for aarch64": ("aarch64-linux-gnu-g++", f"{STRICT} -Wno-psabi -static", ("qemu-aarch64",)),
    "Clang for musl": ("zig", f"c++ -target x86_64-linux-musl -static {STRICT}", ()),
    "GCC for Windows": ("x86_64-w64-mingw32-g++-posix", f"{STRICT} -Wno-psabi -static", ("wine",)),
}


def built(compiler: str, flags: str, folder: Path) -> Path:
    program = folder / "fuzz_payload.exe"
    source = ROOT / "tests" / "native" / "fuzz_payload.cpp"
    command = [compiler, *flags.split(), "-I", ROOT / "vvc_nnr" / "_native", source, "-o", program]
    subprocess.run(command, check=True)
    return program


@pytest.mark.programs
@pytest.mark.parametrize("name", COMPILERS)
def test_every_compiler_and_processor_computes_the_same(name: str, tmp_path: Path) -> None:
    compiler, flags, emulator = COMPILERS[name]
    for program in (compiler, *emulator):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    program = built(compiler, f"{flags} -std=c++17 -O1 -ffp-contract=off", tmp_path)
    environment = {**os.environ, "WINEPREFIX": str(tmp_path / "wine"), "WINEDEBUG": "-all"}
    command = [*emulator, program, "3200", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split()[-1] == CHECKSUM


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_damaged_payloads_under_sanitizers(tmp_path: Path) -> None:
    program = built("g++", FLAGS, tmp_path)
    done = subprocess.run([program, "100000", "1"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1000")
