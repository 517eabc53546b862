"""Networks as people write them: transposed convolutions, maps and tuples, rounding inside, targets or none."""

from __future__ import annotations

import doctest
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vvc_nnr
from vvc_nnr import Calibration, Sample
from vvc_nnr.calibrate.compress_calibrated import prepare_calibrated
from vvc_nnr.calibrate.layers import checked_output, phase_windows, phases, rows_of, run_forward, straight_through
from vvc_nnr.calibrate.moments import PhaseMoments, factors, mean_outputs, phase_matrix, put_phase_matrix
from vvc_nnr.errors import InputError


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def pictures(n: int = 6, side: int = 32, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    smooth = nn.functional.avg_pool2d(torch.randn(n, 3, side + 8, side + 8, generator=generator), 9, 1)
    return [0.5 + 3 * picture[None] for picture in smooth]


TRANSPOSED: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1), (2, 3, 5, 6)),
    (nn.ConvTranspose2d(4, 6, 5, stride=2, padding=2, output_padding=1, groups=2), (1, 4, 4, 5)),
    (
        nn.ConvTranspose2d(2, 3, (3, 5), stride=(1, 3), padding=(0, 2), dilation=(2, 1), output_padding=(0, 2)),
        (2, 2, 4, 5),
    ),
    (nn.ConvTranspose2d(3, 2, 2, stride=3), (1, 3, 3, 4)),
    (nn.ConvTranspose1d(4, 3, 4, stride=2, padding=1), (2, 4, 7)),
    (nn.ConvTranspose2d(3, 4, 1), (1, 3, 3, 3)),
]


@pytest.mark.parametrize(("layer", "shape"), TRANSPOSED)
def test_a_transposed_convolution_is_its_phases_times_the_patches(layer: Any, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = layer(x)
    strides = (1, *layer.stride) if len(layer.stride) == 1 else layer.stride
    rows = output[:, :, None] if output.ndim == 3 else output
    weight = layer.weight.detach().double().reshape(*layer.weight.shape[:2], -1).numpy()
    again, n_reached = np.zeros_like(weight), 0
    for phase in phases(layer):
        taps = phase.flat_taps(layer.kernel_size[-1])
        matrix = phase_matrix(weight, taps, layer.groups)
        seen = phase_windows(layer, x, phase)
        made = np.einsum("goc,gpc->pgo", matrix, seen.patches().double().numpy()).reshape(seen.n_places, -1)
        of_phase = rows[:, :, phase.first[0] :: strides[0], phase.first[1] :: strides[1]]
        expected = rows_of(nn.Conv2d(1, 1, 1), of_phase).double().numpy() - layer.bias.detach().double().numpy()
        np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)
        put_phase_matrix(again, matrix, taps, layer.groups)
        n_reached += len(taps)
    assert n_reached == weight.shape[2]
    np.testing.assert_array_equal(again, weight)


def test_what_a_transposed_convolution_of_one_tap_is_weighed_by_is_exact() -> None:
    rng = np.random.default_rng(0)
    x, gradients = rng.normal(size=(50, 3)), rng.normal(size=(40, 2))
    columns, rows = (each.T @ each / len(each) for each in (x, gradients))
    mean = x.mean(0)[None]
    phase = PhaseMoments([0], 1.0, columns[None] - mean.T @ mean, columns[None] - mean.T @ mean, mean, mean)
    found_columns, found_rows = factors([phase.seen(has_bias=False)], rows, 1, 1)
    error = rng.normal(size=(3, 2))
    cost = np.trace(found_rows @ error @ found_columns[0] @ error.T)
    assert cost == pytest.approx(np.trace(rows @ error.T @ columns @ error))
    weight = rng.normal(size=(3, 2, 1))
    np.testing.assert_allclose(mean_outputs(weight, [phase], 1, of_original=True), (x @ weight[..., 0]).mean(0))


class Own(nn.Module):
    """An autoencoder that returns and rounds as it is told."""

    def __init__(self, returns: str = "map", rounds: str = "torch.round") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down, self.up = nn.Conv2d(3, 8, 4, 2, 1), nn.ConvTranspose2d(8, 8, 4, 2, 1)
        self.out = nn.Conv2d(8, 3, 3, padding=1)
        self.returns, self.rounds = returns, rounds

    def forward(self, x: Tensor) -> Any:
        y = 20 * self.down(x)
        match self.rounds:
            case "torch.round":
                y = torch.round(y)
            case "in place":
                y = y.clone().round_()
            case "floor":
                y = (y + 0.5).floor()
            case "integers":
                y = y.round().to(torch.int32).float()
        picture = self.out(torch.relu(self.up(y / 20)))
        if self.rounds == "at the end":
            picture = torch.round(input=picture * 255) / 255
        if self.rounds == "all cut":
            picture = (picture * 255).to(torch.uint8).float() / 255
        match self.returns:
            case "map":
                return {"x_hat": picture, "likelihoods": {"y": torch.sigmoid(y)}}
            case "one":
                return {"out": picture}
            case "two":
                return {"a": picture, "b": y}
            case "pair":
                return picture, torch.sigmoid(y)
            case "nothing":
                return None
        return picture


@pytest.mark.parametrize("rounds", ["torch.round", "in place", "floor", "at the end"])
def test_gradients_go_through_rounding_as_if_there_was_none(rounds: str) -> None:
    rounding, plain = Own("tensor", rounds), Own("tensor", "none")
    x = pictures(1)[0]
    with straight_through():
        found = checked_output(rounding, run_forward, [x])
    assert torch.equal(found, rounding(x))
    assert not torch.equal(found, plain(x))
    found.sum().backward()  # type: ignore[no-untyped-call]
    plain(x).sum().backward()
    assert rounding.down.weight.grad is not None
    assert plain.down.weight.grad is not None
    relative = (rounding.down.weight.grad - plain.down.weight.grad).norm() / plain.down.weight.grad.norm()
    assert relative < 0.2


