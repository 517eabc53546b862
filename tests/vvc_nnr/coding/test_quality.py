"""Networks whose scale nobody knows: steps by the tensors' own spread, sizes kept, and no value lost without a word."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import vvc_nnr
from vvc_nnr.bitstream.number_formats import FloatBits
from vvc_nnr.coding.coded_network import (
    exact_by_outliers_line,
    float8_line,
    joined_line,
    outliers_line,
    scaled_line,
    weak_names,
)
from vvc_nnr.coding.encoder import code_network
from vvc_nnr.coding.own_steps import EARLY_DB, LAST_DB, VECTOR_DB
from vvc_nnr.coding.tensor_encoder import encode_tensor
from vvc_nnr.coding.tensor_job import EncodedTensor, TensorJob
from vvc_nnr.coding.update import BaseState, compress_update
from vvc_nnr.compress import compress, decompress, inspect
from vvc_nnr.errors import InputError
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.quality import spread_of
from vvc_nnr.quantize.snr import WEAK_DB, is_surely_kept, rows_snr_db, snr_db, weak_rows

Network = dict[str, NDArray[np.float32]]


def normal(shape: tuple[int, ...], scale: float, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def layers(scales: tuple[float, ...] = (0.05, 0.02, 0.5)) -> Network:
    return {f"layer{place}.weight": normal((64, 96), scale, place) for place, scale in enumerate(scales)}


def ratio_db(values: NDArray[Any], decoded: NDArray[Any]) -> float:
    noise = float(np.square(values.astype(np.float64) - decoded).sum())
    signal = float(np.square(values, dtype=np.float64).sum())
    return 10 * math.log10(signal / noise) if noise and signal else math.inf if not noise else -math.inf


@pytest.mark.parametrize("scale", [1e-8, 5e-4, 1.0, 1e8])
def test_layers_keep_their_quality_whatever_their_scale(scale: float) -> None:
    network = {"lora_a": normal((8, 256), scale), "lora_b": normal((256, 8), 3 * scale), "gamma": normal((64,), scale)}
    decoded = decompress(compress(network))
    assert all(ratio_db(network[name], decoded[name]) > 13 for name in network)


def test_a_layer_made_larger_and_the_next_one_smaller_takes_the_same_bytes_and_errors() -> None:
    network = layers((0.05, 0.05, 0.05))
    scaled = network | {
        "layer0.weight": network["layer0.weight"] * np.float32(2**10),
        "layer1.weight": network["layer1.weight"] * np.float32(2**-10),
    }
    plain, other = compress(network, quality=28), compress(scaled, quality=28)
    assert len(plain) == len(other)
    ours, theirs = decompress(plain), decompress(other)
    assert np.array_equal(ours["layer0.weight"] * np.float32(2**10), theirs["layer0.weight"])
    assert np.array_equal(ours["layer1.weight"] * np.float32(2**-10), theirs["layer1.weight"])


def test_channels_made_larger_and_smaller_take_no_more_bytes() -> None:
    network = layers((0.05, 0.05))
    channel = np.exp2(np.random.default_rng(1).uniform(-4, 2.7, 64)).astype(np.float32)
    channel /= np.exp2(np.log2(channel).mean())
    scaled = network | {"layer0.weight": network["layer0.weight"] * channel[:, None]}

    def rows_db(data: bytes, made: Network) -> float:
        decoded = decompress(data)["layer0.weight"]
        noise = np.square(made["layer0.weight"] - decoded).mean(1) / np.square(made["layer0.weight"]).mean(1)
        return -10 * math.log10(float(noise.mean()))

    plain, other = compress(network, quality=30), compress(scaled, quality=30)
    assert len(other) < 1.1 * len(plain)
    assert rows_db(other, scaled) > rows_db(plain, network) - 20


def test_default_takes_no_more_than_one_step_for_all() -> None:
    for scales in ((0.05, 0.02, 0.5), (0.2, 0.2, 0.2), (0.01, 0.1, 1.0)):
        network = layers(scales)
        assert len(compress(network)) <= 1.005 * len(compress(network, qp=-32))


def test_default_evens_out_the_noise_of_layers_of_unlike_size() -> None:
    network = {
        "small.weight": normal((16, 16), 0.05),
        "large.weight": normal((256, 256), 0.05),
        "last.weight": normal((4, 4), 1.0),
    }
    decoded = decompress(compress(network))
    small, large = (ratio_db(network[name], decoded[name]) for name in ("small.weight", "large.weight"))
    assert small > large + 20


@pytest.mark.parametrize("scale", [0.02, 0.05, 0.2, 1.0])
def test_default_uses_up_what_one_step_for_all_would_take(scale: float) -> None:
    for shrunk in (1.0, 1.1, 1.2, 1.35):
        large = np.random.default_rng(3).laplace(0, scale / shrunk, (256, 384)).astype(np.float32)
        network = {"a.weight": normal((32, 96), 0.05), "b.weight": large, "c.weight": normal((64, 64), 0.1)}
        share = len(compress(network)) / len(compress(network, qp=-32))
        assert 0.94 < share <= 1.0


@pytest.mark.parametrize("scale", [0.01, 0.02, 0.05, 0.3])
def test_bits_of_dependent_quantisation_are_told_from_a_sample(scale: float) -> None:
    values = np.random.default_rng(4).laplace(0, scale, (256, 256)).astype(np.float32)
    spread = spread_of(values)
    assert spread is not None
    coded = inspect(compress({"w": values}, qp=-32, nonweight_qp=-32)).tensors[0].size_bytes
    assert spread.bits_at(2.0**-8) == pytest.approx(8 * coded, rel=0.05)


def test_a_step_is_told_by_what_it_leaves_of_the_values_where_most_rows_are_small() -> None:
    values = normal((256, 128), 0.05) * np.exp2(np.random.default_rng(5).uniform(-5, 1, (256, 1))).astype(np.float32)
    spread = spread_of(values)
    assert spread is not None
    for least_db in (12.0, 16.0, 25.0):
        step = spread.coarsest(least_db)
        assert spread.snr_at(step) == pytest.approx(least_db, abs=0.1)
        levels = np.rint(values / (step * math.sqrt(3)))
        assert ratio_db(values, levels * step * math.sqrt(3)) == pytest.approx(least_db, abs=1)
    assert spread.step_at(14.0) < 0.8 * spread.coarsest(14.0)


def test_first_layers_and_vectors_are_finer() -> None:
    network = {f"layer{place}.weight": normal((64, 96), 0.05, place) for place in range(5)}
    network["layer4.bias"] = normal((6144,), 0.05, 9)
    decoded = decompress(compress(network, quality=25))
    found = {name: ratio_db(array, decoded[name]) for name, array in network.items()}
    places = (1, 0.5, 0, -0.5)
    expected = {f"layer{place}.weight": 25 + EARLY_DB * share for place, share in enumerate(places)}
    expected |= {"layer4.weight": 25 - EARLY_DB + LAST_DB, "layer4.bias": 25 + VECTOR_DB}
    assert found == pytest.approx(expected, abs=1.0)


def test_qp_that_is_given_is_one_step_for_all() -> None:
    steps = {tensor.step for tensor in inspect(compress(layers(), qp=-32)).tensors}
    assert steps == {2.0**-8}


@pytest.mark.parametrize(
    ("options", "is_balanced"),
    [({}, True), ({"quality": 25}, True), ({"bits_per_weight": 5}, True), ({"qp": -32}, False)],
)
def test_errors_of_kernels_do_not_add_up_unless_a_qp_is_given(options: dict[str, Any], is_balanced: bool) -> None:
    network = {f"layer{place}.weight": normal((64, 32, 3, 3), 0.05, place) for place in range(3)}
    decoded = decompress(compress(network, **options))
    errors = np.concatenate([(network[name] - decoded[name]).reshape(-1, 9) for name in network])
    share = float(np.square(errors.sum(1)).mean() / (9 * np.square(errors).mean()))
    assert share < 0.45 if is_balanced else share > 0.8


@pytest.mark.parametrize("wanted", [15.0, 25.0, 40.0])
def test_quality_is_what_comes_back(wanted: float) -> None:
    network = layers()
    decoded = decompress(compress(network, quality=wanted, roles="auto"))
    found = [ratio_db(network[name], decoded[name]) for name in network]
    assert found == pytest.approx([wanted + EARLY_DB, wanted, wanted - EARLY_DB + LAST_DB], abs=1.5)


def test_sizes_are_kept_and_nearly_used_up() -> None:
    network = layers()
    n_values = sum(array.size for array in network.values())
    for limit in (8_000, 12_000, 20_000):
        assert 0.95 * limit < len(compress(network, max_bytes=limit)) <= limit
    assert 3.8 * n_values < 8 * len(compress(network, bits_per_weight=4.0)) <= 4.0 * n_values
    with pytest.raises(InputError, match="max_bytes: 100 cannot be kept; the smallest file is"):
        compress(network, max_bytes=100)
    with pytest.raises(InputError, match=r"bits_per_weight: 0\.01, which is 23 bytes, cannot be kept; the smallest"):
        compress(network, bits_per_weight=0.01)


def small_and_large() -> Network:
    return {
        "a": normal((64, 64), 0.1),
        "b": normal((64,), 1e-3, 1),
        "c": normal((16, 16), 1e-9, 2),
        "d": layers()["layer0.weight"],
    }


@pytest.mark.parametrize("limit", [2100, 2900, 4000, 7000])
def test_no_better_quality_fits_into_a_size(limit: int) -> None:
    sizes = {db: len(compress(small_and_large(), quality=db)) for db in np.arange(0.5, 40, 0.5)}
    best_db = max(db for db, size in sizes.items() if size <= limit)
    found = code_network(small_and_large(), CompressOptions(max_bytes=limit))
    assert len(found.data) <= limit
    assert found.quality_db is not None
    assert found.quality_db > best_db - 0.1


def test_a_tensor_beneath_the_finest_step_is_not_exact_while_that_leaves_the_quality() -> None:
    network = {"a": normal((128, 128), 0.1), "b": normal((16, 16), 1e-9)}
    decoded = decompress(compress(network, quality=16))
    assert 16 < ratio_db(network["b"].astype(np.float64), decoded["b"]) < 25
    assert np.array_equal(decompress(compress(network, quality=24))["b"], network["b"])


def test_tensors_whose_step_stays_are_coded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    coded: list[str] = []

    def counted(job: TensorJob, options: CompressOptions) -> EncodedTensor:
        coded.append(job.name)
        return encode_tensor(job, options)

    monkeypatch.setattr("vvc_nnr.coding.encoder.encode_tensor", counted)
    network = small_and_large() | {"i": np.arange(50)}
    code_network(network, CompressOptions(max_bytes=2900))
    assert coded.count("i") == 1
    assert coded.count("a") > 1


def test_small_sizes_are_kept_until_next_to_nothing_is_left(caplog: pytest.LogCaptureFixture) -> None:
    network = layers()
    n_values = sum(array.size for array in network.values())
    for wanted, share in ((2.0, 0.85), (1.0, 0.7), (0.2, 0.0)):
        with caplog.at_level(logging.WARNING):
            size_bits = 8 * len(compress(network, bits_per_weight=wanted))
        assert share * wanted * n_values < size_bits <= wanted * n_values
        assert "layer0.weight" in caplog.text
        caplog.clear()


def test_large_sizes_are_used_up_until_all_is_exact() -> None:
    network = layers()
    assert 8 * len(compress(network, bits_per_weight=18.0)) > 0.95 * 18 * sum(array.size for array in network.values())
    decoded = decompress(compress(network, bits_per_weight=32.0))
    assert all(np.array_equal(decoded[name], array) for name, array in network.items())


def test_each_low_quality_acts() -> None:
    network = layers()
    sizes, found_db = [], []
    for wanted in (2, 5, 8, 11, 14):
        data = compress(network, quality=wanted)
        sizes.append(len(data))
        found_db.append(ratio_db(network["layer0.weight"], decompress(data)["layer0.weight"]))
    assert all(finer > 1.05 * coarser for coarser, finer in pairwise(sizes))
    assert found_db == pytest.approx([wanted + EARLY_DB for wanted in (2, 5, 8, 11, 14)], abs=2.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quality": 30, "qp": -32}, "quality: has no effect with qp"),
        ({"bits_per_weight": 3.0, "bitdepth": 8}, "bits_per_weight: has no effect with bitdepth"),
        ({"max_bytes": 3000, "lossless": True}, "max_bytes: has no effect with lossless"),
        ({"quality": 30, "roles": "off"}, 'quality: has no effect with roles="off"'),
        ({"quality": 30, "qp_by_size": True}, "quality: has no effect with qp_by_size"),
        ({"quality": 30, "max_bytes": 3000}, "quality, max_bytes: give one of them"),
        ({"quality": 0}, "quality: 0; must be a number above 0"),
        ({"quality": math.nan}, "quality: nan; must be"),
        ({"bits_per_weight": True}, "bits_per_weight: True; must be"),
        ({"max_bytes": 0}, "max_bytes: 0; must be a whole number"),
    ],
    ids=str,
)
def test_options_that_do_not_fit(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as raised:
        compress(layers(), **options)
    assert words in str(raised.value)


def test_a_tensor_that_a_qp_erases_is_named(caplog: pytest.LogCaptureFixture) -> None:
    network = layers((0.05,)) | {"lora_a": normal((8, 256), 5e-4)}
    coded = code_network(network, CompressOptions(qp=-32))
    assert coded.weak_db == {"lora_a": 0.0}
    with caplog.at_level(logging.WARNING):
        compress(network, qp=-32)
        assert "1 tensor keeps" in caplog.text
        assert "lora_a (0.0 dB)" in caplog.text
        caplog.clear()
        compress(network)
        compress(network, qp=-60)
    assert not caplog.text


ERASING = (
    {"qp": -32},
    {"qp": -32, "roles": "off"},
    {"qp_by_size": True},
    {"bitdepth": 8},
    {"qp": -32, "use_dq": False},
)


@pytest.mark.parametrize("options", ERASING, ids=str)
@pytest.mark.parametrize("scale", [1e-10, 1e-18, 1e-22, 1e-24, 1e-26, 1e-30, 1e-38, 1e-41, 1e-44])
def test_values_whose_squares_float32_does_not_hold_are_named(scale: float, options: dict[str, Any]) -> None:
    network = {"tiny": normal((32, 32), scale), "vector": normal((32,), scale), "one": normal((32, 32), 1.0)}
    coded = code_network(network, CompressOptions(**options))
    decoded = decompress(coded.data)
    found = {name: ratio_db(network[name].astype(np.float64), decoded[name]) for name in network}
    assert coded.weak_db == pytest.approx({name: ratio for name, ratio in found.items() if ratio < WEAK_DB}, abs=1e-3)


@pytest.mark.parametrize("options", [{}, {"qp": -32}, {"quality": 30}], ids=str)
def test_a_tensor_that_loses_many_rows_is_named(options: dict[str, Any]) -> None:
    shapes = ((4, 64, 64), (64, 96), (64, 96), (64, 96), (64, 96))
    experts, half, small, few, dead = (normal(shape, 1.0) for shape in shapes)
    experts *= np.array([1, 0.1, 0.01, 0.001], np.float32)[:, None, None]
    half[::2] *= np.float32(1e-3)
    small[::2] *= np.float32(1e-6)  # a norm behind the layer makes them as large as the others
    few[:3] *= np.float32(1e-3)
    dead[::2] *= np.float32(1e-8)
    network = {
        "experts": experts,
        "half": half,
        "small": small,
        "few": few,
        "dead": dead,
        "plain": normal((64, 96), 1.0),
    }
    coded = code_network(network, CompressOptions(**options))
    assert coded.weak_db.keys() == {"experts", "half", "small"}
    decoded = decompress(coded.data)
    assert all(ratio_db(network[name], decoded[name]) > WEAK_DB for name in network)


def test_an_update_that_a_qp_erases_is_named_and_the_default_keeps_it(caplog: pytest.LogCaptureFixture) -> None:
    old = layers()
    new = {name: array + normal(array.shape, 2e-4, 9) for name, array in old.items()}
    with caplog.at_level(logging.WARNING):
        compress_update(old, new, options=CompressOptions(qp=-32))
        assert "3 tensors keep" in caplog.text
        caplog.clear()
        _, state = compress_update(BaseState.of(old), new)
    assert not caplog.text
    assert all(ratio_db(new[name] - old[name], state.arrays[name] - old[name]) > 13 for name in old)
    data, _ = compress_update(old, new, options=CompressOptions(max_bytes=9000))
    assert 8500 < len(data) <= 9000


@pytest.mark.parametrize("fill", [-1e4, -1e9, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize("options", [{}, {"qp": -32}], ids=str)
def test_huge_values_do_not_erase_those_beside_them(fill: float, options: dict[str, Any]) -> None:
    upper = np.triu(np.ones((8, 8), bool), 1)
    network = {
        "attn_bias": np.where(upper, np.float32(fill), normal((8, 8), 1.0)),
        "layer.bias": np.append(normal((63,), 1.0), np.float32(fill)),
        "layer.weight": np.append(normal((4095,), 1.0), np.float32(fill)).reshape(64, 64),
    }
    decoded = decompress(compress(network, **options))
    for name, values in network.items():
        plain = values != np.float32(fill)
        assert np.abs(decoded[name] - values)[plain].max() < (0.02 if name != "layer.weight" or options else 0.3)
        assert np.allclose(decoded[name][~plain], fill, rtol=1e-4)


def test_half_floats_too() -> None:
    half = normal((64, 96), 1e-4).astype(np.float16)
    brain = FloatBits((normal((64, 96), 1e-4).view(np.uint32) >> 16).astype(np.uint16), "bfloat16")
    decoded = decompress(compress({"half.weight": half, "brain.weight": brain}))
    assert ratio_db(half.astype(np.float32), decoded["half.weight"]) > 13
    assert ratio_db((brain.bits.astype(np.uint32) << 16).view(np.float32), decoded["brain.weight"]) > 13


@pytest.mark.parametrize("options", [{}, {"qp": -32}, {"quality": 30}, {"bitdepth": 8}, {"max_bytes": 90_000}], ids=str)
@pytest.mark.parametrize("scale", [1e-39, 1e-50, 1e-200, 1e-320])
def test_float64_beneath_float32_is_exact(scale: float, options: dict[str, Any]) -> None:
    values = np.random.default_rng(3).normal(size=(32, 48)) * scale
    outlier = values.copy()
    outlier[0, 0] = 1.0
    network = {"tiny.weight": values, "outlier.weight": outlier, "tiny.bias": values[0]}
    if scale > 1e-50:  # float32 has the values beside the outlier, with fewer digits
        del network["outlier.weight"]
    decoded = decompress(compress(network, **options))
    assert all(np.array_equal(decoded[name], array) for name, array in network.items())


def test_inspection_tells_the_snr() -> None:
    network = layers((0.05,)) | {"outlier.weight": normal((64, 64), 0.05)}
    network["outlier.weight"][0, 0] = 1000.0
    report = inspect(compress(network, quality=25), network)
    plain, outlier = report.tensors
    decoded = decompress(compress(network, quality=25))
    assert plain.snr_db == pytest.approx(ratio_db(network["layer0.weight"], decoded["layer0.weight"]))
    assert outlier.snr_db is not None
    assert outlier.snr_db < 45 < ratio_db(network["outlier.weight"], decoded["outlier.weight"])
    assert inspect(compress(network)).tensors[0].snr_db is None


def test_inspection_counts_the_raw_bytes_of_each_tensor() -> None:
    network = layers()
    report = inspect(compress(network, lossless=True), network)
    units = sum(unit.size_bytes for unit in report.units if unit.kind == "NDU")
    sizes = [tensor.size_bytes for tensor in report.tensors]
    assert units - 200 < sum(sizes) <= units
    assert min(sizes) > 2 * 64 * 96
    assert all(tensor.header_bytes < 200 for tensor in report.tensors)


def test_inspection_calls_nan_and_infinity_that_came_back_exact() -> None:
    values = normal((8, 16), 1.0)
    values[0, :3] = (np.nan, np.inf, -np.inf)
    brain = FloatBits((values.view(np.uint32) >> 16).astype(np.uint16), "bfloat16")
    network = {"a": values, "half": values.astype(np.float16), "brain": brain, "wide": values.astype(np.float64)}
    report = inspect(compress(network), network)
    assert [(tensor.mse, tensor.snr_db) for tensor in report.tensors] == [(0.0, None)] * len(network)


@st.composite
def tensors(draw: st.DrawFn) -> NDArray[np.float32]:
    shape = draw(st.sampled_from([(5,), (64,), (600,), (16, 16), (40, 30), (8, 4, 3, 3), (3, 700), (1, 1)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.normal(size=shape) if draw(st.booleans()) else rng.laplace(size=shape)
    kind = draw(st.sampled_from(["plain", "outliers", "sparse", "low rank", "rows", "offset", "masked"]))
    if kind == "outliers":
        values.reshape(-1)[rng.integers(values.size, size=1 + values.size // 200)] *= 10.0 ** draw(st.integers(1, 9))
    elif kind == "sparse":
        values *= rng.random(shape) < draw(st.sampled_from([0.01, 0.1, 0.5]))
    elif kind == "low rank":
        first, rest = shape[0], int(np.prod(shape[1:]))
        values = (rng.normal(size=(first, 1)) @ rng.normal(size=(1, rest))).reshape(shape)
    elif kind == "rows":
        values *= 10.0 ** rng.uniform(-4, 4, (shape[0],) + (1,) * (len(shape) - 1))
    elif kind == "offset":
        values += 100
    elif kind == "masked":
        values = np.where(rng.random(shape) < 0.4, -1e9, values)
    scale = 10.0 ** draw(st.floats(-8, 8))
    with np.errstate(over="ignore"):
        found: NDArray[np.float32] = np.clip(values * scale, -3e38, 3e38).astype(np.float32)
    return found


def test_a_tensor_with_exact_outliers_is_named(caplog: pytest.LogCaptureFixture) -> None:
    network = layers() | {name: normal((64, 96), 1e-3) for name in ("huge", "infinite", "half", "mask")}
    network["huge"][3, 5] = 1e9
    network["infinite"][3, 5] = np.inf
    network["half"] = network["half"].astype(np.float16)
    network["half"][1, 1] = np.nan
    network["mask"][:] = -np.inf
    network["few"] = normal((16,), 1e-3)
    network["few"][2] = np.nan
    coded = code_network(network, CompressOptions())
    assert set(coded.by_outliers) == {"huge", "infinite", "half", "few"}
    assert coded.apart == {"huge", "infinite", "half"}
    found = decompress(coded.data)
    is_equal = {name: np.array_equal(found[name], network[name], equal_nan=True) for name in coded.by_outliers}
    assert is_equal == {"huge": False, "infinite": False, "half": False, "few": True}
    with caplog.at_level(logging.WARNING):
        compress(network)
        assert "3 tensors have huge, infinite or NaN values: huge, infinite, half; these are exact" in caplog.text
        assert "1 tensor has huge, infinite or NaN values, and few others" in caplog.text
        assert "few; it is exact as a whole" in caplog.text
        caplog.clear()
        compress(layers())
        compress(network, lossless=True)
    assert not caplog.text


@pytest.mark.parametrize("options", [{}, {"qp": -32}, {"quality": 30}, {"bitdepth": 8}, {"max_bytes": 12000}], ids=str)
@pytest.mark.parametrize("huge", [1e5, -1e9, 3e38, np.inf, np.nan])
@pytest.mark.parametrize("number_format", ["float32", "float16", "float64", "bfloat16"])
def test_a_few_outliers_cost_their_neighbours_nothing(number_format: str, huge: float, options: dict[str, Any]) -> None:
    plain = {"a.weight": normal((64, 96), 0.05, 1), "a.bias": normal((600,), 0.1, 2)}
    network, given, places = {}, {}, {"a.weight": [17, 5000], "a.bias": [7]}
    for name, values in plain.items():
        given[name] = values.copy()
        given[name].reshape(-1)[places[name]] = huge
        if number_format == "bfloat16":
            network[name] = FloatBits((given[name].view(np.uint32) >> 16).astype(np.uint16), "bfloat16")
            given[name] = (given[name].view(np.uint32) & 0xFFFF0000).view(np.float32)
        else:
            with np.errstate(over="ignore"):
                network[name] = given[name] = given[name].astype(number_format)
    coded = code_network(network, CompressOptions(**options)).data
    assert len(coded) < len(compress(plain, **options)) + 600
    for name, array in decompress(coded).items():
        is_plain = np.ones(array.size, np.bool_)
        is_plain[places[name]] = False
        odd, was_odd = array.reshape(-1)[~is_plain], given[name].reshape(-1)[~is_plain]
        np.testing.assert_allclose(odd, was_odd, rtol=1e-5)
        assert ratio_db(given[name].reshape(-1)[is_plain], array.reshape(-1)[is_plain]) > 20


@pytest.mark.parametrize("huge", [100.0, -1e7, 1e9])
def test_outliers_of_an_update_cost_their_neighbours_nothing(caplog: pytest.LogCaptureFixture, huge: float) -> None:
    base = {"a.weight": normal((64, 96), 0.05, 1), "a.bias": normal((600,), 0.1, 2)}
    plain = {name: values + normal(values.shape, 2e-4, 3) for name, values in base.items()}
    wanted = {name: values.copy() for name, values in plain.items()}
    for values in wanted.values():
        values.reshape(-1)[7] = huge
    update, state = compress_update(base, wanted)
    assert len(update) < len(compress_update(base, plain)[0]) + 400
    assert ("2 tensors have huge" in caplog.text) == (abs(huge) > 1e6)
    for name, array in state.arrays.items():
        assert array.reshape(-1)[7] == pytest.approx(huge, rel=1e-6)
        is_plain = np.arange(array.size) != 7
        differences = (wanted[name] - base[name]).reshape(-1)[is_plain]
        assert ratio_db(differences, (array - base[name]).reshape(-1)[is_plain]) > WEAK_DB


def spread_db(values: NDArray[Any], decoded: NDArray[Any]) -> float:
    """The ratio of what values differ by, about what they or their columns share, to the errors."""
    exact = values.astype(np.float64)
    least = min(exact.var(), (exact - exact.mean(0)).var() if values.ndim > 1 else math.inf)
    noise = float(np.square(exact - decoded).mean())
    return 10 * math.log10(least / noise) if noise else math.inf


OFFSETS: Network = {
    "ramp": np.linspace(1e5, 1e5 + 1, 1000, dtype=np.float32),
    "ramp.weight": np.linspace(1e5, 1e5 + 1, 1000, dtype=np.float32).reshape(10, 100),
    "bn.running_mean": normal((64,), 1e-2, 1) + np.float32(1000),
    "bn.weight": normal((64,), 1e-2, 2) + np.float32(1),
    "embedding.weight": normal((500, 64), 0.1, 3) + normal((1, 64), 100, 4),
    "shifted.weight": normal((500, 64), 0.1, 5) + np.float32(50),
}


@pytest.mark.parametrize("options", [{}, {"quality": 14}, {"use_dq": False}], ids=str)
def test_what_values_differ_by_is_kept_beside_what_they_share(options: dict[str, Any]) -> None:
    network = layers() | OFFSETS
    coded = code_network(network, CompressOptions(**options))
    decoded = decompress(coded.data)
    assert all(spread_db(network[name], decoded[name]) > WEAK_DB for name in network)
    assert spread_db(OFFSETS["bn.running_mean"], decoded["bn.running_mean"]) > 25
    assert not coded.weak_db


def test_a_variance_keeps_its_size_whatever_its_values_differ_by(caplog: pytest.LogCaptureFixture) -> None:
    nearly_one = np.float32(0.99) + np.linspace(0, 2e-6, 64, dtype=np.float32)
    decoded = decompress(compress({"bn.running_var": nearly_one, "bn.weight": nearly_one}, qp=-32))
    assert np.allclose(decoded["bn.running_var"], nearly_one, rtol=2.0**-8, atol=0)
    assert not caplog.records


def test_ordinary_values_that_the_largest_of_a_normalisation_erase_are_named(caplog: pytest.LogCaptureFixture) -> None:
    gamma = np.abs(normal((128, 128), 1e-6))
    gamma[0] = np.abs(normal((128,), 1.0))
    compress({"gdn.beta": np.ones(128, np.float32), "gdn.gamma": gamma}, qp=-32)
    assert "gdn.gamma" in caplog.text


def test_differences_that_a_qp_erases_are_named_whatever_is_shared() -> None:
    coded = code_network(OFFSETS, CompressOptions(qp=-2, nonweight_qp=-2))
    decoded = decompress(coded.data)
    lost = {name for name, values in OFFSETS.items() if spread_db(values, decoded[name]) < WEAK_DB}
    assert lost
    assert lost <= coded.weak_db.keys()
    inspected = {tensor.name: tensor.snr_db for tensor in inspect(coded.data, original=OFFSETS).tensors}
    for name in lost:
        found_db = inspected[name]
        assert found_db is not None
        assert found_db < WEAK_DB


def test_tensors_about_zero_and_constants_have_no_offset() -> None:
    weights, alike = normal((64, 96), 0.05), np.full(96, 0.3, np.float32)
    nearly_alike = np.where(np.arange(96) % 2, alike, np.nextafter(alike, np.float32(1)))
    for values in (weights, weights[:, :1], weights[:1], alike, nearly_alike):
        spread = spread_of(values)
        assert spread is not None
        assert spread.deviation is None


@settings(max_examples=120, deadline=None)
@given(
    network=st.dictionaries(
        st.sampled_from(["a.weight", "b.weight", "c.bias", "norm.weight", "d"]), tensors(), min_size=1
    ),
    options=st.sampled_from(
        [{}, {}, {}, {"quality": 20}, {"qp": -32}, {"use_dq": False}, {"bitdepth": 3}, {"qp_by_size": True}]
    ),
)
def test_no_tensor_is_lost_without_a_word(network: Network, options: dict[str, Any]) -> None:
    coded = code_network(network, CompressOptions(n_threads=1, **options))
    decoded = decompress(coded.data, n_threads=1)
    for name, values in network.items():
        if ratio_db(values, decoded[name]) < WEAK_DB:
            assert name in coded.weak_db
    if not options:  # many rows of a tensor may be lost, but no tensor as a whole
        assert all(snr_db(network[name], decoded[name]) >= WEAK_DB for name in coded.weak_db)


class TestScores:
    """Files by a score of the user's own."""

    def test_the_smallest_file_within_a_drop(self) -> None:
        network = layers()
        x = normal((200, 96), 1.0, 5)
        outputs = {name: x @ weight.T for name, weight in network.items()}
        seen: list[float] = []

        def accuracy(arrays: dict[str, NDArray[np.float32]]) -> float:
            same = [np.mean((x @ arrays[name].T).argmax(1) == outputs[name].argmax(1)) for name in network]
            seen.append(float(np.mean(same)))
            return seen[-1]

        data = compress(network, evaluate=accuracy, max_drop=0.05)
        assert accuracy(decompress(data)) >= 0.95
        assert len(seen) < 12
        assert len(data) < len(compress(network, quality=40))
        coarser = compress(network, evaluate=accuracy, max_drop=0.15)
        assert len(coarser) < len(data)
        of_all = compress(network, evaluate=lambda _: 1.0, max_drop=0.0)
        assert len(of_all) < len(compress(network, quality=10))

    def test_of_a_module(self) -> None:
        torch = pytest.importorskip("torch")
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 5)).eval()
        x = torch.randn(100, 20)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        wanted = network(x).detach()
        data = compress(
            network, evaluate=lambda other: -float((other(x).detach() - wanted).square().mean()), max_drop=1e-3
        )
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        vvc_nnr.load_into(network, data)
        assert float((network(x).detach() - wanted).square().mean()) <= 1e-3

    def test_a_map_of_torch_tensors_stays_one(self) -> None:
        torch = pytest.importorskip("torch")
        network: dict[str, Any] = {
            "a": torch.randn(20, 30, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16),
            "b": torch.ones(30, dtype=torch.float16),
            "c": np.ones((4, 4), np.float32),
            "n": torch.tensor(3),
        }
        kinds: list[dict[str, tuple[type, Any]]] = []

        def score(other: dict[str, Any]) -> float:
            kinds.append({name: (type(value), value.dtype) for name, value in other.items()})
            return -float((other["a"] - network["a"]).float().square().mean())

        compress(network, evaluate=score, max_drop=1e-2)
        assert len(kinds) > 2
        assert all(kind == kinds[0] for kind in kinds)

    def test_a_score_that_changes_its_network_changes_a_copy(self) -> None:
        torch = pytest.importorskip("torch")
        module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8)).eval()
        before = {name: value.clone() for name, value in module.state_dict().items()}

        def recalibrated(other: Any) -> float:
            other.train()(torch.ones(4, 8))
            other.half()
            return 1.0

        data = compress(module, evaluate=recalibrated, max_drop=0.0)
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
        assert np.allclose(decompress(data)["1.running_mean"], 0, atol=1e-3)

        arrays = {"a": np.ones((3, 4), np.float32), "b": torch.ones(3)}

        def emptied(other: dict[str, Any]) -> float:
            for value in other.values():
                value *= 0
            return 1.0

        assert np.array_equal(decompress(compress(arrays, evaluate=emptied, max_drop=0.0))["b"], np.ones(3))
        assert arrays["a"].all()
        assert arrays["b"].all()

    def test_files_and_graphs_are_no_networks_to_call_with(self, tmp_path: Path) -> None:
        path = tmp_path / "network.npz"
        np.savez(path, **layers())
        with pytest.raises(InputError, match="evaluate: needs a torch module or a map of names to arrays"):
            compress(path, evaluate=len, max_drop=1.0)
        onnx = pytest.importorskip("onnx")
        with pytest.raises(InputError, match=r"evaluate: needs a torch module .*, got ModelProto"):
            compress(onnx.ModelProto(), evaluate=len, max_drop=1.0)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"evaluate": len}, "both must be given"),
            ({"max_drop": 1.0}, "both must be given"),
            ({"evaluate": 3, "max_drop": 1.0}, "must be a function"),
            ({"evaluate": len, "max_drop": -1}, "at least 0"),
            ({"evaluate": len, "max_drop": math.nan}, "at least 0"),
            ({"evaluate": lambda _: "much", "max_drop": 1}, "returned 'much'; must be a number"),
            ({"evaluate": lambda _: math.nan, "max_drop": 1}, "returned nan; must be a number"),
            ({"evaluate": len, "max_drop": 1, "qp": -32}, "take qp"),
            ({"evaluate": len, "max_drop": 1, "quality": 30}, "take quality away"),
            ({"evaluate": len, "max_drop": 1, "calibration": [0]}, "no effect with calibration"),
        ],
    )
    def test_what_does_not_fit(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(InputError) as raised:
            compress(layers(), **options)
        assert words in str(raised.value)

    def test_a_drop_that_cannot_be_kept(self) -> None:
        scores = iter([1.0, *[0.0] * 10, 0.25, *[0.0] * 12])
        message = r"max_drop: 0\.5 cannot be kept; of 23 files, .* the least drop is 0\.75, at 35\.75 dB"
        with pytest.raises(InputError, match=message):
            compress(layers(), evaluate=lambda _: next(scores), max_drop=0.5)

    @pytest.mark.parametrize("gain_db", [60.0, 43.0, 30.0, 20.0])
    def test_a_gain_of_coarser_qualities_is_found(self, gain_db: float) -> None:
        """As of networks that noise helps: every fine file is a little worse, one range of coarser ones better."""
        network = layers()

        def score(arrays: dict[str, NDArray[np.float32]]) -> float:
            ratio = min(ratio_db(values, arrays[name]) for name, values in network.items())
            return 0.0 if math.isinf(ratio) else 0.05 if abs(ratio - gain_db) < 4 else -0.002

        data = compress(network, evaluate=score, max_drop=0.0)
        assert score(decompress(data)) == 0.05


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 1 << 20),
    spread=st.floats(0, 3),
    noise=st.floats(1e-3, 1),
    n_noisy=st.integers(1, 40),
    offset=st.sampled_from([0.0, 0.0, 30.0]),
)
def test_what_is_surely_kept_is_not_weak_wherever_the_error_falls(
    seed: int, spread: float, noise: float, n_noisy: int, offset: float
) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.normal(0, 1, (40, 12)) * np.exp(rng.normal(0, spread, (40, 1))) + offset).astype(np.float32)
    error = np.zeros_like(values)
    error[np.argsort(np.square(values).sum(1))[:n_noisy]] = noise
    if is_surely_kept(values, float(np.square(error, dtype=np.float64).sum())):
        assert snr_db(values, values + error) >= WEAK_DB
        assert rows_snr_db(values, np.square(error).sum(1), weak_rows(values, 1e6)) >= WEAK_DB


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", [{"qp": -32}, {"quality": 20.0}])
def test_rows_of_different_scale_are_not_mixed_in_blocks(seed: int, options: dict[str, Any]) -> None:
    """Blocks are for parallel decoding; where rows differ in scale, they would cost several per cent."""
    rng = np.random.default_rng(seed)
    values = rng.laplace(0, 0.01, (256, 1200)).astype(np.float32)
    scaled = values * np.exp(rng.standard_normal((256, 1))).astype(np.float32)
    for array, share in ((values, 1.006), (scaled, 1.0)):
        by_default = len(compress({"w": array}, **options))
        by_row = len(compress({"w": array}, scan_order=0, **options))
        assert by_default <= share * by_row
    assert inspect(compress({"w": values}, **options)).tensors[0].scan_order > 0


