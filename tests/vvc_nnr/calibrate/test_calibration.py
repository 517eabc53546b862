"""Calibrated compression: what layers see, passes that wait, pictures, and whole networks to a loss or a size."""

from __future__ import annotations

import copy
import itertools
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vvc_nnr
from vvc_nnr import Calibration, Sample
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.calibrate import moments
from vvc_nnr.calibrate.calibration import as_calibration
from vvc_nnr.calibrate.coding_at_lambda import CalibratedCoder
from vvc_nnr.calibrate.compress_calibrated import compress_calibrated, prepare_calibrated
from vvc_nnr.calibrate.layers import find_layers, rows_of, run_forward, weight_order, windows
from vvc_nnr.calibrate.moments import (
    BothPasses,
    Evidence,
    PausedPasses,
    _GradientSums,
    block_count,
    input_moments,
    output_moments,
)
from vvc_nnr.coding.unit_coding import decode_unit
from vvc_nnr.errors import InputError, UnsupportedError
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.rate_distortion import damped, feedback_of


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def small_network(seed: int = 0, n_channels: int = 16) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, n_channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(n_channels, n_channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(n_channels, 1, 3, padding=1),
    ).eval()


def pictures(n: int = 6, side: int = 24, seed: int = 1) -> list[Tensor]:
    """Smooth pictures, as photographs are."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, 1, side + 8, side + 8, generator=generator)
    smooth = nn.functional.avg_pool2d(noise, 9, 1)
    return [0.5 + picture[None] for picture in smooth]


def at_40_db(given: list[Tensor]) -> Calibration:
    """Every fourth held out, and a network that is taken to reach 40 dB of a picture from 0 to 1."""
    fitted = [picture for place, picture in enumerate(given) if (place + 1) % 4]
    return Calibration(fitted, given[3::4], reference_psnr_db=40)


def patches(layer: nn.Module, x: Tensor, chosen: Tensor | None = None) -> Tensor:
    """In the order of the weight's columns."""
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)
    return windows(layer, x).patches(chosen)[:, :, weight_order(layer)]


LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Linear(5, 7), (3, 4, 5)),
    (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 11)),
    (nn.Conv2d(3, 5, (3, 2), padding=(2, 1), dilation=(2, 1)), (2, 3, 9, 8)),
    (nn.Conv2d(6, 6, 3, padding="same", groups=6), (1, 6, 7, 7)),
    (nn.Conv2d(2, 4, 4, padding="same", padding_mode="reflect"), (1, 2, 9, 9)),
    (nn.Conv2d(2, 4, 3, padding="valid", stride=2), (1, 2, 9, 9)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_a_layer_is_its_weight_times_the_patches(layer: nn.Module, shape: tuple[int, ...]) -> None:
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    seen = patches(layer, x)
    some = torch.tensor([1, 0, windows(layer, x).n_places - 1])
    assert torch.equal(patches(layer, x, some), seen[:, some])
    weight = layer.weight.reshape(len(seen), -1, seen.shape[2])
    rows = torch.einsum("gpc,grc->pgr", seen, weight).flatten(1) + layer.bias
    torch.testing.assert_close(rows, rows_of(layer, layer(x)), rtol=1e-4, atol=1e-5)


def test_layers_come_in_the_order_of_the_network() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first, self.unused = nn.Linear(4, 2), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(self.first(self.first(x)))
            return y

    found = find_layers(Backwards(), run_forward, [torch.zeros(3, 4)])
    assert [(layer.name, layer.n_places) for layer in found] == [("first", 6), ("last", 3)]


def test_layers_that_share_a_weight_are_left_out() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    network[2].weight = network[0].weight
    assert [layer.name for layer in find_layers(network, run_forward, [torch.zeros(1, 4)])] == ["1"]


def test_passes_wait_for_the_weights_before_them() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    samples = [(torch.randn(2, 3),) for _ in range(3)]
    layers = find_layers(network, run_forward, samples[0])
    with PausedPasses(network, layers, samples, run_forward) as passes:
        for layer in layers:
            for place, (x,) in enumerate(samples):
                seen = passes.inputs_of(place, layer)
                assert seen is not None
                end = next(i for i, module in enumerate(network) if module is layer.module(network))
                torch.testing.assert_close(seen, network[:end](x).detach())
            with torch.no_grad():
                layer.module(network).weight.mul_(-1.5)


def test_an_error_in_a_pass_comes_out_and_no_thread_stays() -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken")

    network = nn.Sequential(nn.Linear(3, 3), Failing(), nn.Linear(3, 3))
    good = nn.Sequential(network[0], nn.Identity(), network[2])
    layers = find_layers(good, run_forward, [torch.zeros(1, 3)])
    before = threading.active_count()
    with PausedPasses(network, layers, [(torch.zeros(1, 3),)] * 4, run_forward) as passes:
        assert passes.inputs_of(0, layers[0]) is not None
        with pytest.raises(InputError, match="RuntimeError: broken"):
            passes.inputs_of(0, layers[1])
    assert threading.active_count() == before


def test_input_moments_are_means_over_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    network, changed = small_network(), small_network(3)
    samples = [(picture,) for picture in pictures(2, 12)]
    layers = find_layers(network, run_forward, samples[0])
    with (
        PausedPasses(network, layers, samples, run_forward) as before,
        PausedPasses(changed, layers, samples, run_forward) as after,
    ):
        monkeypatch.setattr(Evidence, "shares", lambda self: 1)
        for layer in layers[:2]:
            module = layer.module(network)
            assert isinstance(module, nn.Conv2d)
            found = input_moments(layer, module, BothPasses(before, after, 2, torch.Generator()))
    assert found is not None
    u = torch.cat([patches(network[2], network[:2](x)) for (x,) in samples], 1)[0].detach().double().numpy()
    v = torch.cat([patches(changed[2], changed[:2](x)) for (x,) in samples], 1)[0].detach().double().numpy()
    np.testing.assert_allclose(found.columns[0], np.cov(v.T, bias=True), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.about_zero().columns[0], v.T @ v / len(v), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.about_zero().crossed[0], u.T @ v / len(v), rtol=1e-4, atol=1e-6)


def test_inputs_that_are_constant_but_for_rounding_weigh_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    constants = torch.rand(20, generator=generator)
    samples = []
    for _ in range(4):
        alive = 0.5 + 0.01 * torch.randn(9216, 4, generator=generator)
        samples.append((torch.cat([constants.expand(9216, -1), alive], 1),))
    network = nn.Sequential(nn.Linear(24, 2))
    layers = find_layers(network, run_forward, samples[0])
    with (
        PausedPasses(network, layers, samples, run_forward) as before,
        PausedPasses(network, layers, samples, run_forward) as after,
    ):
        found = input_moments(layers[0], network[0], BothPasses(before, after, 4, torch.Generator()))
    assert found is not None
    feedback_of(damped(found.columns))  # else: not positive definite
    assert not found.columns[0, :20].any()
    assert not found.crossed[0, :, :20].any()
    np.testing.assert_allclose(np.diag(found.columns[0])[20:], 1e-4, rtol=0.05)
    np.testing.assert_allclose(found.mean[0, :20], constants, rtol=1e-4)


def test_output_moments_tell_what_an_error_of_a_layer_costs() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5))
    samples = [(torch.randn(200, 4),) for _ in range(20)]
    layers = find_layers(network, run_forward, samples[0])
    generator = torch.Generator().manual_seed(0)
    found = output_moments(network, layers, samples, [1.0] * 20, run_forward, generator)
    second = network[1].weight.detach().double().numpy()
    np.testing.assert_allclose(found["0"], second.T @ second / 5, atol=0.03)
    np.testing.assert_allclose(found["1"], np.eye(5) / 5, atol=0.02)


def output_mse(network: nn.Module, data: bytes, held_out: list[Tensor]) -> float:
    decoded = copy.deepcopy(network)
    decoded.load_state_dict({name: torch.from_numpy(value) for name, value in vvc_nnr.decompress(data).items()})
    with torch.no_grad():
        return float(np.mean([float((decoded(x) - network(x)).square().mean()) for x in held_out]))


