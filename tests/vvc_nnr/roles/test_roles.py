"""Roles: what each tensor is told to be, and that the rule of its role holds after decoding."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vvc_nnr.bitstream.number_formats import FloatBits, in_format
from vvc_nnr.bitstream.qp import qp_limits, step_size
from vvc_nnr.compress import compress, decompress, inspect, load_into
from vvc_nnr.errors import InputError
from vvc_nnr.model.torch import named_arrays
from vvc_nnr.quantize.step_choice import exact_qp, qp_of_slices, size_offsets
from vvc_nnr.roles.by_module import module_roles
from vvc_nnr.roles.by_name import has_whole_values, named_roles
from vvc_nnr.roles.roles import Role, override_roles

RANDOM = np.random.default_rng(3)


def floats(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return RANDOM.normal(0, 0.05, shape).astype(np.float32)


STATE: dict[str, tuple[Any, Role]] = {
    "conv.weight": (floats(8, 3, 3, 3), Role.WEIGHT),
    "conv.bias": (floats(8), Role.BIAS),
    "stem.1.weight": (floats(8), Role.NORM_SCALE),
    "stem.1.bias": (floats(8), Role.NORM_SHIFT),
    "stem.1.running_mean": (floats(8), Role.MEAN),
    "stem.1.running_var": (np.abs(floats(8)), Role.VARIANCE),
    "stem.1.num_batches_tracked": (np.array(7), Role.COUNTER),
    "layer_norm.weight": (floats(8), Role.NORM_SCALE),
    "layer_norm.bias": (floats(8), Role.NORM_SHIFT),
    "eb.quantiles": (floats(4, 1, 3), Role.ENTROPY_TABLE),
    "eb.matrices.0": (floats(4, 3, 1), Role.ENTROPY_PARAMETER),
    "eb._bias1": (floats(4, 3, 1), Role.ENTROPY_PARAMETER),
    "eb._quantized_cdf": (np.arange(12, dtype=np.int32).reshape(4, 3), Role.ENTROPY_TABLE),
    "eb.likelihood_lower_bound.bound": (floats(1), Role.ENTROPY_TABLE),
    "gc.scale_table": (floats(9), Role.ENTROPY_TABLE),
    "g.1.beta": (floats(8), Role.GDN),
    "g.1.gamma": (floats(8, 8), Role.GDN),
    "g.1.beta_reparam.pedestal": (floats(1), Role.CONSTANT),
    "dfl.conv.weight": (np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1), Role.CONSTANT),
    "attn.mask": (np.triu(np.full((4, 4), -np.inf, np.float32), 1), Role.CONSTANT),
    "detect.anchors": (floats(3, 3, 2), Role.CONSTANT),
    "logit_scale": (np.float32(4.6), Role.CONSTANT),
    "vocoder.weight_g": (floats(16, 1, 1), Role.NORM_SCALE),
    "vocoder.weight_v": (floats(16, 8, 3), Role.DIRECTION),
    "l.parametrizations.weight.original0": (floats(16, 1), Role.NORM_SCALE),
    "l.parametrizations.weight.original1": (floats(16, 8), Role.DIRECTION),
    "s.parametrizations.weight.original": (floats(16, 8), Role.DIRECTION),
    "s.parametrizations.weight.0._u": (floats(16), Role.BIAS),
    "o.weight_orig": (floats(16, 8), Role.DIRECTION),
    "o.weight_u": (floats(16), Role.BIAS),
    "state._extra_state": (floats(3), Role.CONSTANT),
    "position_ids": (np.arange(9)[None], Role.CONSTANT),
    "embedding.weight": (floats(30, 8), Role.WEIGHT),
}


def test_names_shapes_and_values_tell_roles() -> None:
    arrays = named_arrays({name: array for name, (array, _) in STATE.items()})
    found = named_roles(arrays)
    assert {name: role.role for name, role in found.items()} == {name: role for name, (_, role) in STATE.items()}
    assert all(role.reason for role in found.values())


def roles_of(arrays: dict[str, Any]) -> dict[str, Role]:
    return {name: told.role for name, told in named_roles(arrays).items()}


@pytest.mark.parametrize(
    "name",
    [
        *("bn/moving_variance", "bn/moving_variance:0", "model/bn/running_var", "bn0_running_var", "bn_moving_var"),
        *("bn._variance", "bn.running_variance", "BatchNorm_0.var", "batch_stats/BatchNorm_0/var", "moving_variance"),
        *("bn0_var", "stage1_batchnorm0_variance:0", "bn.movingVariance"),
    ],
)
def test_variances_of_all_frameworks(name: str) -> None:
    mean = name.replace("variance", "mean").replace("Variance", "Mean").replace("var", "mean")
    found = roles_of({name: floats(8), mean: floats(8)})
    assert found == {name: Role.VARIANCE, mean: Role.MEAN}
    values = np.array([1e-6, 0.3, 2e-7], np.float32)
    assert (decompress(compress({name: values}))[name] > 0).all()


def test_statistics_of_keras_3_have_numbers() -> None:
    norm = {f"layers/batch_normalization_1/vars/{number}": floats(8) for number in range(4)}
    unscaled = {f"layers/batch_normalization/vars/{number}": floats(8) for number in range(3)}
    inputs = {f"layers/normalization/vars/{number}": floats(1, 3) for number in range(2)}
    own = {f"bn/vars/{number}": floats(8) for number in range(4)}
    cell = {"layers/gru/cell/vars/0": floats(4, 9), "layers/gru/cell/vars/1": floats(3, 9)}
    found = roles_of({**norm, **unscaled, **inputs, "layers/normalization/vars/2": np.array(7), **own, **cell})
    variances = {name for name, role in found.items() if role is Role.VARIANCE}
    assert variances == {
        *("layers/batch_normalization_1/vars/3", "layers/batch_normalization/vars/2"),
        *("layers/normalization/vars/1", "bn/vars/3"),
    }
    assert found["layers/batch_normalization/vars/1"] is Role.MEAN
    assert found["layers/gru/cell/vars/1"] is Role.WEIGHT


def test_names_that_only_look_like_statistics() -> None:
    arrays = {"a.log_var": floats(8), "b.var": floats(20, 20), "covar": floats(8), "in_proj_bias": floats(8)}
    assert roles_of(arrays) == {
        "a.log_var": Role.BIAS,
        "b.var": Role.WEIGHT,
        "covar": Role.BIAS,
        "in_proj_bias": Role.BIAS,
    }
    assert roles_of({"pixel/mean:0": floats(3), "pixel/std:0": floats(3)}) == dict.fromkeys(
        ("pixel/mean:0", "pixel/std:0"), Role.CONSTANT
    )
    for names in (("kernel", "recurrent_kernel", "bias"), ("0", "1", "2")):  # of Keras 3 the numbered ones
        shapes = ((5, 24), (8, 24), (2, 24))
        gru = {f"gru/cell/vars/{name}": floats(*shape) for name, shape in zip(names, shapes, strict=True)}
        assert [*roles_of(gru).values()] == [Role.WEIGHT, Role.WEIGHT, Role.BIAS]
    assert roles_of({"g/beta": floats(8), "g/gamma": floats(8, 8)}) == {"g/beta": Role.GDN, "g/gamma": Role.GDN}
    assert roles_of({"bn0_beta": floats(8), "bn0_gamma": floats(8), "bn0_moving_var": floats(8)}) == {
        "bn0_beta": Role.NORM_SHIFT,
        "bn0_gamma": Role.NORM_SCALE,
        "bn0_moving_var": Role.VARIANCE,
    }


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *(("Conv_0.kernel", (3, 3, 8, 16)), ("Dense_0.kernel", (32, 32)), ("conv/kernel:0", (1, 1, 32, 64))),
        *(("to_mask", (32, 32)), ("head.mean", (32, 32)), ("query.kernel", (64, 2, 16)), ("field.grid", (4, 16, 16))),
        *(("lstm.recurrent_kernel", (16, 64)), ("mix7x1.kernel", (7, 1, 64, 64)), ("out.window", (16, 16, 3, 3))),
    ],
)
def test_varied_values_are_weights_whatever_their_name(name: str, shape: tuple[int, ...]) -> None:
    weights = floats(*shape)
    pruned = np.where(RANDOM.random(shape) < 0.8, np.float32(0), weights)
    for array in (weights, weights.astype(np.float16), weights.astype(np.float64), pruned):
        assert roles_of({name: array}) == {name: Role.WEIGHT}
    for number_format in ("bfloat16", "float8_e4m3fn"):
        assert roles_of({name: in_format(weights, number_format)}) == {name: Role.WEIGHT}


def fixed_tensors() -> dict[str, Any]:
    line = np.linspace(-1, 1, 40, dtype=np.float32)
    bell = np.exp(-((np.arange(21) - 10.0) ** 2) / 9)
    shifts = np.arange(16)[:, None] - np.arange(16)
    return {
        "blur.kernel": np.tile(floats(1, 1, 5, 5), (32, 1, 1, 1)),
        "ssim.window": np.outer(bell, bell)[None, None],
        "edges.filt": np.stack([np.outer(bell, bell * (np.arange(21) - 10.0)), np.outer(bell, bell)])[:, None],
        "resample.kernel": floats(16, 1, 40),
        "warp.grid": np.stack(np.meshgrid(line, line), axis=-1)[None],
        "volume.grid": np.stack(np.meshgrid(line, line, line)),
        "causal.mask": np.where(shifts < 0, np.float32(-1e4), np.float32(0)),
        "sparse.mask": np.where(RANDOM.random((32, 32)) < 0.5, np.float32(-1e9), np.float32(0)),
        "alibi.mask": (-shifts * np.array([0.3, 0.7, 0.11])[:, None, None]).astype(np.float32),
        "infinite.mask": np.where(shifts < 0, np.float32(-np.inf), floats(16, 16)),
        "fir": floats(12, 2),
        "normalise.mean": floats(1, 3, 1, 1),
    }


@pytest.mark.parametrize("name", fixed_tensors())
def test_constants_of_names_that_weights_have_too(name: str) -> None:
    assert roles_of({name: fixed_tensors()[name]}) == {name: Role.CONSTANT}


def test_kernels_of_layers_are_weights_whatever_their_shape() -> None:
    """Keras and Flax have a kernel's filters last, so that those of one channel look like a bank of fixed filters."""
    first = floats(512, 1, 128)
    assert roles_of({"conv1/conv1_3/kernel:0": first})["conv1/conv1_3/kernel:0"] is Role.WEIGHT
    assert roles_of({"conv.kernel": first, "conv.bias": floats(128)})["conv.kernel"] is Role.WEIGHT
    assert roles_of({"dw/depthwise_kernel:0": floats(3, 1, 8)})["dw/depthwise_kernel:0"] is Role.WEIGHT
    assert roles_of({"blur.kernel": first}) == {"blur.kernel": Role.CONSTANT}


