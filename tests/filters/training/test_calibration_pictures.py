"""DnCNN, pictures for calibration, and fine-tuning for size."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import nn

from vvc_nnr.calibrate.compress_calibrated import compress_calibrated
from vvc_nnr.errors import InputError
from vvc_nnr.filters.networks.dncnn import DnCnn, dncnn_of
from vvc_nnr.filters.networks.in_loop import InLoopFilter
from vvc_nnr.filters.training.calibration_pictures import (
    CropOptions,
    crops,
    gaussian_noise,
    inloop_calibration,
    jpeg_artefacts,
    patches,
    restoration_calibration,
)
from vvc_nnr.filters.training.fine_tuning import N_SIZES, RateProxy, TuneOptions, code_lengths, tune_for_size, with_rate
from vvc_nnr.filters.training.in_loop import RestorationTask

FEW = CropOptions(n_fitted=6, n_held_out=2, side=32)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five small photographs, each of another brightness."""
    folder = tmp_path_factory.mktemp("photographs")
    astronaut = skimage.data.astronaut()
    paths = []
    for place in range(5):
        part = astronaut[80 * place : 80 * place + 96, 100:228] // 2 + 25 * place
        paths.append(folder / f"{place}.png")
        Image.fromarray(part.astype(np.uint8)).save(paths[-1])
    return paths


def network(n_layers: int = 3, n_channels: int = 8) -> DnCnn:
    torch.manual_seed(0)
    return DnCnn(n_layers, n_channels).eval()


def test_a_dncnn_is_made_from_its_tensors() -> None:
    original = network()
    found = dncnn_of({name: value.numpy() for name, value in original.state_dict().items()}, "file")
    picture = torch.rand(1, 1, 9, 9)
    torch.testing.assert_close(found(picture), original(picture))
    assert found.config == {"n_layers": 3, "n_channels": 8, "n_planes": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv0.weight": None}, "no DnCNN"),
        ({"conv1.bias": None, "conv1.b": np.zeros(8, np.float32)}, "conv1.bias: got none"),
        ({"conv2.weight": np.zeros((1, 9, 3, 3), np.float32)}, "conv2.weight: got 1x9x3x3"),
    ],
)
def test_other_tensors_are_refused(change: dict[str, np.ndarray | None], message: str) -> None:
    tensors = {name: value.numpy() for name, value in network().state_dict().items()} | change
    with pytest.raises(InputError, match=message):
        dncnn_of({name: value for name, value in tensors.items() if value is not None}, "file")


def test_no_photograph_is_both_followed_and_held_out(photographs: list[Path]) -> None:
    followed, held_out = crops(photographs, CropOptions(20, 20, 8))
    means = [np.mean(np.asarray(Image.open(path))) for path in photographs]

    def sources(parts: list[np.ndarray]) -> set[int]:
        return {place for part in parts for place, mean in enumerate(means) if abs(part.mean() - mean) < 1}

    assert {part.shape for part in followed} == {(8, 8, 3)}
    assert {part.shape for part in held_out} == {(16, 16, 3)}
    whole = crops(photographs, CropOptions(20, 20, 500))
    assert len(sources(whole[0]) & sources(whole[1])) == 0
    assert sources(whole[0]) | sources(whole[1]) == set(range(5))
    with pytest.raises(InputError, match="at least 2"):
        crops(photographs[:1], FEW)


def test_degradations_are_what_they_say(photographs: list[Path]) -> None:
    noisy = restoration_calibration(photographs, 1, gaussian_noise(25), FEW).fitted[0]
    assert noisy.target is not None
    assert float((noisy.inputs[0] - noisy.target).std()) == pytest.approx(25 / 255, rel=0.1)
    worse = [restoration_calibration(photographs, 3, jpeg_artefacts(quality), FEW).fitted[0] for quality in (10, 90)]
    errors = [float((s.inputs[0] - s.target).square().mean()) for s in worse if s.target is not None]
    assert errors[0] > 4 * errors[1] > 0
    plain = restoration_calibration(photographs, 1, None, FEW).fitted[0]
    assert plain.target is None
    with pytest.raises(InputError, match="2 planes"):
        restoration_calibration(photographs, 2, None, FEW)