def test_the_loss_is_kept_and_the_file_much_smaller() -> None:
    network = small_network()
    plain = vvc_nnr.compress(network, qp=-38)
    mse = output_mse(network, plain, pictures(4, seed=9))
    loss_db = 10 * np.log10(1 + mse / 1e-4)
    lines: list[str] = []
    found = compress_calibrated(network, at_40_db(pictures(12)), max_loss_db=loss_db, report=lines.append)
    assert 0 < found.loss_db <= loss_db
    assert len(found.data) < 0.75 * len(plain)
    assert output_mse(network, found.data, pictures(4, seed=9)) < 1.5 * mse
    assert found.n_candidates == sum(line.startswith("lambda") for line in lines)
    assert found.n_held_out == 3
    assert [t.name for t in found.tensors] == list(network.state_dict())
    assert sum(t.error_share or 0 for t in found.tensors) == pytest.approx(1)
    assert all(t.qp is not None for t in found.tensors)


def test_a_lambda_is_one_candidate_and_a_higher_one_a_smaller_file() -> None:
    candidates = prepare_calibrated(small_network(), pictures())
    cheap, dear = (candidates.compress(lambda_rd) for lambda_rd in (1e-9, 1e-7))
    assert (cheap.n_candidates, cheap.lambda_rd, dear.lambda_rd) == (1, 1e-9, 1e-7)
    assert len(dear.data) < len(cheap.data)
    assert dear.loss_db > cheap.loss_db
    with pytest.raises(InputError, match=r"lambda -1.0: must be a number above 0"):
        candidates.compress(-1.0)


def test_equal_inputs_make_equal_files_and_leave_the_network_alone() -> None:
    network = small_network()
    before = copy.deepcopy(network.state_dict())
    found = [compress_calibrated(network, pictures(), max_loss_db=0.1).data for _ in range(2)]
    assert found[0] == found[1]
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("use_dq", [True, False])
def test_a_size_is_kept(use_dq: bool) -> None:
    options = CompressOptions(use_dq=use_dq)
    found = compress_calibrated(small_network(), pictures(), max_bytes=1500, options=options)
    assert 1300 < len(found.data) <= 1500


def test_the_public_door_takes_pictures_of_several_inputs() -> None:
    class Gain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small_network()
            self.register_buffer("table", torch.arange(5))

        def forward(self, x: Tensor, gain: Tensor) -> Tensor:
            y: Tensor = x + gain * self.net(x)
            return y

    given = [(x, torch.tensor(0.5)) for x in pictures()]
    data = vvc_nnr.compress(Gain().eval(), calibration=given, max_loss_db=0.5, metadata={"made": "here"})
    report = vvc_nnr.inspect(data)
    assert report.metadata["made"] == "here"
    assert vvc_nnr.decompress(data)["table"].tolist() == [0, 1, 2, 3, 4]


def test_half_precision_and_layers_without_bias() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)).half()
    data = compress_calibrated(network, pictures(), max_loss_db=0.5).data
    assert {value.dtype for value in vvc_nnr.decompress(data).values()} == {np.dtype(np.float16)}


def test_what_no_layer_has_is_coded_by_its_role() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    norm.register_buffer("mask", torch.tensor([0.1, -torch.inf]))
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)).eval()
    with torch.no_grad():
        network[0].weight[3] *= 1e-5
        network[0].bias[3] = 0
        norm.running_var[3] = 1e-9
        norm.eps = 1e-12
    decoded = vvc_nnr.decompress(vvc_nnr.compress(network, calibration=pictures(), max_loss_db=0.5))
    assert decoded["1.running_var"][3] == pytest.approx(1e-9, rel=2**-8)
    assert (decoded["1.weight"] == 1).all()
    assert decoded["1.mask"].tobytes() == norm.mask.numpy().tobytes()