class GDN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.beta, self.gamma = nn.Parameter(torch.ones(4)), nn.Parameter(torch.eye(4))
        self.register_buffer("pedestal", torch.tensor([2.0**-36]))


class EntropyModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_offset", torch.zeros(3, dtype=torch.int32))
        self.matrices = nn.ParameterList([nn.Parameter(torch.randn(3, 2, 1))])
        self.lower_bound = nn.BatchNorm1d(2)  # whatever is inside one belongs to it


def test_module_types_tell_roles() -> None:
    torch.manual_seed(0)
    network = nn.ModuleDict(
        {
            "a": nn.Linear(4, 6),
            "b": nn.BatchNorm2d(6),
            "c": GDN(),
            "d": EntropyModel(),
            "e": nn.GroupNorm(2, 6),
            "f": nn.PReLU(6),
            "g": nn.LSTM(3, 5),
        }
    )
    network["a"].register_buffer("running_total", torch.randn(6, 6))
    roles = {name: found.role for name, found in module_roles(network, named_arrays(network)).items()}
    assert roles["a.weight"] is Role.WEIGHT
    assert roles["a.bias"] is Role.BIAS
    assert roles["a.running_total"] is Role.CONSTANT
    assert roles["b.weight"] is Role.NORM_SCALE
    assert roles["b.running_var"] is Role.VARIANCE
    assert roles["b.num_batches_tracked"] is Role.COUNTER
    assert (roles["c.beta"], roles["c.gamma"], roles["c.pedestal"]) == (Role.GDN, Role.GDN, Role.CONSTANT)
    assert (roles["d._offset"], roles["d.matrices.0"]) == (Role.ENTROPY_TABLE, Role.ENTROPY_PARAMETER)
    assert roles["d.lower_bound.running_var"] is Role.ENTROPY_TABLE
    assert (roles["e.weight"], roles["e.bias"], roles["f.weight"]) == (
        Role.NORM_SCALE,
        Role.NORM_SHIFT,
        Role.NORM_SCALE,
    )
    assert (roles["g.weight_ih_l0"], roles["g.bias_hh_l0"]) == (Role.WEIGHT, Role.BIAS)


