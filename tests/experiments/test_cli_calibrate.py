"""compress --calibrate on the command line."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import nn

from vvc_nnr.compress import decompress, inspect
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.filters import compress as compress_module
from vvc_nnr.filters.inference.onnxruntime import to_onnx
from vvc_nnr.filters.networks.dncnn import DnCnn
from vvc_nnr.filters.networks.layout import parse_layout
from vvc_nnr.filters.picture_options import PictureOptions
from vvc_nnr.filters.training.calibration_pictures import divided
from vvc_nnr.model.safetensors import write_float
from vvc_nnr.sequences.images import image_files

ARCHITECTURE = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))

def number():
    return 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DnCNN, a network of a user's own, and photographs."""
    folder = tmp_path_factory.mktemp("calibrate")
    torch.manual_seed(0)
    tensors = {name: value.numpy() for name, value in DnCnn(3, 8).state_dict().items()}
    write_float(folder / "dncnn.safetensors", tensors, {})
    rng = np.random.default_rng(0)
    shapes = {"0.weight": (4, 3, 3, 3), "0.bias": (4,), "2.weight": (3, 4, 3, 3), "2.bias": (3,)}
    own = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    write_float(folder / "own.safetensors", own, {})
    (folder / "own.py").write_text(ARCHITECTURE)
    (folder / "pictures").mkdir()
    for place in range(4):
        part = skimage.data.astronaut()[60 * place : 60 * place + 80, 100:180]
        Image.fromarray(part).save(folder / "pictures" / f"{place}.png")
    (folder / "one").mkdir()
    Image.fromarray(skimage.data.astronaut()[:80, :80]).save(folder / "one" / "0.png")
    return folder


def compress(folder: Path, output: Path, name: str, *options: str | Path) -> int:
    network = folder / f"{name}.safetensors"
    return main(["compress", str(network), "-o", str(output), "--crops", "4", *map(str, options)])