class Mixed(nn.Module):
    """A matrix that no layer has."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.eye(8) + 0.1 * torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,cd->ndhw", x, self.mix)


def test_matrices_of_no_known_layer_follow_their_spread_unless_a_qp_is_given() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), Mixed(), nn.Conv2d(8, 1, 1)).eval()
    with torch.no_grad():
        network[1].mix.mul_(1e-4)
    made = prepare_calibrated(network, pictures()).compress(1e-9)
    assert [tensor.name for tensor in made.uncalibrated] == ["1.mix"]
    assert 0 < made.uncalibrated_share < 0.9
    error = vvc_nnr.decompress(made.data)["1.mix"] - network[1].mix.detach().numpy()
    assert np.square(error).sum() < 10**-2 * float(network[1].mix.detach().square().sum())
    given = prepare_calibrated(network, pictures(), options=CompressOptions(qp=-32)).compress(1e-9)
    assert {tensor.name: tensor.qp for tensor in vvc_nnr.inspect(given.data).tensors}["1.mix"] == -32


def rescaled(network: nn.Sequential, seed: int = 0) -> nn.Sequential:
    """A network that computes the same: output channels of a layer times s, the next layer's weights for them by s."""
    found = copy.deepcopy(network)
    layers: list[Any] = [module for module in found if not isinstance(module, nn.ReLU)]
    generator = torch.Generator().manual_seed(seed)

    def along(scale: Tensor, weight: Tensor, axis: int) -> Tensor:
        return scale.reshape([-1 if place == axis else 1 for place in range(weight.ndim)])

    with torch.no_grad():
        for layer, following in itertools.pairwise(layers):
            scale = torch.exp(0.75 * torch.randn(len(layer.bias), generator=generator))
            inputs_first = isinstance(layer, nn.ConvTranspose1d)
            layer.weight.mul_(along(scale, layer.weight, int(inputs_first)))
            layer.bias.mul_(scale)
            following.weight.div_(along(scale, following.weight, int(not inputs_first)))
    return found


def test_channels_of_unlike_scale_are_no_matter() -> None:
    network = small_network(n_channels=32)
    other = rescaled(network)
    x = pictures(1)[0]
    torch.testing.assert_close(network(x), other(x), rtol=1e-3, atol=1e-5)
    made, same = (prepare_calibrated(each, at_40_db(pictures(12))).compress(3e-10) for each in (network, other))
    cost, other_cost = (
        1e-4 * (10 ** (each.loss_db / 10) - 1) + 3e-10 * 8 * len(each.data) for each in (made, same)
    )  # what both are to make least
    assert other_cost < 1.25 * cost


OTHER_LAYERS: dict[str, tuple[Callable[[int, int], nn.Module], tuple[int, ...]]] = {
    "linear": (nn.Linear, (64, 24)),
    "one-dimensional": (lambda a, b: nn.Conv1d(a, b, 3, padding=1), (1, 4, 128)),
    "transposed": (lambda a, b: nn.ConvTranspose1d(a, b, 3, padding=1), (1, 4, 128)),
    "transposed, stride 2": (lambda a, b: nn.ConvTranspose1d(a, b, 4, stride=2, padding=1), (1, 4, 64)),
}


@pytest.mark.parametrize("kind", OTHER_LAYERS)
def test_layers_of_all_kinds_bear_channels_of_unlike_scale(kind: str) -> None:
    layer, shape = OTHER_LAYERS[kind]
    torch.manual_seed(0)
    first, second, third = (layer(*sides) for sides in ((24 if kind == "linear" else 4, 32), (32, 32), (32, 8)))
    network = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third).eval()
    noise = torch.randn(12, *shape[:-1], shape[-1] + 8, generator=torch.Generator().manual_seed(1))
    given = [*nn.functional.avg_pool1d(noise.flatten(0, 1), 9, 1).reshape(12, *shape) * 2]
    calibration, lambda_rd = replace(at_40_db(given), accepts_small=True), 3e-10

    def cost(made_of: nn.Module, options: CompressOptions | None = None) -> float:
        made = prepare_calibrated(made_of, calibration, options=options).compress(lambda_rd)
        return 1e-4 * (10 ** (made.loss_db / 10) - 1) + lambda_rd * 8 * len(made.data)

    other = rescaled(network)
    torch.testing.assert_close(network(given[0]), other(given[0]), rtol=1e-3, atol=1e-5)
    plain, unlike, scaled = cost(network), cost(other), cost(other, CompressOptions(local_scaling=True))
    assert unlike < 1.5 * plain
    assert scaled < 0.98 * unlike


