"""Every command of the guide for clusters runs, with local executors in the place of a cluster, to the same tables."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from executors import SELDOM_TICKS, differences, local_cluster, tables
from PIL import Image

from vvc_nnr.experiments.cli.main import Asked, asked_command, main, parsed
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.images import frame_to_rgb
from vvc_nnr.sequences.source import open_sources
from vvc_nnr.sequences.y4m import Y4mWriter

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "cluster.md").read_text()
ALL_COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("vvc-nnr ")
]
COMMANDS = [line for line in ALL_COMMANDS if line.startswith("vvc-nnr experiment tool-by-tool")]


@pytest.fixture(scope="module")
def place(frames: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands are typed: a sequence of one picture, and the tables that a single process makes of it."""
    folder = tmp_path_factory.mktemp("guide")
    (folder / "jvet").mkdir()
    with Y4mWriter(folder / "jvet" / "a.y4m", frames[0].format(30)) as writer:
        writer.write(frames[0])
    (folder / "photographs").mkdir()
    Image.fromarray(frame_to_rgb(frames[0])[:32, :32]).save(folder / "photographs" / "a.png")
    words = "--sequences jvet/ --networks inloop-lop --out whole/ --workers 1"
    run(f"vvc-nnr experiment tool-by-tool {words}", folder)
    return folder


def run(command: str, folder: Path) -> str:
    """What a command prints, with little to do."""
    for name in ("jvet/", "photographs/"):
        command = command.replace(name, f"{folder}/{name}")
    words = shlex.split(command)[1:]
    few = ["--qps", "32,37", "--cache", str(folder / "cache")] if "tool-by-tool" in words else ["--formats", "jpeg"]
    words[words.index("--out") + 1] = str(folder / words[words.index("--out") + 1])
    out = io.StringIO()
    with redirect_stdout(out):
        assert main([*words, *few]) == 0
    return out.getvalue()


def made(folder: Path) -> dict[str, bytes]:
    found = tables(folder / "results")
    shutil.rmtree(folder / "results")
    return found


def command_with(*parts: str) -> list[str]:
    found = [line for line in COMMANDS if all(part in line for part in parts)]
    assert found
    return found


def test_no_command_is_left_out() -> None:
    kinds = ("--plan", "--workers 4", "--slurm", "--dask", "--shard 1/2", "--shard 2/2", "$SLURM_ARRAY_TASK_ID/64")
    special = {line for kind in kinds for line in command_with(kind)}
    rest = set(COMMANDS) - special
    assert len(special) == len(kinds)
    assert len(rest) == 1
    assert GUIDE.count("vvc-nnr experiment") == len(ALL_COMMANDS) + 1  # that of make


def test_the_plan(place: Path) -> None:
    (command,) = command_with("--plan")
    (line,) = [json.loads(line) for line in run(command, place).splitlines()[:1]]
    (shown,) = re.findall(r"^```json\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert line.keys() == json.loads(shown).keys()
    assert line["networks"] == json.loads(shown)["networks"]


def test_processes(place: Path) -> None:
    (command,) = command_with("--workers 4")
    run(command.replace("--workers 4", "--workers 2"), place)
    assert made(place) == tables(place / "whole")


def test_slurm(place: Path) -> None:
    pytest.importorskip("submitit")
    (command,) = command_with("--slurm")
    asked = asked_command(shlex.split(command)[1:])
    assert isinstance(asked, Asked)
    assert parsed(asked)
    run(command.replace("partition=short,array=64", "cluster=local,array=1"), place)
    assert list((place / "results" / "logs" / "tool_by_tool" / "slurm").glob("*_log.out"))
    assert made(place) == tables(place / "whole")


def test_dask(place: Path) -> None:
    pytest.importorskip("distributed")
    (command,) = command_with("--dask")
    with local_cluster(1) as address:
        run(command.replace("tcp://node:8786", address), place)
    assert made(place) == tables(place / "whole")


def test_the_commands_of_dask_have_these_options() -> None:
    pytest.importorskip("distributed")
    lines = [shlex.split(line) for line in GUIDE.splitlines() if line.startswith("dask ")]
    assert [words[1] for words in lines] == ["scheduler", "worker"]
    for words in lines:
        said = subprocess.run([sys.executable, "-m", *words[:2], "--help"], capture_output=True, text=True, check=True)
        assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--[a-z-]+", said.stdout))


def test_the_settings_of_dask_are_those_of_the_benchmark() -> None:
    names = {key: "DASK_" + key.upper().replace(".", "__").replace("-", "_") for key in SELDOM_TICKS}
    exports = [line.removeprefix("export ") for line in GUIDE.splitlines() if line.startswith("export DASK_")]
    assert exports == [f"{names[key]}={value}" for key, value in SELDOM_TICKS.items()]


def test_tables_are_compared_without_times(tmp_path: Path) -> None:
    for name, enc_t, psnr in (("a", 101, 0.5), ("b", 99, 0.5), ("c", 101, 0.6)):
        (tmp_path / name).mkdir()
        head = "Network,Class,RA Y (%),RA EncT (%),DecT (%)"
        (tmp_path / name / "bd_rate.csv").write_text(f"# a title\n{head}\nx,D,{psnr},{enc_t},{enc_t}\n")
        (tmp_path / name / "complexity.csv").write_text(f"EncT\n{enc_t}\n")
    (tmp_path / "c" / "more.csv").write_text("Network\nx\n")
    a, b, c = (tables(tmp_path / name) for name in "abc")
    assert a == b
    assert differences(a, c) == ["more.csv: in one folder alone", "bd_rate.csv: columns RA Y (%)"]


def test_shards(place: Path) -> None:
    for part in ("--shard 2/2", "--shard 1/2"):
        (command,) = command_with(part)
        assert f"share {part[8]} of 2 is done; a run without --shard makes the tables" in run(command, place)
        assert not tables(place / "results")
    (command,) = command_with("$SLURM_ARRAY_TASK_ID/64")
    run(command.replace("$SLURM_ARRAY_TASK_ID", "1"), place)
    (last,) = [line for line in COMMANDS if line.endswith("--out results/")]
    run(last, place)
    assert made(place) == tables(place / "whole")


def test_end_to_end(place: Path) -> None:
    plan, command = (line for line in ALL_COMMANDS if line not in COMMANDS)
    lines = [json.loads(line) for line in run(plan, place).splitlines()]
    assert [line["near"] for line in lines if line["near"]] == ["autoencoder-1.8bpp"] * 3 + ["autoencoder-4.2bpp"] * 3
    assert "CNN-AE" in run(command.replace("--workers 4", "--workers 1"), place)
    assert tables(place / "results").keys() >= {"table4_end_to_end.csv"}
    shutil.rmtree(place / "results")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```make\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    (tmp_path / "Makefile").write_text(text)
    said = subprocess.run(["make", "-n"], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = said.stdout.splitlines()
    (last,) = [line for line in COMMANDS if line.endswith("--out results/")]
    assert lines == [*(f"{last} --shard {number}/8 --workers 1" for number in range(1, 9)), last]


def test_python(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert "ProcessPoolExecutor(4)" in code
    monkeypatch.chdir(place)
    small = code.replace("ProcessPoolExecutor", "ThreadPoolExecutor").replace("Executor(4)", "Executor(1)")
    few = small.replace('networks=["inloop-lop"]', 'networks=["inloop-lop"], qps=(32, 37)')
    assert few.count("qps") == 1
    assert len(open_sources("jvet/")) == 1
    exec(compile(few, "cluster.md", "exec"), {"__name__": "__main__"})
    assert made(place) == tables(place / "whole")