def test_what_is_left_beside_a_large_tensor_makes_the_others_finer() -> None:
    """Steps lie 1.5 dB apart: the next finer one of a tensor with nearly all weights takes more than is left."""
    rng = np.random.default_rng(1)
    shares = []
    for scale in np.geomspace(0.03, 0.06, 8):
        large = rng.standard_normal((600, 700)).astype(np.float32) * np.float32(scale)
        arrays = {"first": large, **{f"small{i}": rng.standard_normal((64, 64)).astype(np.float32) for i in range(4)}}
        tensors = inspect(compress(arrays), original=arrays).tensors
        shares.append(min(t.snr_db for t in tensors[1:]) - tensors[0].snr_db)
    assert min(shares) > 5  # a small one is never rounded as the large one is


def test_a_network_with_runs_of_zeros_uses_up_what_one_step_for_all_would_take() -> None:
    values = normal((512, 1152), 0.004, 1)
    values[np.random.default_rng(2).random((512, 9)).repeat(128, axis=1) < 0.6] = 0.0
    network = {"a.weight": values, "b.weight": normal((64, 256), 0.02, 3)}
    one_step = len(compress(network, qp=-32, lambda_rd=0.0))
    assert 0.97 * one_step < len(compress(network)) <= one_step


def test_a_network_that_samples_tell_right_is_coded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    coded: list[str] = []

    def counted(job: TensorJob, options: CompressOptions) -> EncodedTensor:
        coded.append(job.name)
        return encode_tensor(job, options)

    monkeypatch.setattr("vvc_nnr.coding.encoder.encode_tensor", counted)
    monkeypatch.setattr("vvc_nnr.coding.reference_size.HELD_VALUES", 1)  # as a large network
    compress(layers())
    assert sorted(coded) == sorted(layers())


@pytest.mark.parametrize("line", [float8_line, scaled_line, joined_line, outliers_line, exact_by_outliers_line, None])
def test_warnings_of_one_tensor_are_in_the_singular(line: Callable[[list[str]], str] | None) -> None:
    one, two = (line(names) if line else weak_names(dict.fromkeys(names, 3.0)) for names in (["a"], ["a", "b"]))
    assert re.match(r"1 tensor (of [a-z0-9 ]+ )?(is|has|keeps) ", one)
    assert re.match(r"2 tensors (of [a-z0-9 ]+ )?(are|have|keep) ", two)


def test_warnings_name_tensors_as_options_take_them(caplog: pytest.LogCaptureFixture) -> None:
    """Names of one graph differ in their middle alone."""
    names = [f"StatefulPartitionedCall/functional_1/conv2d_{n}/{'c' * n}Conv2D/ReadVariableOp:0" for n in range(4)]
    network = {name: normal((40 + n, 40), 1.0) for n, name in enumerate(names)}
    compress(network, quality=4)
    assert all(name in caplog.text for name in names[:-1])  # the last keeps more