def test_scales_of_rows_where_errors_of_rows_cost_unlike(caplog: pytest.LogCaptureFixture) -> None:
    network = rescaled(small_network(n_channels=32), seed=1)
    options = CompressOptions(local_scaling=True)
    coder = prepare_calibrated(network, at_40_db(pictures(12)), options=options)
    made = coder.compress(3e-10)
    assert "2.weight" in made.scaled
    report = {tensor.name: tensor for tensor in vvc_nnr.inspect(made.data).tensors}
    assert [name for name, tensor in report.items() if tensor.scaling_qp is not None] == [*made.scaled]
    assert all(tensor.qp == report[tensor.name].qp for tensor in made.tensors if tensor.name in made.scaled)
    (tensor,) = (each for each in read_stream(made.data).tensors if each.name == "2.weight")
    unit, sets = tensor.data_units[0], tensor.units[0].parameter_sets
    scales = decode_unit(unit, sets, output="values", max_elements=10**5)[0].numbers[:, 0]
    costs = np.diagonal(coder.gradients["2"])
    assert np.corrcoef(np.log(scales), np.log(costs))[0, 1] < -0.95
    whole = compress_calibrated(network, at_40_db(pictures(12)), max_loss_db=0.02, options=options)
    assert ("a scale for each row" in caplog.text) == bool(whole.scaled)
    few_rows = compress_calibrated(small_network(), pictures(8), max_loss_db=1.0, options=options)
    assert not few_rows.scaled
    assert "no tensor has scales" in caplog.text


def test_the_networks_own_output_is_the_target_where_none_is_given(caplog: pytest.LogCaptureFixture) -> None:
    network, given = small_network(), pictures(8)
    with torch.no_grad():
        outputs = [network(x) for x in given]
        power = sum(float(y.square().mean()) for y in outputs) / 8
    alone = compress_calibrated(network, given, max_loss_db=1.0)
    with_itself = [Sample(x, y) for x, y in zip(given, outputs, strict=True)]
    assert compress_calibrated(network, with_itself, max_loss_db=1.0).data == alone.data
    assert alone.reference_mse == pytest.approx(1e-4 * power)
    assert output_mse(network, alone.data, given[3::4]) < 10**-4.5 * power  # 45.9 dB on average
    assert "target" not in caplog.text
    louder = copy.deepcopy(network)
    with torch.no_grad():
        louder[-1].weight.mul_(64), louder[-1].bias.mul_(64)  # type: ignore[union-attr]
    again = compress_calibrated(louder, given, max_loss_db=1.0)
    assert abs(len(again.data) - len(alone.data)) < 0.05 * len(alone.data)


def test_rows_that_few_pictures_need_are_not_taken_for_useless() -> None:
    rng = np.random.default_rng(0)
    scales = 10.0 ** rng.uniform(-3, 3, 64)
    outputs, found = torch.from_numpy(rng.normal(size=(500, 64)) / scales).float(), {}
    for kind in ("few", "all"):
        sums = _GradientSums()
        sums.see(outputs)
        for _ in range(12):
            needed = rng.random(64) < 0.1 if kind == "few" else np.arange(64) < 8
            sums.add(torch.from_numpy(rng.normal(size=(200, 64)) * scales * needed).float())
        costs = np.diagonal(sums.moments(1)) / scales**2
        found[kind] = costs / costs.mean()
    assert found["few"].min() > 0.3
    assert found["all"][8:].max() < 0.05


def test_wide_matrices_are_weighed_in_blocks_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [block_count(n) for n in (576, 1152, 2304, 4608, 8192, 2311)] == [1, 1, 2, 4, 8, 1]
    network = small_network()
    whole = prepare_calibrated(network, at_40_db(pictures(12))).compress(1e-9)
    monkeypatch.setattr(moments, "MAX_BLOCK_COLUMNS", 72)
    monkeypatch.setattr(moments, "MIN_BLOCK_COLUMNS", 9)
    assert block_count(144) == 2
    halves = prepare_calibrated(network, at_40_db(pictures(12))).compress(1e-9)
    assert halves.data != whole.data
    assert halves.loss_db < 2 * whole.loss_db
    assert len(halves.data) < 1.1 * len(whole.data)


