"""Hostile streams by the million through the decoder, its kernels compiled with sanitizers.

    python tests/hostile/hostile_campaign.py --count 1000000 [--first 0] [--plain]

Builds the kernels with the address and undefined-behaviour sanitizers in a temporary folder and runs this package's
decoder with them in a process of its own. Stream by stream: a right result or one of the two errors for untrusted
bytes, within a second of processor time and within a bound of memory. A seed that fails is printed; it fails again
with `--first SEED --count 1`. `--plain` takes the kernels that are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g"]
FLAGS = ["-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off", "-Wno-psabi", "-pthread"]
ASAN_OPTIONS = "detect_leaks=0:quarantine_size_mb=4:max_allocation_size_mb=256:allocator_may_return_null=0"
WATCHDOG_S = 120
PROGRESS_EVERY = 50_000


def build(folder: Path) -> Path:
    """The kernels with sanitizers, as a file in a folder."""
    import pybind11

    library = folder / f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = [f"-I{sysconfig.get_path('include')}", f"-I{pybind11.get_include()}"]
    source = ROOT / "vvc_nnr" / "_native" / "bindings.cpp"
    subprocess.run(["g++", *SANITIZERS, *FLAGS, *includes, str(source), "-o", str(library)], check=True)
    return library


def sanitized_environment() -> dict[str, str]:
    """An environment in which a Python that was not built with sanitizers can load a library that was."""
    found = [_library(name) for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")]
    return os.environ | {"LD_PRELOAD": " ".join(found), "ASAN_OPTIONS": ASAN_OPTIONS}


def _library(name: str) -> str:
    return subprocess.run(
        ["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()


def use_kernels(library: Path) -> None:
    """Makes this package take its kernels from a file. To be called before it is imported."""
    spec = importlib.util.spec_from_file_location("vvc_nnr._kernels", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["vvc_nnr._kernels"] = module
    spec.loader.exec_module(module)


def run(first: int, count: int) -> None:
    """All streams of these seeds in this process; it is killed if one of them hangs."""
    from hostile_trial import Trials

    trials = Trials()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    note = os.open(os.environ.get("VVC_NNR_HOSTILE_SEED", os.devnull), os.O_WRONLY | os.O_CREAT)
    for begin in range(first, first + count, PROGRESS_EVERY):
        end = min(begin + PROGRESS_EVERY, first + count)
        for seed in range(begin, end):
            signal.alarm(WATCHDOG_S)
            os.pwrite(note, b"%20d" % seed, 0)  # where the parent finds it if this process dies
            trials.run_one(seed)
        print(f"{end - first} streams: {dict(trials.outcomes)}, at most {trials.longest_s:.3f} s", flush=True)
    signal.alarm(0)
    os.close(note)


def run_apart(options: argparse.Namespace) -> int:
    """The streams in a process with sanitizers; its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        library, note = build(Path(folder)), Path(folder) / "seed"
        command = [sys.executable, __file__, "--kernels", str(library)]
        command += ["--first", str(options.first), "--count", str(options.count)]
        done = subprocess.run(command, env=sanitized_environment() | {"VVC_NNR_HOSTILE_SEED": str(note)}, check=False)
        if done.returncode:
            print(
                f"failed with {done.returncode} at seed {note.read_text() if note.exists() else '?'}", file=sys.stderr
            )
        return int(done.returncode != 0)


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=10_000, help="streams, one for each seed")
    parser.add_argument("--plain", action="store_true", help="without sanitizers")
    parser.add_argument("--kernels", type=Path, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what was asked for; 0 if no stream did harm."""
    options = build_parser().parse_args(argv)
    if options.kernels is None and not options.plain:
        return run_apart(options)
    if options.kernels is not None:
        use_kernels(options.kernels)
    run(options.first, options.count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
