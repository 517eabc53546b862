"""The model zoo: rows that are there and rows that are not, one table, a run that goes on, both codecs' process."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vvc_nnr.calibrate.samples import Calibration
from vvc_nnr.errors import ExternalToolError, InputError
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.experiments.records.rows import ZooRow
from vvc_nnr.experiments.records.tsv import RowWriter, read_rows
from vvc_nnr.experiments.runs import model_zoo
from vvc_nnr.experiments.runs.model_zoo import ROWS, ZooOptions, run_zoo
from vvc_nnr.experiments.tables.stored import zoo_table
from vvc_nnr.experiments.tables.table import to_markdown
from vvc_nnr.experiments.zoo.bundled import DenoisingRow
from vvc_nnr.experiments.zoo.codec_process import code_with_ours, code_with_peer
from vvc_nnr.experiments.zoo.row import Metrics, NotHereError, Subject, module_subject
from vvc_nnr.experiments.zoo.text_recognition import edit_distance
from vvc_nnr.experiments.zoo.torchvision import ClassificationRow, confusion, segmentation_metrics
from vvc_nnr.experiments.zoo.unet import CarvanaRow, CarvanaUNet, PastedRow, UNet, dice, pasted


@dataclass(frozen=True, slots=True)
class SmallRow:
    """A tiny network whose score is NaN once its weights are not what they were."""

    name: str = "small"

    def load(self, folder: Path | None) -> Subject:
        torch.manual_seed(1)
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        exact = network[0].weight.detach().clone()

        def evaluate(module: Any) -> Metrics:
            error = float((module[0].weight - exact).abs().max())
            return Metrics(dice=1 - error, psnr_db=math.nan if error else 50.0)

        return module_subject(network, "random", "nothing", evaluate)


@dataclass(frozen=True, slots=True)
class AbsentRow:
    name: str = "absent"

    def load(self, folder: Path | None) -> Subject:
        raise NotHereError("weights.pth is not in the folder")


def test_a_run_goes_on_and_says_what_is_absent(tmp_path: Path) -> None:
    header = {"version": "1", "psnr_peak": "vtm", "averaging": "", "rate": "", "seeds": ""}
    path = tmp_path / "zoo.tsv"
    rows = (SmallRow(), AbsentRow())
    with RowWriter(path, ZooRow, header) as writer:
        assert run_zoo(rows, ZooOptions(qps=(-32,)), writer) == {"absent": "weights.pth is not in the folder"}
    with RowWriter(path, ZooRow, header) as writer:
        absent = run_zoo(rows, ZooOptions(qps=(-32, -20)), writer)
    found = read_rows(path, ZooRow).rows
    assert [(row.method, row.qp) for row in found] == [("original", 0), ("vvc_nnr", -32), ("vvc_nnr", -20)]
    original, fine, coarse = found
    assert (original.dice, original.psnr_db, original.fault, original.n_bytes) == (1, 50, "", None)
    assert (coarse.n_bytes or 0) < (fine.n_bytes or 0) < original.original_bytes
    assert 0 < (coarse.dice or 0) < (fine.dice or 0) < 1
    assert (fine.psnr_db, fine.fault) == (None, "psnr_db")
    text = to_markdown(zoo_table(found, absent, has_peer=False))
    assert "not here: weights.pth is not in the folder" in text
    assert "NaN or infinite: psnr_db" in text
    assert "VVC_NNR_PEER" in text
    assert "vvc_nnr: roles, and QPs by the sizes of the weight tensors." in text
    assert not any(word in text for word in ("Calibrated", "nncodec"))


@dataclass(frozen=True, slots=True)
class CalibratedSmallRow:
    """A tiny restorer that can be compressed by pictures, if there are any."""

    has_pictures: bool = True
    name: str = "restorer"

    def load(self, folder: Path | None) -> Subject:
        torch.manual_seed(1)
        network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
        return module_subject(network, "random")

    def calibration(self, folder: Path | None) -> Calibration:
        if not self.has_pictures:
            raise NotHereError("no photographs")
        pictures = torch.rand(4, 1, 1, 24, 24, generator=torch.Generator().manual_seed(2))
        return Calibration(list(pictures[:3]), list(pictures[3:]), reference_psnr_db=40)


def test_calibrated_rows(tmp_path: Path) -> None:
    header = {"version": "1", "psnr_peak": "vtm", "averaging": "", "rate": "", "seeds": ""}

    def run(row: Any, max_loss_db: float | None) -> dict[str, str]:
        with RowWriter(tmp_path / "zoo.tsv", ZooRow, header) as writer:
            return run_zoo([row], ZooOptions(qps=(), max_loss_db=max_loss_db), writer)

    absent = run(CalibratedSmallRow(has_pictures=False), 0.05)
    assert absent == {"restorer: vvc_nnr, calibrated, 0.05 dB": "no photographs"}
    assert run(CalibratedSmallRow(), 0.05) == run(SmallRow(), 0.05) == {}
    assert run(CalibratedSmallRow(has_pictures=False), 0.05) == {}
    assert run(CalibratedSmallRow(has_pictures=False), None) == {}
    found = read_rows(tmp_path / "zoo.tsv", ZooRow).rows
    assert [(row.network, row.method, row.max_loss_db) for row in found] == [
        ("restorer", "original", None),
        ("restorer", "calibrated", 0.05),
        ("small", "original", None),
    ]
    assert 50 < (found[1].n_bytes or 0) < 0.7 * found[1].original_bytes
    assert "vvc_nnr, calibrated, 0.05 dB" in to_markdown(zoo_table(found, absent, has_peer=False))


def test_photographs_to_compress_by(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VVC_NNR_DATA", str(tmp_path))
    with pytest.raises(NotHereError, match=r"no folder calibration of yours, no bsds500/train in the data folder"):
        DenoisingRow().calibration(tmp_path)
    (tmp_path / "calibration").mkdir()
    for place in range(2):
        Image.fromarray(np.full((40, 40, 3), place, np.uint8)).save(tmp_path / "calibration" / f"{place}.png")
    fitted = DenoisingRow().calibration(tmp_path).fitted
    assert {sample.inputs[0].shape for sample in fitted} == {(1, 1, 40, 40)}


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(model_zoo, "ROWS", (SmallRow(), AbsentRow()))
    monkeypatch.delenv("VVC_NNR_PEER", raising=False)
    command = ["experiment", "model-zoo", "--out", str(tmp_path), "--qps", "-30", "--json"]
    assert main(command) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"].values()
    assert [row["Codec"] for row in table["rows"]] == ["original", "vvc_nnr, QP -30", None]
    assert (tmp_path / "model_zoo.md").exists()
    assert main([*command, "--row", "none"]) == 2
    assert "no row is called none; there are small, absent" in capsys.readouterr().err
    assert main([*command, "--weights", str(tmp_path / "missing")]) == 2


@dataclass(frozen=True, slots=True)
class FailingRow:
    name: str = "failing"

    def load(self, folder: Path | None) -> Subject:
        raise InputError("weights.pth: is no network")


def untimed(folder: Path) -> list[tuple[Any, ...]]:
    rows = read_rows(folder / "model_zoo.tsv", ZooRow).rows
    return [(row.key, row.n_bytes, row.dice, row.fault) for row in rows]


def test_shards_and_a_network_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (SmallRow(), AbsentRow(), SmallRow("other"))
    monkeypatch.delenv("VVC_NNR_PEER", raising=False)
    monkeypatch.setattr("vvc_nnr.experiments.runs.model_zoo.ROWS", rows)

    def command(name: str, *words: str) -> list[str]:
        return ["experiment", "model-zoo", "--out", str(tmp_path / name), "--qps", "-30", *words]

    assert main(command("whole", "--workers", "1")) == 0
    capsys.readouterr()
    assert main(command("shards", "--plan")) == 0
    assert [json.loads(line)["unit"] for line in capsys.readouterr().out.splitlines()] == ["small", "absent", "other"]
    for shard in ("2/2", "1/2"):
        assert main(command("shards", "--shard", shard)) == 0
        assert not (tmp_path / "shards" / "model_zoo.md").exists()
    assert main(command("shards")) == 0
    assert untimed(tmp_path / "shards") == untimed(tmp_path / "whole")
    assert {path.name for path in (tmp_path / "shards").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }
    assert "not here: weights.pth" in (tmp_path / "shards" / "model_zoo.md").read_text()
    monkeypatch.setattr("vvc_nnr.experiments.runs.model_zoo.ROWS", (rows[0], FailingRow(), rows[2]))
    assert main(command("failing")) == 2
    assert "1 of 3 units failed: failing: weights.pth: is no network. All others" in capsys.readouterr().err
    assert untimed(tmp_path / "failing") == untimed(tmp_path / "whole")


def test_rows_have_different_names_and_need_no_package_to_be_listed() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS) == 17


def test_rows_without_their_data_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VVC_NNR_DATA", str(tmp_path))
    with pytest.raises(NotHereError, match="no set12 in the data folder"):
        DenoisingRow().load(None)
    torch.manual_seed(0)
    torch.save(CarvanaUNet().state_dict(), tmp_path / "unet_carvana_scale1.0_epoch2.pth")
    with pytest.raises(NotHereError, match="a folder carvana must lie beside them"):
        CarvanaRow().load(tmp_path)


def test_random_weights_are_called_so() -> None:
    subject = CarvanaRow().load(None)
    assert (subject.weights, subject.evaluate) == ("random", None)
    assert sum(parameter.numel() for parameter in CarvanaUNet().parameters()) == 31_037_698


def test_the_bundled_unet_runs_on_the_pictures_of_scikit_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VVC_NNR_DATA", str(tmp_path))
    monkeypatch.setattr("vvc_nnr.experiments.zoo.unet.N_CROPS", 8)
    subject = PastedRow().load(None)
    assert subject.evaluate is not None
    found = subject.evaluate(subject.arrays)
    assert 0.3 < (found.dice or 0) < 1


def test_classification_counts_right_answers(tmp_path: Path) -> None:
    import cv2

    for label in ("n01", "n02"):
        (tmp_path / label).mkdir()
        cv2.imwrite(str(tmp_path / label / "a.png"), np.full((40, 60, 3), 250 if label == "n02" else 5, np.uint8))
    row = ClassificationRow("x", "alexnet", "", 32, 24)
    pictures = [(tmp_path / "n01" / "a.png", 0), (tmp_path / "n02" / "a.png", 1)]
    bright = lambda picture: torch.tensor([0.0, float(picture.mean())])  # noqa: E731
    assert row.evaluate(bright, pictures).accuracy_percent == 100
    assert row.prepared(pictures[0][0]).shape == (1, 3, 24, 24)


def test_scores_of_segmentation_and_text() -> None:
    counts = confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), 4)
    found = segmentation_metrics(counts)
    assert found.pixel_accuracy_percent == 50
    assert found.iou == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)
    assert dice(torch.tensor([1.0, -1, 1]), torch.tensor([1.0, 1, 0])) == 0.5
    assert dice(torch.tensor([-1.0]), torch.tensor([0.0])) == 1
    assert [edit_distance(*pair) for pair in (("kitten", "sitting"), ("", "ab"), ("ab", "ab"))] == [3, 2, 0]


def test_pasted_things_and_their_masks() -> None:
    picture, filling = np.full((128, 128, 3), 100, np.uint8), np.full((128, 128, 3), 200, np.uint8)
    image, mask = pasted(picture, filling, np.random.default_rng(0))
    assert set(np.unique(mask)) == {0, 1}
    away = np.asarray(torch.nn.functional.max_pool2d(torch.from_numpy(mask)[None, None].float(), 5, 1, 2))[0, 0] == 0
    assert (image[away] == 100).all()
    with torch.no_grad():
        assert UNet((4, 8)).eval()(torch.zeros(1, 3, 16, 16)).shape == (1, 1, 16, 16)


def test_the_process_of_a_codec() -> None:
    arrays = {"w": np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32), "n": np.array(5)}
    coded = code_with_ours(arrays, {}, {"qp": -30, "roles": "off"})
    assert list(coded.arrays) == ["w", "n"]
    assert 100 < coded.n_bytes < 1200
    assert min(coded.encode_s, coded.decode_s) >= 0
    with pytest.raises(ExternalToolError, match="the ours codec failed"):
        code_with_ours(arrays, {}, {"qp": 1 << 20})
    with pytest.raises(ExternalToolError, match="missing"):
        code_with_peer("/nonexistent/missing", arrays, {})


def test_the_process_of_the_reference_software_needs_one_file_of_this_package(tmp_path: Path) -> None:
    """With a stand-in for its package, under a Python that does not find this one."""
    package = tmp_path / "nncodec"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nnc.py").write_text(
        "import pickle\nfrom torchvision import REAL\n"
        "def compress(network, bitstream_path, return_bitstream, qp):\n    return pickle.dumps((network, qp))\n"
        "def decompress(data, verbose):\n    return pickle.loads(data)[0]\n"
    )
    (tmp_path / "torchvision.py").write_text("REAL = True\n")  # not the module of this name beside the file
    blocked = tmp_path / "vvc_nnr.py"
    blocked.write_text("raise ImportError('this package in the process of the reference software')\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    arrays = {"w": np.arange(6, dtype=np.float64).reshape(2, 3), "kept": np.array([True])}
    coded = code_with_peer(str(python), arrays, {"qp": -38})
    assert {name: array.dtype for name, array in coded.arrays.items()} == {"w": np.float64, "kept": np.bool_}
    np.testing.assert_array_equal(coded.arrays["w"], arrays["w"])


def test_rows_of_results_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ZooRow("n", "original", 0, None, "", "", 1, 0, None, *[None] * 10, "")