def test_every_layer_is_calibrated_also_behind_rounding_and_transposed() -> None:
    samples = [Sample(x, x) for x in pictures()]
    candidates = prepare_calibrated(Own("map", "torch.round"), samples)
    assert [layer.name for layer in candidates.layers] == ["down", "up", "out"]
    found = candidates.compress(1e-7)
    assert all(tensor.sensitivity for tensor in found.tensors if tensor.name.endswith("weight"))
    finely = prepare_calibrated(
        Own("map", "torch.round"), samples, options=vvc_nnr.CompressOptions(qp_per_tensor={"up.weight": -52})
    )
    assert len(found.data) < 0.8 * len(finely.compress(1e-7).data)


def test_errors_of_a_transposed_convolution_are_predicted() -> None:
    """What the quadratic forms say against what the output does, where only that layer is coded."""
    network = Own("tensor", "none")
    samples = [Sample(x, x) for x in pictures(8)]
    fixed = {name: -60 for name in ("down.weight", "out.weight")}
    options = vvc_nnr.CompressOptions(qp_per_tensor=fixed, nonweight_qp=-60)
    candidates = prepare_calibrated(network, samples, options=options)
    found = candidates.compress(2e-6)
    coded = Own("tensor", "none")
    coded.load_state_dict({n: torch.from_numpy(v) for n, v in vvc_nnr.decompress(found.data).items()})
    with torch.no_grad():
        mse = np.mean([float((coded(s.inputs) - network(s.inputs)).square().mean()) for s in samples])
    (tensor,) = (each for each in found.tensors if each.name == "up.weight")
    assert tensor.sensitivity is not None
    assert tensor.step is not None
    uniform = tensor.sensitivity * tensor.step**2 / 12 * tensor.n_values
    assert 0.2 * uniform < mse < 20 * uniform


@pytest.mark.parametrize("returns", ["map", "one", "pair"])
def test_maps_and_tuples_have_their_picture(returns: str) -> None:
    samples = [Sample(x, x) for x in pictures()]
    found, plain = (prepare_calibrated(Own(each, "none"), samples).compress(1e-7) for each in (returns, "tensor"))
    assert found.data == plain.data


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Own("two"), "returns a map of a, b; must have x_hat or one tensor, or give Calibration a run"),
        (lambda: Own("nothing"), "returns a NoneType; must be a tensor, a map with x_hat, or a tuple"),
        (lambda: Own("tensor", "all cut"), "cut from its weights"),
    ],
)
def test_what_has_no_picture_or_gradient_is_told(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(InputError, match=message):
        vvc_nnr.compress(make(), calibration=pictures(), max_loss_db=0.1)


def test_a_run_of_ones_own_chooses_the_picture() -> None:
    samples = [Sample(x, x) for x in pictures()]
    calibration = Calibration(samples[:4], samples[4:], run=lambda module, x: module(x)["a"])
    assert len(vvc_nnr.compress(Own("two", "none"), calibration=calibration, max_bytes=3000)) <= 3000


def test_layers_before_a_cut_are_coded_finely_and_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    samples = [Sample(x, x) for x in pictures()]
    candidates = prepare_calibrated(Own("tensor", "integers"), samples)
    assert [layer.name for layer in candidates.layers] == ["up", "out"]
    assert "no gradient of the output reaches them: down" in caplog.text


def test_an_autoencoder_is_measured_against_its_pictures(caplog: pytest.LogCaptureFixture) -> None:
    network = Own("map")
    found = prepare_calibrated(network, pictures()).compress(1e-7)
    with torch.no_grad():
        errors = [float((network(x)["x_hat"] - x).square().mean()) for x in pictures()[3::4]]
    assert found.reference_mse == pytest.approx(errors[0])
    assert caplog.text == ""


def test_an_assumed_psnr_is_told_and_one_of_the_users_is_not(caplog: pytest.LogCaptureFixture) -> None:
    network = Own("tensor", "none")
    caplog.set_level(logging.INFO)
    prepare_calibrated(network, pictures())
    assert "6 of 6 pictures have no target but the network's output; a loss of 1 dB is one of 45.9 dB" in caplog.text
    caplog.clear()
    given = Calibration(pictures()[:4], pictures()[4:], reference_psnr_db=20)
    assert prepare_calibrated(network, given).meter.reference_mse == pytest.approx(1e-2)
    assert caplog.text == ""


def test_samples_take_arrays_and_refuse_what_is_none() -> None:
    arrays = [x.double().numpy() for x in pictures(4)]
    samples = [Sample(x, x) for x in arrays]  # type: ignore[arg-type]
    assert prepare_calibrated(Own("tensor", "none"), samples).calibration.fitted[0].inputs[0].dtype == torch.float32
    with pytest.raises(InputError, match=r"a target of shape \(1, 3, 8, 8\) for an output of \(1, 3, 32, 32\)"):
        vvc_nnr.compress(
            Own("tensor"), calibration=[Sample(x, torch.zeros(1, 3, 8, 8)) for x in pictures()], max_bytes=900
        )
    with pytest.raises(InputError, match="got str"):
        vvc_nnr.compress(Own("tensor"), calibration=[Sample(x, "x") for x in pictures()], max_bytes=900)  # type: ignore[arg-type]


def test_the_documents_example() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "calibration.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    examples = doctest.DocTestParser().get_doctest(block, {}, "calibration.md", "calibration.md", 0)
    failed, _ = doctest.DocTestRunner().run(examples)
    assert failed == 0