def test_second_moments_are_believed_by_evidence() -> None:
    rng = np.random.default_rng(0)
    scales = 10.0 ** rng.uniform(-3, 3, 40)

    def kept(n_pictures: int, mixed: bool) -> float:
        mix, evidence = rng.normal(size=(40, 40)) if mixed else np.eye(40), Evidence()
        for contrast in 10.0 ** rng.uniform(-1, 1, n_pictures):
            x = rng.normal(size=(10, 40)) @ mix * scales * contrast
            evidence.add((x.T @ x)[None])
        shares = evidence.shares()[0]
        assert (np.diagonal(shares) == 1).all()
        return float(shares[0, -1])

    assert kept(1, True) == 1.0
    assert kept(4, False) < 0.3
    assert kept(400, True) > 0.95 > kept(6, True) > kept(6, False)
    same = Evidence()
    for contrast in (1.0, 100.0, 0.01):
        same.add(np.full((1, 3, 3), contrast) + contrast * np.eye(3))
    np.testing.assert_allclose(same.shares(), 1)


def test_files_without_calibration_are_held_against_calibrated_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    network, lines = small_network(), list[str]()
    fair = compress_calibrated(network, at_40_db(pictures()), max_loss_db=0.001, report=lines.append)
    assert fair.method == "calibrated"
    assert any(line.startswith("without calibration: ") for line in lines)
    assert lines[-1].startswith("taken: calibrated")
    monkeypatch.setattr(
        CalibratedCoder, "compress", lambda self, _: replace(self.compress_plainly(quality=60.0).network, loss_db=0.04)
    )
    for limits in ({"max_loss_db": 0.05}, {"max_bytes": len(fair.data) + 2000}):
        plain = compress_calibrated(network, at_40_db(pictures()), **limits)  # type: ignore[arg-type]
        assert plain.method == "plain"
        assert plain.loss_db <= 0.05
        vvc_nnr.load_into(small_network(1), plain.data)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("normed", [nn.utils.spectral_norm, nn.utils.weight_norm])
def test_networks_that_keep_computed_weights_are_compressed(normed: Callable[[nn.Module], nn.Module]) -> None:
    network = small_network()
    network[2] = normed(network[2])
    network.train()
    for picture in pictures():
        network(picture)
    data = vvc_nnr.compress(network.eval(), calibration=pictures(), max_loss_db=0.5)
    assert vvc_nnr.decompress(data).keys() == network.state_dict().keys()


def test_networks_that_cannot_be_copied_are_refused() -> None:
    network = small_network()
    network.lock = threading.Lock()
    with pytest.raises(UnsupportedError, match="cannot be copied"):
        compress_calibrated(network, pictures(), max_loss_db=0.5)


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 8), nn.InstanceNorm2d(8)])
def test_statistics_of_whole_pictures_are_no_receptive_field(norm: nn.Module) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), norm, nn.SiLU(), nn.Conv2d(8, 1, 3, padding=1)).eval()
    assert compress_calibrated(network, pictures(), max_loss_db=0.5).loss_db <= 0.5
    with pytest.raises(InputError, match=r"5x5 is smaller than .*--accept-small"):
        compress_calibrated(network, pictures(4, 5), max_loss_db=0.5)


def test_bytes_of_the_original_are_those_of_its_number_formats() -> None:
    found = [compress_calibrated(small_network().to(kind), pictures(), max_bytes=2000) for kind in
             (torch.float32, torch.bfloat16)]  # fmt: skip
    assert found[0].n_original_bytes == 2 * found[1].n_original_bytes > 0


def test_targets_decide_over_what_the_network_did() -> None:
    network = small_network()
    with torch.no_grad():
        samples = tuple(Sample((x,), network(x) + 0.1) for x in pictures(8))
    found = compress_calibrated(network, Calibration(samples[:6], samples[6:]), max_loss_db=0.05)
    assert found.loss_db <= 0.05
    assert found.reference_mse == pytest.approx(0.01, rel=1e-3)


def nan_network() -> nn.Module:
    network = small_network()
    with torch.no_grad():
        network[2].weight[0, 0, 0, 0] = torch.nan
    return network