def test_patterns_override_roles() -> None:
    found = named_roles(named_arrays({"a.gamma": floats(4, 4), "b.gamma": floats(4, 4)}))
    assert {str(role.role) for role in found.values()} == {"weight"}
    changed = override_roles(found, {"*.gamma": "running-variance", "b.*": "constant"})
    assert [role.role for role in changed.values()] == [Role.VARIANCE, Role.CONSTANT]
    assert changed["a.gamma"].reason == "pattern *.gamma"
    with pytest.raises(InputError, match="one of weight, bias"):
        override_roles(found, {"*": "gama"})
    with pytest.raises(InputError, match="no tensor has a name like 'c"):
        override_roles(found, {"c.*": "weight"})


def test_options_of_roles_are_checked() -> None:
    network = {"w": floats(4, 4)}
    with pytest.raises(InputError, match="roles"):
        compress(network, roles="maybe")  # type: ignore[arg-type]
    with pytest.raises(InputError, match='roles="off"'):
        compress(network, roles="off", role_of={"w": "constant"})
    assert np.array_equal(decompress(compress(network, role_of={"w": "constant"}))["w"], network["w"])


@given(
    exponents=st.lists(st.floats(-37, 4), min_size=1, max_size=40),
    qp=st.integers(-40, -12),
    seed=st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None)
