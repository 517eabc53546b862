"""compress --calibrate --finetune on the command line: the networks of this package."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from vvc_nnr.experiments.cli.main import main
from vvc_nnr.filters import compress as compress_module
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.networks.in_loop import LadderFilter
from vvc_nnr.filters.training.autoencoder import AutoencoderTask, PatchSource
from vvc_nnr.filters.training.calibration_pictures import divided
from vvc_nnr.filters.training.loop import TrainOptions, train
from vvc_nnr.filters.zoo import load_autoencoder, load_inloop_filter, network_metadata, network_tensors
from vvc_nnr.model.safetensors import write_float
from vvc_nnr.sequences.images import image_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small in-loop filter, a small autoencoder that was trained for a moment, and photographs."""
    folder = tmp_path_factory.mktemp("finetune")
    (folder / "pictures").mkdir()
    pictures = [np.asarray(part) for part in np.split(skimage.data.astronaut()[:480], 3)]
    for place, part in enumerate(pictures):
        Image.fromarray(part[:, :192]).save(folder / "pictures" / f"{place}.png")
    torch.manual_seed(0)
    ladder = LadderFilter(4, 1)
    torch.nn.init.normal_(ladder.tail.weight, std=0.1)
    autoencoder = Autoencoder(n_latents=4, n_fine=4, n_coarse=6, n_blocks=1)
    task = AutoencoderTask(autoencoder, [PatchSource(pictures, 1.0)], pictures[0][None, :32, :32], 0.03, seed=0)
    train(task, TrainOptions(60, 8, 1e-2, warmup_steps=5, ema_decay=0.9, device="cpu"), folder / "checkpoint")
    task.fit_tables(200)
    for name, network in (("filter", ladder), ("autoencoder", autoencoder)):
        write_float(folder / f"{name}.safetensors", network_tensors(network), network_metadata(network))
    return folder


def compress(folder: Path, output: Path, name: str, *options: str) -> int:
    pictures = str(folder / "pictures")
    tuning = ["--finetune", "--hours", "0.0004", "--calibrate", pictures, "--crops", "4", *options]
    return main(["compress", str(folder / f"{name}.safetensors"), "-o", str(output), *tuning])


def test_an_in_loop_filter_learns_on_pairs_of_photographs_that_do_not_measure(folder: Path, tmp_path: Path) -> None:
    pictures = image_files(folder / "pictures")
    held_out = {path.stem for path in divided(pictures)[0].held_out}
    assert compress(folder, tmp_path / "a.nnc", "filter", "--max-loss-db", "0.05", "--qps", "37") == 0
    assert isinstance(load_inloop_filter(tmp_path / "a.nnc"), LadderFilter)
    pairs = {path.name[5:].partition("_")[0] for path in (tmp_path / "a.nnc.pairs").iterdir() if path.is_dir()}
    assert len(held_out) == 1
    assert pairs == {path.stem for path in pictures} - held_out


def test_an_autoencoder_keeps_its_rate(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compress_module, "_seconds_per_step", lambda *_: 1.44 / 40)  # as many steps on any machine
    assert compress(folder, tmp_path / "a.nnc", "autoencoder", "--max-loss-db", "0.3", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    # Quantising so small a network moves the rate by a fifth too, and differently on other machines.
    (point,) = report["operating_points"]
    assert point["bpp"] == pytest.approx(point["original_bpp"], rel=0.25)
    load_autoencoder(tmp_path / "a.nnc")


def test_photographs_that_all_measure_leave_none_to_train_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measuring = divided(image_files(folder / "pictures"))[0].held_out[0]
    data = tmp_path / "data"
    data.mkdir()
    (data / measuring.name).symlink_to(measuring)
    assert compress(folder, tmp_path / "a.nnc", "filter", "--max-loss-db", "0.05", "--data", str(data)) == 2
    assert "all of its photographs measure the loss" in capsys.readouterr().err
    assert not (tmp_path / "a.nnc").exists()


def test_a_tuned_network_that_is_worse_leaves_the_file_of_before(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(model: torch.nn.Module, *_: object) -> torch.nn.Module:
        spoiled = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in spoiled.parameters():
                parameter.mul_(3)
        return spoiled

    options = ["--max-loss-db", "0.001", "--qps", "37"]
    plain = ["--calibrate", str(folder / "pictures"), "--crops", "4", *options]
    assert main(["compress", str(folder / "filter.safetensors"), "-o", str(tmp_path / "a.nnc"), *plain]) == 0
    monkeypatch.setattr(compress_module, "tuned", spoil)
    assert compress(folder, tmp_path / "b.nnc", "filter", *options) == 0
    assert "the file of before is written" in capsys.readouterr().err
    assert (tmp_path / "b.nnc").read_bytes() == (tmp_path / "a.nnc").read_bytes()