BAD: dict[str, tuple[Callable[[], nn.Module], object, dict[str, object], str]] = {
    "no pictures": (small_network, [], {"max_loss_db": 0.1}, "at least two pictures"),
    "one picture": (small_network, pictures(1), {"max_loss_db": 0.1}, "at least two pictures"),
    "a batch": (small_network, torch.zeros(4, 1, 24, 24), {"max_loss_db": 0.1}, "a list of pictures"),
    "a word": (small_network, ["x", "y"], {"max_loss_db": 0.1}, "got str"),
    "NaN in a picture": (small_network, [torch.full((1, 1, 24, 24), torch.nan)] * 2, {"max_loss_db": 0.1}, "NaN"),
    "too small": (small_network, pictures(4, 6), {"max_loss_db": 0.1}, "6x6 is smaller than .* receptive field"),
    "too few planes": (small_network, [torch.zeros(1, 3, 24, 24)] * 2, {"max_loss_db": 0.1}, "cannot be run"),
    "NaN from the network": (nan_network, pictures(), {"max_loss_db": 0.1}, "returns NaN"),
    "no limit": (small_network, pictures(), {}, "one of max_loss_db and max_bytes"),
    "two limits": (small_network, pictures(), {"max_loss_db": 0.1, "max_bytes": 5}, "one of"),
    "no loss": (small_network, pictures(), {"max_loss_db": 0.0}, "above 0"),
    "no bytes": (small_network, pictures(), {"max_bytes": 0}, "max_bytes"),
    "a loss out of reach": (small_network, pictures(3), {"max_loss_db": 1e-30}, "cannot be kept; the nearest"),
    "a size out of reach": (small_network, pictures(3), {"max_bytes": 20}, "max_bytes: 20 cannot be kept"),
    "no layer": (
        nn.Identity,
        pictures(),
        {"max_loss_db": 0.1},
        "no fully connected, convolutional, recurrent or attention layer",
    ),
    "a bit depth": (
        small_network,
        pictures(),
        {"max_loss_db": 0.1, "options": CompressOptions(bitdepth=8)},
        "not with bitdepth",
    ),
    "lossless": (
        small_network,
        pictures(),
        {"max_loss_db": 0.1, "options": CompressOptions(lossless=True)},
        "lossless",
    ),
    "QPs by size": (
        small_network,
        pictures(),
        {"max_loss_db": 0.1, "options": CompressOptions(qp_by_size=True)},
        "not with qp_by_size",
    ),
    "a search": (
        small_network,
        pictures(),
        {"max_loss_db": 0.1, "options": CompressOptions(search="thorough")},
        "not with search 'thorough'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case: str) -> None:
    make, given, limits, message = BAD[case]
    with pytest.raises(InputError, match=message):
        compress_calibrated(make(), given, **limits)  # type: ignore[arg-type]


def test_small_pictures_pass_if_they_are_meant() -> None:
    samples = tuple(Sample((x,)) for x in pictures(4, 6))
    found = compress_calibrated(
        small_network(), Calibration(samples[:3], samples[3:], accepts_small=True), max_bytes=2000
    )
    assert len(found.data) <= 2000


def test_limits_without_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="calibration"):
        vvc_nnr.compress(small_network(), max_loss_db=0.1)


def test_every_fourth_picture_is_held_out() -> None:
    found = as_calibration(pictures(9), small_network())
    assert (len(found.fitted), len(found.held_out)) == (7, 2)


def test_of_files_with_a_gain_the_smallest_is_taken_and_the_gain_told(caplog: pytest.LogCaptureFixture) -> None:
    network = small_network()
    samples = tuple(Sample((x,), torch.zeros_like(x)) for x in pictures())
    given = Calibration(samples[2:], samples[:2])
    lines: list[str] = []
    found = compress_calibrated(network, given, max_loss_db=0.05, report=lines.append)
    words = [re.sub("taken: (calibrated|plain), ", "taken: ", line).split(": ")[1].split() for line in lines]
    candidates = [(int(each[0]), float(each[-2])) for each in words]
    assert len(found.data) == min(n_bytes for n_bytes, loss_db in candidates if loss_db <= 0.05)
    assert found.loss_db < -0.05
    assert "dB worse than the coded one" in caplog.text