def test_an_inloop_filter_is_compressed_on_coded_pictures(photographs: list[Path]) -> None:
    torch.manual_seed(0)
    model = InLoopFilter(8, 1).eval()
    nn.init.normal_(model.tail.weight, std=0.02)
    pictures = inloop_calibration(photographs, (32, 37), "all", CropOptions(4, 2, 64))
    assert [float(sample.inputs[1]) for sample in pictures.fitted] == [32, 37, 32, 37]
    found = compress_calibrated(model, pictures, max_loss_db=0.01)
    assert found.loss_db <= 0.01
    assert len(found.data) < 0.3 * found.n_original_bytes


def test_half_of_the_patches_are_small_pictures_and_none_is_held_out_too(photographs: list[Path]) -> None:
    images = np.repeat(np.arange(8, dtype=np.uint8), 32 * 32 * 3).reshape(8, 32, 32, 3)
    fitted, held_out = patches(photographs, images, 200)
    assert (fitted.shape, held_out.shape) == ((200, 32, 32, 3), (50, 32, 32, 3))
    flat = [{int(p.flat[0]) for p in part if p.std() == 0 and p.flat[0] < 8} for part in (fitted, held_out)]
    assert [len(found) for found in flat] == [6, 2]
    assert 60 < sum(p.std() == 0 and p.flat[0] < 8 for p in fitted) < 140
    with pytest.raises(InputError, match="at least 2"):
        patches(photographs, images[:1], 4)


def test_code_lengths_follow_what_is_frequent() -> None:
    sizes = torch.tensor([0.0] * 90 + [1.0] * 9 + [5.0])
    found = code_lengths(sizes)
    assert found.shape == (N_SIZES + 1,)
    assert float(found[0]) == pytest.approx(-np.log2(0.9), abs=0.1)
    assert float(found[1]) == pytest.approx(1 - np.log2(0.09), abs=0.2)
    assert bool((found.diff() >= 0).all())


def test_the_gradient_of_the_rate_pulls_weights_towards_zero() -> None:
    model = network()
    bits = RateProxy({"conv1.weight": 0.01}).bits(model)
    bits.backward()  # type: ignore[no-untyped-call]
    weight = model.get_submodule("conv1").weight
    assert isinstance(weight, torch.Tensor)
    assert weight.grad is not None
    assert bool((weight.grad * weight.detach() >= 0).all())
    assert float((weight.grad * weight.detach()).sum()) > 0


def test_tuning_saves_bytes_and_resumes(photographs: list[Path], tmp_path: Path) -> None:
    model = network()
    pictures = restoration_calibration(photographs, 1, gaussian_noise(25), FEW)
    before = compress_calibrated(model, pictures, max_bytes=400)
    arrays = [np.asarray(Image.open(path)) for path in photographs]
    options = TuneOptions(n_steps=40, batch_size=2, learning_rate=2e-3, checkpoint_every=20)

    def tune(path: Path, start: nn.Module) -> DnCnn:
        tuned = copy.deepcopy(start)
        task = RestorationTask(tuned, arrays, gaussian_noise(25), side=24, reference_mse=before.reference_mse)
        tune_for_size(with_rate(task, before, pressure=10.0), options, path)
        assert isinstance(tuned, DnCnn)
        return tuned

    tuned = tune(tmp_path / "a", model)
    proxy = RateProxy({t.name: t.step for t in before.tensors if t.step is not None and t.error_share is not None})
    assert float(proxy.bits(tuned).detach()) < float(proxy.bits(model).detach())
    after = compress_calibrated(tuned.eval(), pictures, max_bytes=400, reference=model)
    assert after.loss_db < before.loss_db
    again = tune(tmp_path / "a", model)  # from the finished checkpoint
    for name, value in tuned.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
