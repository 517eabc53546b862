"""A researcher's own filters on the command line: filter, tool-by-tool, calibrated compression, training."""

from __future__ import annotations

import csv
import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.experiments.records.weights import parse_compression
from vvc_nnr.experiments.runs.image_options import EndToEndOptions
from vvc_nnr.experiments.runs.tool_options import ToolOptions
from vvc_nnr.filters.inference.onnxruntime import to_onnx
from vvc_nnr.filters.zoo import load_filter
from vvc_nnr.sequences.images import rgb_to_frame
from vvc_nnr.sequences.y4m import Y4mWriter, read_y4m

pytestmark = pytest.mark.usefixtures("torch_alone")

Run = Callable[..., str]
NETS = Path(__file__).parents[1] / "filters" / "own_nets.py"
LAYOUT = "planes=yuv420-packed,qp=plane,qp-scale=63,align=2"


def samples(path: Path) -> list[NDArray[np.int64]]:
    return [plane.astype(np.int64) for frame in read_y4m(path) for plane in frame.planes]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The second network's weights, as a researcher keeps them."""
    torch.save({"state_dict": load_filter(f"{NETS}:make_b", layout=LAYOUT).network.state_dict()}, tmp_path / "b.pt")
    return tmp_path / "b.pt"


@pytest.fixture
def photographs(tmp_path: Path, rgb: NDArray[np.uint8]) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(np.tile(np.roll(rgb, 40 * i, 1), (3, 2, 1))).save(folder / f"{i}.png")
    return folder


def test_filter_by_every_door(run: Run, y4m: Path, weights: Path, tmp_path: Path) -> None:
    loaded = load_filter(f"{NETS}:make_b", layout=LAYOUT)
    (tmp_path / "b.onnx").write_bytes(to_onnx(loaded.network, loaded.layout))
    run("compress", weights, "-o", tmp_path / "b.nnc", "--lossless")
    run("compress", tmp_path / "b.onnx", "-o", tmp_path / "graph.nnc", "--lossless")
    arch = ("--arch", f"{NETS}:make_b")
    doors: dict[str, tuple[str | Path, ...]] = {
        "function": (f"{NETS}:make_b",),
        "weights": (weights, *arch),
        "coded": (tmp_path / "b.nnc", *arch),
        "onnx": (tmp_path / "b.onnx",),
        "coded onnx": (tmp_path / "graph.nnc",),
    }
    found = {}
    for name, (model, *others) in doors.items():
        output = tmp_path / f"{name}.y4m"
        command = ("filter", y4m, "-o", output, "--qp", "32", "--model", model, "--layout", LAYOUT, *others)
        assert "remark" not in json.loads(run(*command, "--json"))
        found[name] = samples(output)
    for planes in found.values():
        assert max(np.abs(a - b).max() for a, b in zip(planes, found["function"], strict=True)) <= 1
    assert any((a != b).any() for a, b in zip(found["function"], samples(y4m), strict=True))


