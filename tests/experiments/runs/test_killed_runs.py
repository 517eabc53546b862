"""Runs that are killed (SIGKILL) at random moments, then run again: their folders are those of runs left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vvc_nnr.experiments.report.write import write_report
from vvc_nnr.folder_lock import LOCK

MEASURED = ("encode_s", "decode_s", "memory_mib")
"""Columns that differ from run to run."""
POLL_S = 0.005
MAIN = "from vvc_nnr.experiments.cli.main import main; raise SystemExit(main())"


@dataclass(frozen=True)
class Kind:
    """A command that writes a folder, and which of its files are the same in every run."""

    arguments: tuple[str, ...]
    has_times: bool = False


KINDS = {
    "tool-by-tool": Kind(
        ("experiment", "tool-by-tool", "--sequences", "{data}/0.png", "--qps", "32,37", "--decisions", "wiener",
         "--networks", "inloop-postfilter"),
        has_times=True,
    ),
    "tools in processes": Kind(
        ("experiment", "tool-by-tool", "--sequences", "{data}", "--qps", "32,37", "--networks", "inloop-postfilter",
         "--workers", "2"),
        has_times=True,
    ),
    "end-to-end": Kind(("experiment", "end-to-end", "--images", "{small}", "--networks", "autoencoder-1.8bpp")),
    "model-zoo": Kind(("experiment", "model-zoo", "--row", "inloop-postfilter", "--max-loss-db", "0"), has_times=True),
    "inloop": Kind(
        ("train", "inloop", "--data", "{data}", "--steps", "6", "--batch-size", "1", "--checkpoint-every", "2",
         "--channels", "4", "--blocks", "1", "--qps", "32,37", "--device", "cpu"),
    ),
    "autoencoder": Kind(
        ("train", "autoencoder", "--data", "{data}", "--steps", "6", "--batch-size", "1", "--checkpoint-every", "2",
         "--latents", "4", "--quantised-steps", "4", "--device", "cpu"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def places(rgb: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("data", "small"):
        (folder / name).mkdir()
    for i in range(3):
        Image.fromarray(np.tile(np.roll(rgb, 31 * i, 1), (3, 2, 1))).save(folder / "data" / f"{i}.png")
        Image.fromarray(np.roll(rgb, 31 * i, 1)[:32, :32]).save(folder / "small" / f"{i}.png")
    return {name: str(folder / name) for name in ("data", "small")}


@pytest.fixture
def start(places: dict[str, str], tmp_path: Path) -> Callable[[Kind, Path], subprocess.Popen[bytes]]:
    def start(kind: Kind, out: Path) -> subprocess.Popen[bytes]:
        words = [word.format(**places) for word in kind.arguments]
        if words[1] == "tool-by-tool":
            words += ["--cache", str(tmp_path / f"cache of {out.name}")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VVC_NNR")}
        return subprocess.Popen(
            [sys.executable, "-c", MAIN, *words, "--out", str(out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment | {"MPLBACKEND": "Agg"},
        )

    return start


def finish(process: subprocess.Popen[bytes]) -> None:
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said.decode(errors="replace")


def kill(process: subprocess.Popen[bytes], out: Path, after_s: float) -> bool:
    """Kills a run some time after it took its folder; False if it came to its end first."""
    while process.poll() is None and not (out / LOCK).exists():
        time.sleep(POLL_S)
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def held_s(process: subprocess.Popen[bytes], out: Path) -> float:
    """How long a run that is left alone holds its folder, about."""
    while process.poll() is None and not (out / LOCK).exists():
        time.sleep(POLL_S)
    start_s = time.monotonic()
    finish(process)
    return time.monotonic() - start_s


def contents(folder: Path, kind: Kind) -> dict[str, object]:
    """What is the same in every run: no dates, no times; of checkpoints and drawings only that they are there."""
    found: dict[str, object] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        is_table = path.suffix in (".md", ".csv", ".tex")
        if path.suffix in (".pt", ".png", ".svg") or (is_table and kind.has_times):
            found[name] = "there"
        elif path.suffix == ".json" and "pictures/" not in name and "pairs/" not in name:
            content = json.loads(path.read_text())
            content.pop("provenance", None)
            content.pop("network", None)
            found[name] = content
        elif path.suffix == ".tsv":
            lines = [line.split("\t") for line in path.read_text().splitlines() if not line.startswith("# ")]
            kept = [place for place, column in enumerate(lines[0]) if column not in MEASURED]
            found[name] = [[cells[place] for place in kept] for cells in lines]
        else:
            found[name] = path.read_bytes()
    return found


def check(
    start: Callable[[Kind, Path], subprocess.Popen[bytes]], name: str, folder: Path, seed: int, n_kills: int
) -> None:
    kind, rng = KINDS[name], random.Random(seed)
    duration_s = held_s(start(kind, folder / "whole"), folder / "whole")
    moments_s = [rng.uniform(0, 1.1 * duration_s) for _ in range(n_kills)]
    print(f"{name}, seed {seed}: killed after {moments_s} s of {duration_s:.2f} s")
    for after_s in moments_s:
        is_killed = kill(start(kind, folder / "cut"), folder / "cut", after_s)
        if is_killed and name in ("tool-by-tool", "end-to-end") and (folder / "cut").exists():
            rows = next((folder / "cut").glob(f"{name.replace('-', '_')}.tsv"), None)
            settings = folder / "cut" / f"{name.replace('-', '_')}.json"
            if rows is not None and not json.loads(settings.read_text())["has_ended"]:
                assert write_report(folder / "cut", folder / "cut.md").remarks
    finish(start(kind, folder / "cut"))
    whole, cut = (contents(folder / each, kind) for each in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert {file for file in whole if whole[file] != cut[file]} == set()


@pytest.mark.parametrize("name", ["end-to-end", "inloop"])
def test_a_kill(start: Callable[[Kind, Path], subprocess.Popen[bytes]], tmp_path: Path, name: str) -> None:
    check(start, name, tmp_path, seed=1, n_kills=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", KINDS)
def test_many_kills(
    start: Callable[[Kind, Path], subprocess.Popen[bytes]], tmp_path: Path, name: str, seed: int
) -> None:
    check(start, name, tmp_path, 100 + seed, n_kills=4)
