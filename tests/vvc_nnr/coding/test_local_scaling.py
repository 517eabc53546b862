"""Local scaling: rows divided by scales that travel with them, where what the next layer makes of rows differs."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import vvc_nnr
from vvc_nnr.bitstream.data_unit import DataUnit, ParameterTypes, PayloadType
from vvc_nnr.bitstream.manifest import Manifest
from vvc_nnr.bitstream.number_formats import in_format
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet
from vvc_nnr.bitstream.stream import read_stream, write_stream
from vvc_nnr.coding.decoder import decode_tensor
from vvc_nnr.coding.encoder import code_network
from vvc_nnr.coding.unit_coding import decode_unit
from vvc_nnr.compress import compress, decompress, inspect
from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.row_scales import AxisPowers, axis_powers, row_scales
from vvc_nnr.quantize.snr import snr_db

RANDOM = np.random.default_rng(11)
SIZES = np.exp(RANDOM.normal(size=48)).astype(np.float32)
NETWORK = {
    "a.weight": (RANDOM.normal(size=(48, 8, 3)) * SIZES[:, None, None]).astype(np.float32),
    "a.bias": RANDOM.normal(size=48).astype(np.float32),
    "b.weight": (RANDOM.normal(size=(20, 48)) / SIZES).astype(np.float32),
}
SCALED = CompressOptions(local_scaling=True, n_threads=1)


def test_off_by_default_and_no_matter_to_other_networks() -> None:
    assert not code_network(NETWORK, CompressOptions(n_threads=1)).scaled
    random = np.random.default_rng(4)
    plain = {"a": random.normal(size=(30, 40)).astype(np.float32), "b": random.normal(size=(9, 30)).astype(np.float32)}
    assert compress(plain, local_scaling=True) == compress(plain)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"qp": -20},
        {"quality": 25, "scan_order": 1},
        {"qp": -20, "use_dq": False, "row_skipping": False, "param_opt": False},
        {"bitdepth": 6, "qp_per_tensor": {"b.weight": -30}},
        {"qp_per_tensor": {"a.weight": -24}},
        {"bits_per_weight": 4, "search": "thorough"},
        {"roles": "off", "qp_density": 4, "qp": -80},
    ],
    ids=str,
)
def test_weights_are_what_is_coded_times_its_scales(options: dict[str, Any]) -> None:
    data = compress(NETWORK, local_scaling=True, **options)
    found = decompress(data)
    assert {name: array.shape for name, array in found.items()} == {n: a.shape for n, a in NETWORK.items()}
    (tensor,) = (each for each in read_stream(data).tensors if each.data_units[0].is_block)
    (unit,), sets = tensor.data_units, tensor.units[0].parameter_sets
    assert (tensor.name, unit.compressed_parameter_types) == ("a.weight", ParameterTypes.LS)
    assert unit.topology_elem_id_list == ("a.weight", "a.weight_scaling")
    assert unit.uses_dq == (options.get("use_dq", True) and "bitdepth" not in options)
    scales, weight = (part.numbers for part in decode_unit(unit, sets, output="values", max_elements=10**4))
    assert (scales > 0).all()
    assert abs(np.corrcoef(np.log(scales[:, 0]), np.log(SIZES))[0, 1]) > 0.9
    np.testing.assert_array_equal(found["a.weight"].reshape(48, 24), scales * weight)
    sizes = np.sqrt(np.square(NETWORK["a.weight"]).mean((1, 2)))
    errors = np.sqrt(np.square(found["a.weight"] - NETWORK["a.weight"]).mean((1, 2)))
    assert abs(np.polyfit(np.log(sizes), np.log(errors), 1)[0] - 1) < 0.25  # they grow as rows do


def rescaled(network: nn.Sequential, seed: int = 0) -> nn.Sequential:
    """A network that computes the same: rows of a layer times s, columns of the next one, or its channels, by s."""
    found = copy.deepcopy(network)
    layers: list[Any] = [module for module in found if not isinstance(module, nn.ReLU)]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer, following in itertools.pairwise(layers):
            scale = torch.exp(0.75 * torch.randn(len(layer.weight), generator=generator))
            layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.dim() - 1)))
            layer.bias.mul_(scale)
            of_groups = getattr(following, "groups", 1) > 1
            shape = [1] * following.weight.dim()
            shape[0 if of_groups else 1] = -1
            following.weight.div_(scale.reshape(shape))
    return found


def output_snr_db(network: nn.Module, data: bytes, x: torch.Tensor) -> float:
    coded = copy.deepcopy(network)
    vvc_nnr.load_into(coded, data)
    with torch.no_grad():
        wanted, found = network(x), coded(x)
    return 10 * math.log10(float(wanted.square().mean() / (wanted - found).square().mean()))


def linear() -> tuple[nn.Sequential, torch.Tensor]:
    layers = (nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 32))
    return nn.Sequential(*layers), torch.randn(256, 64)


def convolutions() -> tuple[nn.Sequential, torch.Tensor]:
    layers = (nn.Conv1d(16, 64, 3), nn.ReLU(), nn.Conv1d(64, 64, 3), nn.ReLU(), nn.Conv1d(64, 16, 3))
    return nn.Sequential(*layers), torch.randn(16, 16, 64)


@pytest.mark.parametrize("make", [linear, convolutions])
def test_a_rescaled_network_keeps_more_in_no_more_bytes(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    network, x = make()
    found: dict[bool, list[float]] = {False: [], True: []}
    sizes = {False: 0, True: 0}
    for seed, local_scaling in itertools.product(range(3), (False, True)):
        other = rescaled(network, seed)
        data = compress(other, local_scaling=local_scaling, n_threads=1)
        found[local_scaling].append(output_snr_db(other, data, x))
        sizes[local_scaling] += len(data)
    assert sizes[True] < 1.003 * sizes[False]
    assert np.mean(found[True]) > np.mean(found[False]) + 2.0
    assert "have a scale for each row: 0.weight, 2.weight; other decoders" in caplog.text


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_number_formats_come_back(dtype: str) -> None:
    network: dict[str, Any] = {name: array.astype("f2") for name, array in NETWORK.items()}
    if dtype == "bfloat16":
        network = {name: in_format(array, "bfloat16") for name, array in NETWORK.items()}
    elif dtype == "float64":
        network = {name: array.astype("f8") for name, array in NETWORK.items()}
    coded = code_network(network, SCALED)
    assert coded.scaled == ("a.weight",)
    stream = read_stream(coded.data)
    assert set(stream.formats.values()) == {dtype}
    found = decompress(coded.data)
    assert {array.dtype.name for array in found.values()} == {"float32" if dtype == "bfloat16" else dtype}
    values = found["a.weight"].astype(np.float32)
    assert snr_db(NETWORK["a.weight"], values) > 25
    if dtype == "bfloat16":
        assert not (values.view(np.uint32) & 0xFFFF).any()


def test_rows_of_zeros_and_channels_that_nothing_listens_to() -> None:
    network = {name: array.copy() for name, array in NETWORK.items()}
    network["a.weight"][[0, 7]] = 0
    network["b.weight"][:, [7, 9]] = 0
    coded = code_network(network, SCALED)
    assert coded.scaled == ("a.weight",)
    found = decompress(coded.data)
    assert not found["a.weight"][[0, 7]].any()
    assert snr_db(network["a.weight"][9], found["a.weight"][9]) > 15


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("name", ["a.weight", "b.weight"])
def test_what_is_not_finite_or_far_off_has_no_scales(odd: float, name: str) -> None:
    network = {each: array.copy() for each, array in NETWORK.items()}
    network[name].flat[5] = odd
    coded = code_network(network, SCALED)
    assert name not in coded.scaled
    assert coded.by_outliers == (name,)
    assert decompress(coded.data)[name].flat[5] == np.float32(odd) or np.isnan(odd)


@pytest.mark.parametrize(("dtype", "largest"), [("float16", 6e4), ("float32", 3e38)])
def test_rows_that_divided_are_beyond_their_format_have_no_scales(dtype: str, largest: float) -> None:
    factor = largest / np.abs(NETWORK["a.weight"] / SIZES[:, None, None]).max()
    first = NETWORK["a.weight"] / SIZES[:, None, None] * (factor / SIZES.max()) * SIZES[:, None, None]
    network: dict[str, Any] = {"a": first.astype(dtype), "b": (NETWORK["b.weight"] * SIZES**2).astype(dtype)}
    coded = code_network(network, SCALED)
    assert not coded.scaled
    found = decompress(coded.data)
    assert np.isfinite(found["a"].astype(np.float64)).all()
    assert snr_db((first / largest).astype(np.float32), (found["a"] / np.float32(largest)).astype(np.float32)) > 10


def test_names_that_are_taken_and_ties() -> None:
    network = NETWORK | {
        "a.weight_scaling": np.ones(48, np.float32),
        "again": NETWORK["a.weight"],
        "a.weight_scaling_": np.zeros((2, 2), np.float32),
    }
    coded = code_network(network, SCALED)
    assert coded.scaled == ("a.weight",)
    found = decompress(coded.data)
    assert set(found) == set(network)
    np.testing.assert_array_equal(found["again"], found["a.weight"])
    np.testing.assert_array_equal(found["a.weight_scaling"], 1)
    np.testing.assert_array_equal(found["a.weight_scaling_"], 0)


def test_sizes_are_kept_and_what_is_lost_is_named() -> None:
    coded = code_network(NETWORK, replace(SCALED, max_bytes=1400))
    assert coded.scaled == ("a.weight",)
    assert len(coded.data) <= 1400
    weak = code_network(NETWORK, replace(SCALED, qp=0))
    found = decompress(weak.data)["a.weight"]
    assert weak.weak_db["a.weight"] == pytest.approx(snr_db(NETWORK["a.weight"], found))
    assert weak.weak_db["a.weight"] < 10 < snr_db(NETWORK["a.weight"], decompress(coded.data)["a.weight"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lossless": True}, "local_scaling with lossless"),
        ({"codebook": "auto"}, "local_scaling with codebook"),
        ({"codebook": "force"}, "local_scaling with codebook"),
    ],
)
def test_options_that_leave_no_scales_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        compress(NETWORK, local_scaling=True, **options)
    with pytest.raises(InputError, match="local_scaling: 1; must be True or False"):
        compress(NETWORK, local_scaling=1)  # type: ignore[arg-type]


def test_updates_have_no_scales() -> None:
    with pytest.raises(InputError, match="local_scaling: not possible in updates"):
        vvc_nnr.compress_update(NETWORK, NETWORK, options=SCALED)


def test_inspection_tells_the_weights_step_and_its_error() -> None:
    data = compress(NETWORK, local_scaling=True, qp=-20, qp_density=2)
    report = inspect(data, NETWORK, bins=True)
    scaled, plain = report.tensors[0], report.tensors[2]
    assert (scaled.payload_type, scaled.qp, scaled.shape) == ("BLOCK", -20, (48, 8, 3))
    assert plain.scaling_qp is None
    assert scaled.scaling_qp not in (None, -20)
    assert scaled.snr_db == pytest.approx(snr_db(NETWORK["a.weight"], decompress(data)["a.weight"]))
    assert [tensor.scaling_qp for tensor in inspect(data).tensors] == [scaled.scaling_qp, None, None]


def test_blocks_have_number_formats_only_of_their_weight_alone() -> None:
    stream = read_stream(compress(NETWORK, local_scaling=True, n_threads=1))
    unit = stream.tensors[0].data_units[0]
    told = Manifest({0: "float16"})
    half = write_stream([unit], ModelParameterSet(), told)
    (tensor,) = read_stream(half).tensors
    assert decode_tensor(tensor)["a.weight"].dtype == np.float16
    with pytest.raises(BitstreamError, match="not coded as int8"):
        read_stream(write_stream([unit], ModelParameterSet(), Manifest({0: "int8"})))
    both = ParameterTypes.LS | ParameterTypes.BI
    names = (*unit.topology_elem_id_list, "a.bias")
    other = replace(unit, compressed_parameter_types=both, topology_elem_id_list=names)
    data = write_stream([other], ModelParameterSet(), told)
    with pytest.raises(BitstreamError, match="not coded as float16"):
        read_stream(data)


def test_a_damaged_scale_is_damage() -> None:
    unit = read_stream(compress(NETWORK, local_scaling=True, n_threads=1)).tensors[0].data_units[0]
    assert unit.nnr_compressed_data_unit_payload_type is PayloadType.BLOCK
    cut = replace(unit, payload=bytes(unit.payload[:9]))
    data = write_stream([cut], ModelParameterSet(), Manifest())
    for read in (inspect, decompress):
        with pytest.raises(BitstreamError):
            read(data)
    huge = DataUnit(
        PayloadType.BLOCK, ("w", "w_scaling"), (1 << 40, 1), b"\0" * 20, compressed_parameter_types=ParameterTypes.LS
    )
    with pytest.raises(BitstreamError):
        inspect(write_stream([huge], ModelParameterSet(), Manifest()))


def powers(values: NDArray[Any]) -> AxisPowers:
    return axis_powers(values.astype(np.float32))


def test_scales_follow_what_the_next_layers_make_of_rows() -> None:
    random = np.random.default_rng(5)
    own, next_one = powers(NETWORK["a.weight"]), powers(NETWORK["b.weight"])
    found = row_scales(own, [next_one])
    assert found is not None
    assert np.log(found).mean() == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(np.log(found), -np.log(np.sqrt(next_one.columns)), atol=1)
    assert np.corrcoef(np.log(found), np.log(SIZES))[0, 1] > 0.95
    assert row_scales(own, []) is None
    assert row_scales(own, [powers(random.normal(size=(20, 47)))]) is None
    unlike = random.permutation(SIZES)
    assert row_scales(own, [powers(random.normal(size=(20, 48)) / unlike)]) is None
    assert row_scales(own, [powers(random.normal(size=(20, 48)))]) is None
    assert row_scales(powers(NETWORK["a.weight"][:, :1]), [next_one]) is None  # rows too short for scales
    assert row_scales(own, [powers(random.normal(size=(9, 31)))] * 4 + [next_one]) is None


def test_depthwise_layers_pass_channels_on_and_several_heads_listen() -> None:
    random = np.random.default_rng(6)
    own, taps = powers(NETWORK["a.weight"]), random.normal(size=(48, 1, 5))
    behind = [powers(taps / SIZES[:, None, None]), powers(random.normal(size=(20, 48)))]
    found = row_scales(own, behind)
    assert found is not None
    assert np.corrcoef(np.log(found), np.log(SIZES))[0, 1] > 0.9
    heads = [random.normal(size=(10, 48)) / SIZES for _ in range(2)]
    heads[0][:, :4] *= 0.4
    one, both = (row_scales(own, [powers(head) for head in heads[:n]]) for n in (1, 2))
    assert one is not None
    assert both is not None
    assert (one[:4] > 1.2 * both[:4]).all()  # the second head listens to them


def test_weights_with_inputs_first_follow_what_comes_in() -> None:
    random = np.random.default_rng(7)
    before, own = powers(random.normal(size=(20, 48)) * SIZES), powers(random.normal(size=(48, 30)) / SIZES[:, None])
    found = row_scales(own, [], before)
    assert found is not None
    np.testing.assert_allclose(np.log(found), -np.log(SIZES) + np.log(SIZES).mean(), atol=1)
    assert row_scales(own, []) is None
    after = powers(random.normal(size=(48, 10)) / SIZES[:, None])  # inputs first, behind outputs first
    assert row_scales(powers(NETWORK["a.weight"]), [after]) is not None


def test_no_row_is_scaled_beyond_its_own_size() -> None:
    random = np.random.default_rng(8)
    own = powers(random.normal(size=(48, 24)) * SIZES[:, None])
    found = row_scales(own, [powers(random.normal(size=(20, 48)) * SIZES)])
    assert found is not None
    is_small = np.median(SIZES) > 5 * SIZES
    assert found[is_small].max() < 1.6 < np.exp(-np.log(SIZES[is_small]) + np.log(SIZES).mean()).min()


def test_a_network_without_a_tensor_that_scales_pay_for_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    network = {"w": np.random.default_rng(0).normal(0, 0.1, (32, 40)).astype(np.float32)}
    plain = vvc_nnr.compress(network)
    assert "local scaling" not in caplog.text
    assert vvc_nnr.compress(network, local_scaling=True) == plain
    assert "no tensor has scales" in caplog.text