def test_filter_says_what_does_not_fit(
    y4m: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["filter", str(y4m), "-o", str(tmp_path / "o.y4m"), "--qp", "32", "--model"]
    cases = [
        ([str(weights)], "--arch FILE.py:NAME"),
        ([str(weights), "--arch", f"{NETS}:make_b"], "no layout says how pictures go in"),
        ([f"{NETS}:make_b", "--layout", "planes=rgb"], "its first convolution takes 7 planes"),
        ([f"{NETS}:make_b", "--layout", "planes"], "must be NAME=VALUE"),
        ([f"{NETS}:make_a", "--precision", "int8"], "bundled architectures alone"),
        (["autoencoder-1.8bpp"], "must be an in-loop filter"),
    ]
    for words, message in cases:
        assert main([*common, *words]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not (tmp_path / "o.y4m").exists()


def test_filter_needs_no_qp_for_a_network_that_takes_none(
    run: Run, y4m: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("filter", y4m, "--model", f"{NETS}:make_a")
    run(*common, "-o", tmp_path / "without.y4m")
    run(*common, "-o", tmp_path / "with.y4m", "--qp", "37")
    assert (tmp_path / "without.y4m").read_bytes() == (tmp_path / "with.y4m").read_bytes()
    words = ("filter", y4m, "--model", f"{NETS}:make_b", "--layout", LAYOUT, "-o", tmp_path / "none.y4m")
    assert main([str(word) for word in words]) == 2
    assert "says no QP, as x_qp32.yuv would; give --qp" in capsys.readouterr().err


def test_tool_by_tool_says_which_network_does_not_fit_before_it_writes(
    y4m: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = tmp_path / "two.py"
    two.write_text(
        "import torch\nclass Two(torch.nn.Conv2d):\n    def __init__(self):\n        super().__init__(1, 2, 1)\n"
    )
    common = ["experiment", "tool-by-tool", "--sequences", str(y4m), "--qps", "37", "--out", str(tmp_path / "out")]
    networks = ["--networks", f"{NETS}:make_a", f"{two}:Two", "--layout", "Two=planes=y"]
    assert main([*common, *networks]) == 2
    said = capsys.readouterr().err
    assert f"{two}:Two: layout planes=y of Two: gives the network" in said
    assert "it returned (1, 2, 64, 64), must be (1, 1, 64, 64)" in said
    assert not (tmp_path / "out").exists()


def test_a_filter_that_returns_integers_is_refused(
    y4m: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "whole.py").write_text(
        "import torch\nclass Whole(torch.nn.Conv2d):\n    layout = 'planes=y,output=picture'\n"
        "    def __init__(self):\n        super().__init__(1, 1, 1)\n"
        "    def forward(self, x):\n        return (255 * x).to(torch.uint8)\n"
    )
    command = ["filter", str(y4m), "-o", str(tmp_path / "o.y4m"), "--model", f"{tmp_path / 'whole.py'}:Whole"]
    assert main(command) == 2
    assert "it returned a tensor of uint8, must return floats on the scale that the layout" in capsys.readouterr().err
    assert not (tmp_path / "o.y4m").exists()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--arch", "a=n.py:N", "b=n.py:M"], "--arch takes one value: repeat it before each other one"),
        (["--layout", "a=planes=y", "b=planes=y,range=code", "c=planes=y"], "--layout takes one value: repeat it"),
        (["--arch=a=n.py:N", "b=n.py:M", "--qps", "37"], "--arch takes one value: repeat it"),
        (["--psnr-peak", "255", "1023"], None),
    ],
)
def test_a_second_value_behind_an_option_that_is_repeated(
    words: list[str], hint: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["experiment", "tool-by-tool", "--sequences", "k.y4m", "--networks", "a", "b", "--out", str(tmp_path)]
    assert main([*common, *words]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "unknown: " in said
    assert hint in said if hint else "repeat" not in said


def test_tool_by_tool_with_both_modes_and_decisions(run: Run, y4m: Path, weights: Path, tmp_path: Path) -> None:
    coded = tmp_path / "other.nnc"
    run("compress", weights, "-o", coded, "--qp", "-24")
    out = tmp_path / "results"
    command = (
        *("experiment", "tool-by-tool", "--sequences", y4m, "--pictures", "1", "--qps", "32,37", "--out", out),
        *("--networks", f"{NETS}:make_a", f"{NETS}:make_c", weights, coded, "inloop-vlop"),
        *("--arch", f"b={NETS}:make_b", "--arch", f"other={NETS}:make_b"),
        *("--layout", f"b={LAYOUT}", "--layout", f"other={LAYOUT}", "--decisions", "on", "--cache", tmp_path / "cache"),
    )
    data = json.loads(run(*command, "--json"))
    with (out / "tool_by_tool.tsv").open() as file:
        rows = list(csv.DictReader((line for line in file if not line.startswith("#")), delimiter="\t"))
    states = {(row["network"], row["weights"]) for row in rows if row["network"]}
    both = ("uniform8", "nnc")
    own = {(name, each) for name in ("make_a", "make_c", "b") for each in ("original", *both)}
    assert states == {*own, ("b", "file"), ("inloop-vlop", "file")}
    assert {row["way"] for row in rows} == {"codec", "full", "decisions"}
    sizes = [row for row in data["tables"]["table1_size"]["rows"] if "b" in row.values()]
    assert len(sizes) >= 3
    again = json.loads(run(*command, "--json"))
    assert again["tables"] == data["tables"]


def test_a_module_in_python_gives_the_rows_of_its_file(y4m: Path, weights: Path, tmp_path: Path) -> None:
    from vvc_nnr.experiments.records.provenance import gather_provenance
    from vvc_nnr.experiments.runs.tool_by_tool import run_tool_by_tool
    from vvc_nnr.experiments.runs.tool_options import ToolOptions
    from vvc_nnr.filters.zoo import own_network
    from vvc_nnr.sequences.source import open_source

    loaded = load_filter(f"{NETS}:make_b", layout=LAYOUT)
    module = own_network("b", loaded.network, LAYOUT)
    common = {"qps": (37,), "max_pictures": 1}
    by_file = ToolOptions(networks=(str(weights),), archs=(f"{NETS}:make_b",), layouts=(LAYOUT,), **common)  # type: ignore[arg-type]
    provenance, sources = gather_provenance(), [open_source(y4m)]
    cache = tmp_path / "cache"
    one = run_tool_by_tool(sources, tmp_path / "one", by_file, provenance, cache=cache)
    options = ToolOptions(networks=(), **common)  # type: ignore[arg-type]
    two = run_tool_by_tool(sources, tmp_path / "two", options, provenance, cache=cache, modules=[module])
    assert one["table2_psnr"].rows == two["table2_psnr"].rows


class Halved(torch.nn.Module):
    """Halves R, G and B."""

    layout = "planes=rgb"

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor([0.5]))

    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        return self.factor * rgb


@pytest.fixture
def full_range(tmp_path: Path, rgb: NDArray[np.uint8]) -> Path:
    """A picture of 4:2:0 that states full range, and a file of it that states none."""
    frame = rgb_to_frame(rgb[:48, :64])
    for name, colour_range in (("full.y4m", "full"), ("none.y4m", None)):
        with Y4mWriter(tmp_path / name, replace(frame.format(25), colour_range=colour_range)) as writer:
            writer.write(frame)
    return tmp_path / "full.y4m"


def test_rgb_is_of_the_range_that_the_pictures_state(run: Run, full_range: Path, tmp_path: Path) -> None:
    (tmp_path / "halved.py").write_text(
        "import torch\nclass Halved(torch.nn.Module):\n    layout = 'planes=rgb'\n"
        "    def forward(self, rgb): return 0.5 * rgb\n"
    )
    blacks = {"full.y4m": 0, "none.y4m": 16}
    words = [full_range.with_name(name) for name in blacks]
    run("filter", *words, "--model", f"{tmp_path / 'halved.py'}:Halved", "--out-dir", tmp_path / "out")
    for name, black in blacks.items():
        before, after = samples(full_range.with_name(name)), samples(tmp_path / "out" / name)
        assert np.abs((black + before[0]) / 2 - after[0]).max() <= 0.51


def test_rgb_of_tool_by_tool_is_of_the_range_that_the_sequence_states(full_range: Path, tmp_path: Path) -> None:
    from vvc_nnr.experiments.records.provenance import gather_provenance
    from vvc_nnr.experiments.records.rows import ToolRow
    from vvc_nnr.experiments.records.tsv import read_rows
    from vvc_nnr.experiments.runs.tool_by_tool import run_tool_by_tool
    from vvc_nnr.experiments.tables.stored import TOOL_ROWS
    from vvc_nnr.filters.zoo import own_network
    from vvc_nnr.sequences.source import open_source

    halved, out = own_network("halved", Halved()), tmp_path / "results"
    options = ToolOptions(networks=(), qps=(22,))
    run_tool_by_tool([open_source(full_range)], out, options, gather_provenance(), modules=[halved])
    rows = read_rows(out / TOOL_ROWS, ToolRow).rows
    luma = samples(full_range)[0]
    black_of_full = 10 * np.log10(255**2 / np.mean((luma / 2) ** 2))
    found = [row.psnr_y_db for row in rows if row.way == "full"]
    assert found == pytest.approx([black_of_full] * len(found), abs=0.1)
    assert found


def test_calibrated_compression_on_codec_pictures(weights: Path, photographs: Path, tmp_path: Path) -> None:
    coded = tmp_path / "b.nnc"
    common = ("--calibrate", photographs, "--max-bytes", "9000", "--qps", "37", "--crops", "4")
    arch = ("--arch", f"{NETS}:make_b", "--layout", LAYOUT)
    assert main([str(word) for word in ("compress", weights, "-o", coded, *common, *arch)]) == 0
    assert coded.stat().st_size <= 9000
    found = load_filter(coded, arch=f"{NETS}:make_b")  # the layout is in the file
    assert found.layout is not None
    assert found.layout.text == LAYOUT


def test_training_ones_own_goes_on_for_longer(run: Run, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    common = ("train", "inloop", "--data", photographs, "--out", out, "--batch-size", "1", "--json")
    options = ("--arch", f"{NETS}:make_b", "--layout", LAYOUT, "--qps", "37", "--checkpoint-every", "2")
    run(*common, *options, "--steps", "3")
    lines = (out / "history.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["step", "loss", "gain_qp37_db"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["2", "3"]
    assert (out / "history.png").stat().st_size > 1000
    card = json.loads(run(*common, *options, "--steps", "5"))
    assert (card["training"]["n_steps"], card["training"]["device"]) == (5, "cpu")
    again = (out / "history.tsv").read_text().splitlines()
    assert again[: len(lines)] == lines
    assert [line.split("\t")[0] for line in again[3:]] == ["4", "5"]
    trained = load_filter(card["network"], arch=f"{NETS}:make_b")
    assert trained.layout is not None
    assert trained.metadata["loop_filters"] == "none"


def test_training_says_what_does_not_fit(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["train", "inloop", "--data", str(photographs), "--out", str(tmp_path / "run"), "--steps", "1"]
    arch = ["--arch", f"{NETS}:make_b"]
    cases = [
        ([*arch, "--rung", "vlop"], "--arch: both set the shape"),
        ([*arch, "--channels", "8"], "--arch: both set the shape"),
        (["--layout", LAYOUT], "and there is no arch"),
        (arch, "no layout says how pictures go in"),
    ]
    for words, message in cases:
        assert main([*common, *words]) == 2
        said = capsys.readouterr().err
        assert message in said, said
        assert said.count("\n") == 1


def test_the_document_can_be_typed_in_as_it_stands(
    y4m: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "own-networks.md").read_text()
    first, *others = re.findall(r"^```py\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    y4m.rename(tmp_path / "k.y4m")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nets", raising=False)  # of another document
    Path("nets.py").write_text(first)
    shell = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands = [line for block in shell for line in block.splitlines()]
    assert len(commands) == 7
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, command
    for block in others:
        exec(compile(block, "own-networks.md", "exec"), {})
    with Path("results/tool_by_tool.tsv").open() as file:
        rows = list(csv.DictReader((line for line in file if not line.startswith("#")), delimiter="\t"))
    weights = dict.fromkeys(row["weights"] for row in rows if row["network"] == "network")
    assert list(weights) == ["original", "file:small", "file:fitted", "uniform8", "nnc"]


POOLED = """
import torch
from torch import nn

class Pooled(nn.Module):
    layout = "planes=y,output=residual"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        return 0.01 * self.conv(x) * x.mean((2, 3), keepdim=True)
"""


def test_a_network_that_looks_at_whole_pictures_is_refused_before_others_are_calibrated(
    run: Run, y4m: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pooled.py").write_text(POOLED)
    networks = ("--networks", f"{NETS}:make_a", f"{tmp_path / 'pooled.py'}:Pooled", "--out", tmp_path / "out")
    coding = ("--compress", "calibrated:0.5dB", "--calibrate", photographs, "--crops", "2")
    command = [str(word) for word in ("experiment", "tool-by-tool", "--sequences", y4m, *networks, *coding)]
    assert main([*command, "--qps", "37"]) == 2
    said = capsys.readouterr().err
    assert "pooled.py:Pooled: calibration: a picture of " in said
    assert "--accept-small" in said
    assert not (tmp_path / "out").exists(), "nothing was computed"
    command.remove(f"{NETS}:make_a")
    run(*command, "--qps", "37", "--accept-small")
    (coded,) = (tmp_path / "out" / "networks").iterdir()
    assert coded.name.startswith("Pooled_calibrated")


@pytest.mark.parametrize("options", [ToolOptions, EndToEndOptions])
def test_crops_need_photographs_and_are_at_least_one(
    options: type[ToolOptions] | type[EndToEndOptions], photographs: Path
) -> None:
    with pytest.raises(InputError, match=r"n_crops: 3, are crops of photographs .*--calibrate DIR"):
        options(n_crops=3)
    calibrated = (parse_compression("calibrated"),)
    with pytest.raises(InputError, match="n_crops: 0, must be at least 1"):
        options(compressions=calibrated, photographs=photographs, n_crops=0)
    assert options(compressions=calibrated, photographs=photographs, n_crops=3).n_crops == 3