def test_variances_keep_their_relative_precision(exponents: list[float], qp: int, seed: int) -> None:
    values = (10.0 ** np.array(exponents)).astype(np.float32)
    found = decompress(compress({"bn.running_var": values}, qp=qp, nonweight_qp=None, n_threads=1))["bn.running_var"]
    assert (found > 0).all()
    assert (np.abs(found - values) <= 2.0**-8 * values).all()


@given(scale=st.floats(-6, 1), qp=st.integers(-40, -12), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_gdn_parameters_keep_their_signs(scale: float, qp: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    gamma = np.maximum(random.normal(0, 10.0**scale, (6, 6)), 2.0**-18).astype(np.float32)
    beta = np.abs(random.normal(1, 1, 6)).astype(np.float32) + np.float32(1e-3)
    signed = (random.normal(0, 1, (6, 6)) * 10.0 ** random.uniform(-8, 0, (6, 6))).astype(np.float32)
    network = {"gdn.beta": beta, "gdn.gamma": gamma, "odd.beta": beta, "odd.gamma": signed}
    found = decompress(compress(network, qp=qp, nonweight_qp=None, n_threads=1))
    for name, array in network.items():
        assert np.array_equal(np.sign(found[name]), np.sign(array)), name
        sizes = np.abs(array)
        assert np.abs(found[name] - array).max() <= max(2.0**-8 * sizes.min(), 2.0**-10 * sizes.max())


def test_a_named_qp_keeps_the_sign_of_variances_too() -> None:
    values = np.array([1e-6, 1e-3, 2], np.float32)
    data = compress({"bn.running_var": values}, qp_per_tensor={"bn.running_var": -8})
    (tensor,) = inspect(data).tensors
    assert tensor.qp == -8
    assert decompress(data)["bn.running_var"].tolist() == [0.25, 0.25, 2]


@pytest.mark.parametrize("number_format", ["float16", "float64", "bfloat16"])
def test_variances_of_other_number_formats_stay_positive(number_format: str) -> None:
    if number_format == "bfloat16":
        small: Any = FloatBits(np.array([1, 0x3F80, 0x0100], np.uint16), "bfloat16")
    else:
        small = np.array([1e-300 if number_format == "float64" else 6e-8, 1, 3e-5]).astype(number_format)
    assert (decompress(compress({"bn.running_var": small}))["bn.running_var"] > 0).all()


def test_exact_roles_are_exact_and_other_decoders_see_their_values() -> None:
    arrays = {name: array for name, (array, role) in STATE.items()}
    data = compress(arrays)
    found = decompress(data)
    for name, (array, role) in STATE.items():
        if role in (Role.CONSTANT, Role.ENTROPY_TABLE, Role.COUNTER):
            assert np.array_equal(found[name], array), name
    kinds = {tensor.name: tensor.payload_type for tensor in inspect(data).tensors}
    assert kinds["dfl.conv.weight"] == "FLOAT"
    assert kinds["attn.mask"] == "INT"


def test_ones_and_zeros_are_exact_at_no_cost() -> None:
    network = {"bn.weight": np.ones(512, np.float32), "bn.running_var": np.ones(512, np.float32)}
    data = compress(network)
    assert all(np.array_equal(found, network[name]) for name, found in decompress(data).items())
    assert sum(tensor.size_bytes - tensor.header_bytes for tensor in inspect(data).tensors) < 150


@given(exponent=st.integers(-32, 20), levels=st.lists(st.integers(-255, 255), min_size=1, max_size=9))
@settings(deadline=None)
def test_the_grid_of_a_tensor_gives_its_values(exponent: int, levels: list[int]) -> None:
    values = np.ldexp(np.array(levels, np.float32), exponent)
    qp = exact_qp(values, 2)
    assert qp is not None
    step = np.float32(step_size(qp, 2))
    assert np.array_equal(np.rint(values / step) * step, values)
    assert step >= 2.0**exponent or not any(levels)


def test_values_without_a_grid() -> None:
    for value in (np.nan, np.inf, -0.0, 1e-30):
        assert exact_qp(np.array([1, value], np.float32), 2) is None
    assert exact_qp(np.array([1, 2.0**-31], np.float32), 2) is None
    assert has_whole_values(np.array([0.5, -3, 127], np.float16))
    assert not has_whole_values(np.array([0.25, 1], np.float32))
    assert not has_whole_values(np.array([np.nan, 1], np.float32))


def test_quantised_weights_are_still_weights() -> None:
    weights = floats(16, 16)
    once = decompress(compress({"w.weight": weights}))
    assert len(compress(once, qp=-20)) < len(compress(once)) <= len(compress({"w.weight": weights})) + 48


def test_qps_by_size() -> None:
    assert size_offsets({"a": 100, "b": 100}, 2) == {"a": 0, "b": 0}
    offsets = size_offsets({"first": 100, "middle": 6400, "none": 0}, 2)
    assert offsets == {"first": -12, "middle": 0}
    network = {"first.weight": floats(10, 10), "middle.weight": floats(80, 80), "middle.bias": floats(80)}
    qps = {t.name: t.qp for t in inspect(compress(network, qp=-32, qp_by_size=True)).tensors}
    assert qps == {"first.weight": -44, "middle.weight": -32, "middle.bias": -75}


def normed(style: str, layer: nn.Module) -> nn.Module:
    ways = {
        "old weight": nn.utils.weight_norm,
        "new weight": nn.utils.parametrizations.weight_norm,
        "old spectral": nn.utils.spectral_norm,
        "new spectral": nn.utils.parametrizations.spectral_norm,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        found: nn.Module = ways[style](layer)  # type: ignore[operator]
    return found.eval()


def direction_of(layer: nn.Module, style: str) -> torch.Tensor:
    names = {"old weight": "weight_v", "old spectral": "weight_orig"}
    own = "original1" if "weight" in style else "original"
    found = layer.get_parameter(names.get(style, f"parametrizations.weight.{own}"))
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.parametrize("style", ["old weight", "new weight", "old spectral", "new spectral"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Linear(32, 16), (2, 32)),
        (lambda: nn.Conv1d(8, 16, 3), (1, 8, 20)),
        (lambda: nn.ConvTranspose2d(8, 16, 3), (1, 8, 8, 8)),
    ],
)
@pytest.mark.parametrize("options", [{"qp": -32}, {"qp": 0}, {"bitdepth": 2}, {"qp_by_size": True}], ids=str)
def test_directions_keep_all_rows_whatever_their_scale(
    style: str, make: Any, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    layer, x = normed(style, make()), torch.randn(shape)
    with torch.no_grad():
        direction_of(layer, style).mul_(1e-3)
        if "weight" in style:
            direction_of(layer, style)[0].mul_(1e-2)
        for given in (layer.state_dict(), layer):
            other = normed(style, make())
            if style == "old spectral":  # computed by a hook, so that a copy has to be run
                other(x)
            load_into(other, compress(given, **options))
            y, z = layer(x), other(x)
            assert torch.isfinite(z).all()
            assert float((z - y).square().sum()) < 0.05 * float(y.square().sum())


def test_slices_of_zeros_and_of_no_step() -> None:
    zeros = np.zeros((4, 4), np.float32)
    assert qp_of_slices(zeros, 2.0**-5, 2) == qp_limits(2)[1]
    with_row = zeros.copy()
    with_row[1] = 1
    assert step_size(qp_of_slices(with_row, 2.0**-5, 2) or 0, 2) == 2.0**-5
    assert qp_of_slices(with_row * np.float32(1e-12), 2.0**-5, 2) is None