def test_a_dncnn_within_a_loss(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--calibrate", folder / "pictures", "--arch", "dncnn", "--noise-sigma", "25", "--max-loss-db", "0.05")
    assert compress(folder, tmp_path / "a.nnc", "dncnn", *options) == 0
    out, err = capsys.readouterr()
    assert "conv1.weight" in out
    assert "held out" in out
    *candidates, last = err.splitlines()
    assert candidates
    assert all(line.startswith(("lambda ", "without calibration: ")) for line in candidates)
    assert last.startswith("taken: ")
    assert compress(folder, tmp_path / "b.nnc", "dncnn", *options, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["loss_db"] <= 0.05
    assert report["output_bytes"] == (tmp_path / "b.nnc").stat().st_size
    assert (tmp_path / "a.nnc").read_bytes() == (tmp_path / "b.nnc").read_bytes()
    assert {t["name"] for t in report["tensors"]} >= {"conv0.bias", "conv2.weight"}


def test_a_network_of_the_users_own_within_a_size(folder: Path, tmp_path: Path) -> None:
    options = ("--calibrate", folder / "pictures", "--arch", f"{folder / 'own.py'}:make", "--max-bytes", "400")
    assert compress(folder, tmp_path / "a.nnc", "own", *options) == 0
    assert (tmp_path / "a.nnc").stat().st_size <= 400


def test_folded_batch_norms(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    nn.init.uniform_(network[1].weight, 1, 3)
    write_float(folder / "norm.safetensors", {name: value.numpy() for name, value in network.state_dict().items()}, {})
    (folder / "norm.py").write_text(ARCHITECTURE.replace("nn.ReLU", "nn.BatchNorm2d(4), nn.ReLU"))
    options = ("--calibrate", folder / "pictures", "--arch", f"{folder / 'norm.py'}:make", "--max-loss-db", "0.1")
    assert compress(folder, tmp_path / "a.nnc", "norm", *options, "--fold-batch-norms") == 0
    folded = decompress((tmp_path / "a.nnc").read_bytes())
    assert (folded["1.weight"] == 1).all()
    assert (folded["1.running_mean"] == 0).all()
    assert folded.keys() == network.state_dict().keys()


def test_the_loss_of_folded_norms_counts_against_the_network_as_given(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(network: nn.Module) -> nn.Module:
        folded = copy.deepcopy(network)
        nn.init.constant_(folded[2].bias, 0.5)
        return folded

    monkeypatch.setattr(compress_module, "folded_module", wrong)
    options = ("--calibrate", folder / "pictures", "--arch", f"{folder / 'own.py'}:make", "--max-loss-db", "0.1")
    assert compress(folder, tmp_path / "a.nnc", "own", *options, "--fold-batch-norms") == 2
    assert "cannot be kept" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_number_formats_survive(
    kind: torch.dtype, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = DnCnn(3, 8).to(kind)
    torch.save(network.state_dict(), tmp_path / "a.pt")
    options = ["--calibrate", folder / "pictures", "--arch", "dncnn", "--noise-sigma", "25", "--max-loss-db", "0.5"]
    output = tmp_path / "a.nnc"
    arguments = ["compress", tmp_path / "a.pt", "-o", output, *options, "--crops", "4", "--json"]
    assert main([*map(str, arguments)]) == 0
    assert {tensor.number_format for tensor in inspect(output.read_bytes()).tensors} == {str(kind).split(".")[1]}
    n_values = sum(tensor.numel() for tensor in network.state_dict().values())
    assert json.loads(capsys.readouterr().out)["original_bytes"] == kind.itemsize * n_values


def test_a_qp_that_is_given_counts_for_unknown_matrices(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    (folder / "grown.py").write_text(
        """
import torch
from torch import nn

class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.mix = nn.Parameter(torch.zeros(3, 4))

    def forward(self, x):
        return torch.einsum("oi,nihw->nohw", self.mix, self.first(x).relu())

make = Mixed
"""
    )
    first = nn.Conv2d(3, 4, 3, padding=1)
    tensors = {"mix": torch.randn(3, 4), "first.weight": first.weight.detach(), "first.bias": first.bias.detach()}
    write_float(folder / "grown.safetensors", {name: t.numpy() for name, t in tensors.items()}, {})
    options = ("--calibrate", folder / "pictures", "--arch", f"{folder / 'grown.py'}:make", "--max-loss-db", "0.5")
    found = []
    for given in ((), ("--qp", "-32")):
        assert compress(folder, tmp_path / "a.nnc", "grown", *options, *given) == 0
        coded = inspect((tmp_path / "a.nnc").read_bytes()).tensors
        found.append({tensor.name: tensor.qp for tensor in coded}["mix"])
    assert found[0] != found[1] == -32


def test_networks_that_look_at_whole_pictures_pass_if_that_is_meant(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "whole.py").write_text(
        ARCHITECTURE
        + """
class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = make()

    def forward(self, x):
        return self.net(x) + x.mean((2, 3), keepdim=True)
"""
    )
    rng = np.random.default_rng(0)
    shapes = {"net.0.weight": (4, 3, 3, 3), "net.0.bias": (4,), "net.2.weight": (3, 4, 3, 3), "net.2.bias": (3,)}
    tensors = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    write_float(folder / "whole.safetensors", tensors, {})
    options = ("--calibrate", folder / "pictures", "--arch", f"{folder / 'whole.py'}:Whole", "--max-loss-db", "0.5")
    assert compress(folder, tmp_path / "a.nnc", "whole", *options) == 2
    assert "--accept-small" in capsys.readouterr().err
    assert compress(folder, tmp_path / "a.nnc", "whole", *options, "--accept-small") == 0


def test_fine_tuning_is_planned_by_the_hour_and_goes_on(folder: Path, tmp_path: Path) -> None:
    options = ("--calibrate", folder / "pictures", "--arch", "dncnn", "--noise-sigma", "25", "--max-loss-db", "0.05")
    tuning = (*options, "--finetune", "--hours", "0.0005")  # a plain file is better than the calibrated one here
    assert compress(folder, tmp_path / "a.nnc", "dncnn", *tuning) == 0
    first = (tmp_path / "a.nnc").read_bytes()
    assert json.loads((tmp_path / "a.nnc.checkpoint.json").read_text())["hours"] == 0.0005
    assert compress(folder, tmp_path / "a.nnc", "dncnn", *tuning) == 0
    assert (tmp_path / "a.nnc").read_bytes() == first
    assert compress(folder, tmp_path / "b.nnc", "dncnn", *options) == 0
    assert len(first) <= (tmp_path / "b.nnc").stat().st_size
    assert compress(folder, tmp_path / "a.nnc", "dncnn", *options, "--finetune", "--hours", "2") == 2


BAD = {
    "tuning without data": ("dncnn", ["--finetune"], "--finetune: needs --calibrate"),
    "hours without tuning": (
        "dncnn",
        ["--calibrate", "{f}/pictures", "--arch", "dncnn", "--noise-sigma", "25", "--max-bytes", "400", "--hours", "1"],
        "only with --finetune",
    ),
    "no limit": ("dncnn", ["--calibrate", "{f}/pictures", "--arch", "dncnn"], "one of --max-loss-db and --max-bytes"),
    "no calibration": ("dncnn", ["--max-loss-db", "0.1"], "--max-loss-db: needs --calibrate"),
    "no folder": ("own", ["--calibrate", "{f}/nothing", "--arch", "{f}/own.py:make", "--max-bytes", "400"], "no such"),
    "one picture": (
        "own",
        ["--calibrate", "{f}/one", "--arch", "{f}/own.py:make", "--max-bytes", "400"],
        "must be at least 2",
    ),
    "no task": ("dncnn", ["--calibrate", "{f}/pictures", "--arch", "dncnn", "--max-bytes", "400"], "--noise-sigma"),
    "CIFAR for a filter": (
        "own",
        ["--calibrate", "{f}/pictures", "--arch", "{f}/own.py:make", "--max-bytes", "400", "--cifar", "x"],
        "--cifar: only for autoencoders",
    ),
    "CIFAR without calibration": ("own", ["--cifar", "x"], "--cifar: needs --calibrate"),
    "no architecture": ("own", ["--calibrate", "{f}/pictures", "--max-bytes", "400"], "architecture"),
    "unknown": ("own", ["--calibrate", "{f}/pictures", "--max-bytes", "400", "--arch", "x"], "FILE.py:NAME"),
    "no function": (
        "own",
        ["--calibrate", "{f}/pictures", "--max-bytes", "400", "--arch", "{f}/own.py:x"],
        "own.py has no x; it has make, number",
    ),
    "no module": (
        "own",
        ["--calibrate", "{f}/pictures", "--max-bytes", "400", "--arch", "{f}/own.py:number"],
        "is a int; must be a torch module",
    ),
    "another network": (
        "dncnn",
        ["--calibrate", "{f}/pictures", "--max-bytes", "400", "--arch", "{f}/own.py:make"],
        "does not fit",
    ),
    "out of reach": (
        "own",
        ["--calibrate", "{f}/pictures", "--max-bytes", "9", "--arch", "{f}/own.py:make"],
        "cannot be kept",
    ),
    "lambda": (
        "own",
        ["--calibrate", "{f}/pictures", "--max-bytes", "400", "--arch", "{f}/own.py:make", "--lambda-rd", "1"],
        "take --lambda-rd",
    ),
    "lossless": (
        "own",
        ["--calibrate", "{f}/pictures", "--max-bytes", "400", "--arch", "{f}/own.py:make", "--lossless"],
        "has no effect with lossless",
    ),
    "QPs by size": (
        "own",
        ["--calibrate", "{f}/pictures", "--max-bytes", "400", "--arch", "{f}/own.py:make", "--qp-by-size"],
        "has no effect with --qp-by-size",
    ),
    "uniform": (
        "own",
        ["--calibrate", "{f}/pictures", "--max-bytes", "400", "--method", "uniform8"],
        "uniform8 writes",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_in_one_line_and_no_file(
    case: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, options, message = BAD[case]
    code = compress(folder, tmp_path / "a.nnc", name, *(option.replace("{f}", str(folder)) for option in options))
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("vvc-nnr: error: ")
    assert message in last
    assert not list(tmp_path.iterdir())


def test_an_onnx_model_is_refused_with_what_to_do(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "own.onnx"
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1))
    model.write_bytes(to_onnx(network, parse_layout("planes=rgb")))
    words = ("compress", model, "-o", tmp_path / "a.nnc", "--calibrate", folder / "pictures", "--max-bytes", "400")
    assert main(list(map(str, words))) == 2
    assert "own.onnx: an ONNX model cannot be calibrated" in (said := capsys.readouterr().err)
    assert "--arch FILE.py:NAME" in said
    assert not (tmp_path / "a.nnc").exists()


def test_copies_of_photographs_that_measure_are_not_trained_on(tmp_path: Path) -> None:
    for place in range(5):
        rgb = np.random.default_rng(place).integers(0, 256, (40, 40, 3), np.uint8)
        for folder, prefix in (("measured", ""), ("data", "copy_of_")):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(rgb).save(tmp_path / folder / f"{prefix}{place}.png")
    photographs = image_files(tmp_path / "measured")
    held_out = {path.name for path in divided(photographs)[0].held_out}
    for data, prefix in ((None, ""), (tmp_path / "data", "copy_of_")):
        options = PictureOptions(max_bytes=1, finetune=True, data=data)
        job = compress_module._Job(tmp_path / "a.pt", tmp_path / "a.nnc", options, {}, photographs)
        tuning = job.tuning(nn.Conv2d(3, 3, 3), tmp_path / "measured")
        trained_on = {path.name.removeprefix(prefix) for path in tuning.photographs}
        assert trained_on == {path.name for path in photographs} - held_out


def test_scales_of_rows_are_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    network = DnCnn(3, 24)
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    sizes = np.exp(1.5 * np.random.default_rng(0).normal(size=24)).astype(np.float32)
    for name, factors in (
        ("conv1.weight", sizes[:, None, None, None]),
        ("conv1.bias", sizes),
        ("conv2.weight", 1 / sizes[:, None, None]),
    ):
        tensors[name] = tensors[name] * factors
    write_float(folder / "unlike.safetensors", tensors, {})
    pictures = ("--calibrate", folder / "pictures", "--arch", "dncnn", "--noise-sigma", "25", "--max-bytes", "4000")
    assert compress(folder, tmp_path / "a.nnc", "unlike", *pictures, "--local-scaling", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [tensor["name"] for tensor in report["tensors"] if tensor["local_scaling"]] == ["conv1.weight"]
    assert "1 tensor has a scale for each row: conv1.weight; other decoders" in caplog.text
    found = {tensor.name: tensor.scaling_qp for tensor in inspect((tmp_path / "a.nnc").read_bytes()).tensors}
    assert [name for name, qp in found.items() if qp is not None] == ["conv1.weight"]
