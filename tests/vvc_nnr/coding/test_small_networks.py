"""Networks of a few thousand values: what headers, names and contexts take beside the values must not weigh more."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vvc_nnr.bitstream.data_unit import DataUnit, PayloadType
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.coding.reference_size import HELD_VALUES, held_share, is_small, reference_bytes
from vvc_nnr.coding.tensor_job import unary_length_minus1_of
from vvc_nnr.coding.unit_coding import encode_indices
from vvc_nnr.compress import compress, decompress, inspect
from vvc_nnr.model.container import container_size
from vvc_nnr.options import CompressOptions

Network = dict[str, NDArray[np.float32]]


def network(n_layers: int, n_columns: int, scale: float, share: float = 1.0) -> Network:
    rng = np.random.default_rng([n_layers, n_columns])
    found: Network = {}
    for place in range(n_layers):
        weight = rng.laplace(0, scale, (8 + place, n_columns)) * (rng.random((8 + place, n_columns)) < share)
        found[f"layers.{place}.weight"] = weight.astype(np.float32)
        found[f"layers.{place}.bias"] = rng.normal(0, scale, 8 + place).astype(np.float32)
    return found


def snr_db(values: NDArray[np.float32], decoded: NDArray[np.float32]) -> float:
    noise = float(np.square(values - decoded).sum())
    return 10 * math.log10(float(np.square(values).sum()) / noise) if noise else math.inf


@pytest.mark.parametrize(
    ("n_layers", "n_columns", "scale", "share"),
    [(3, 20, 0.2, 1.0), (20, 9, 0.1, 1.0), (16, 4, 0.014, 1.0), (6, 200, 0.05, 0.2), (12, 30, 2.0, 1.0)],
)
def test_default_files_are_no_larger_than_the_reference_software_s(
    n_layers: int, n_columns: int, scale: float, share: float
) -> None:
    arrays = network(n_layers, n_columns, scale, share)
    data = compress(arrays)
    decoded = decompress(data)
    assert len(data) <= reference_bytes(arrays, None)
    assert list(decoded) == list(arrays)
    assert all(snr_db(arrays[name], decoded[name]) > 12 for name in arrays)


def test_networks_whose_values_the_reference_software_loses_keep_theirs() -> None:
    arrays = network(4, 40, 1e-6)
    decoded = decompress(compress(arrays))
    assert all(snr_db(arrays[name], decoded[name]) > 12 for name in arrays)


def test_what_options_ask_for_is_not_held_against_that_size() -> None:
    arrays = network(20, 9, 0.1)
    fine = compress(arrays, qp_per_tensor={"layers.0.weight": -60})
    assert snr_db(arrays["layers.0.weight"], decompress(fine)["layers.0.weight"]) > 60
    assert len(compress(arrays, quality=60)) > reference_bytes(arrays, None)


def test_very_large_networks_are_not_held_against_that_size() -> None:
    one = np.zeros(1, np.float32)
    shares = [held_share({"w": np.broadcast_to(one, n * HELD_VALUES // 4)}) for n in range(1, 10)]
    assert shares == [1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]


@pytest.mark.parametrize("scale", [0.03, 0.3])
def test_larger_networks_use_that_size_up(scale: float) -> None:
    rng = np.random.default_rng(4)
    arrays = {f"{n}.weight": rng.laplace(0, scale, (10 * n, 400)).astype(np.float32) for n in range(1, 13)}
    arrays |= {f"{n}.bias": rng.normal(0, scale, 10 * n).astype(np.float32) for n in range(1, 13)}
    assert not is_small(arrays)
    assert 0.994 < len(compress(arrays)) / reference_bytes(arrays, None) <= 1


def test_long_names_are_no_room_for_weights() -> None:
    arrays = {f"{n}": np.full((300, 100), 0.01 * n, np.float32) for n in range(10)}
    named = {f"{'encoder.' * 5}{name}": array for name, array in arrays.items()}
    assert reference_bytes(named, None) - reference_bytes(arrays, None) == len(arrays)
    few, same = ({name: array[:80] for name, array in each.items()} for each in (arrays, named))
    assert is_small(few)
    assert reference_bytes(same, None) - reference_bytes(few, None) == 15 * len(arrays)
    usual = {f"layers.0.weight{name}": array for name, array in few.items()}  # of 16 letters
    assert reference_bytes(usual, None) - reference_bytes(few, None) == 15 * len(arrays)


def test_the_size_is_the_same_by_any_number_of_threads() -> None:
    arrays = network(6, 200, 0.05)
    assert reference_bytes(arrays, b"graph", n_threads=3) == reference_bytes(arrays, b"graph")


def test_sizes_have_no_step_where_networks_cease_to_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """At one value more than a held network has, the file is as large as at one value less."""
    n_held = 1 << 17
    monkeypatch.setattr("vvc_nnr.coding.reference_size.HELD_VALUES", n_held)
    rng = np.random.default_rng(3)
    n_rows = n_held // 2 // 64 - 1
    arrays = {
        f"{name}.{kind}": (rng.laplace(0, 0.05, shape)).astype(np.float32)
        for name in "ab"
        for kind, shape in (("weight", (n_rows, 64)), ("bias", (64,)))
    }
    last = {f"rest.{kind}": rng.laplace(0, 0.05, n).astype(np.float32) for kind, n in (("weight", 1),)}
    assert sum(map(np.size, arrays.values())) == n_held
    data, more = compress(arrays), compress(arrays | last)
    assert abs(len(more) / len(data) - 1) < 0.002


def test_units_have_no_place_in_an_update_tree() -> None:
    units = [unit for tensor in read_stream(compress(network(2, 9, 0.1))).tensors for unit in tensor.data_units]
    assert [unit.node_id for unit in units] == [None] * 4


@pytest.mark.parametrize(
    ("shape", "scale"), [((8,), 300.0), ((64, 64), 0.4), ((64, 64), 6.0), ((128, 128), 40.0), ((4096,), 1000.0)]
)
def test_greater_flags_fit_the_indices(shape: tuple[int, ...], scale: float) -> None:
    indices = np.rint(np.random.default_rng(2).laplace(0, scale, shape)).astype(np.int32)
    unit = DataUnit(PayloadType.INT, ("w",), shape, b"")

    def n_bytes(minus1: int | None) -> int:
        coded = encode_indices(replace(unit, cabac_unary_length_minus1=minus1), indices, None, CompressOptions())
        return len(coded.payload) + (minus1 is not None)

    found = n_bytes(unary_length_minus1_of(indices))
    assert found <= 1.005 * n_bytes(10)
    assert found <= 1.01 * min(map(n_bytes, (0, 1, 2, 4, 6, None, 13, 18))) + 1


def test_greater_flags_of_next_to_nothing() -> None:
    assert unary_length_minus1_of(np.zeros((300, 7), np.int32)) is None
    assert unary_length_minus1_of(np.array([-1, 0, 1], np.int32)) is None
    assert unary_length_minus1_of(np.array([-(2**31), 2**31 - 1], np.int32)) == 0


def test_texts_beside_a_small_network_cost_its_weights_nothing() -> None:
    rng = np.random.default_rng(0)
    arrays = {f"l{i}.weight": rng.normal(0, 0.1, (16, 16, 3, 3)).astype(np.float32) for i in range(3)}
    text = "".join(map(chr, rng.integers(97, 123, 3000)))
    bare, noted = (inspect(compress(arrays, metadata=each), original=arrays) for each in ({}, {"note": text}))
    for without, beside in zip(bare.tensors, noted.tensors, strict=True):
        assert beside.snr_db == pytest.approx(without.snr_db, abs=1.5)  # a step of the QP


def test_a_tensor_that_the_reference_erases_is_kept_beside_others() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        name: (scale * rng.standard_normal((40, 40))).astype(np.float32) for name, scale in (("a", 1e-20), ("b", 1))
    }
    decoded = decompress(compress(arrays))
    assert all(snr_db(arrays[name], decoded[name]) > 14 for name in arrays)


TINY = ["bool", "int8", "int64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", TINY)
@pytest.mark.parametrize("shape", [(), (1,), (10,), (100,)], ids=str)
def test_tiny_networks_are_no_larger_than_safetensors(dtype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape) * 100
    for lossless in (False, True):
        arrays = {"w": (values > 0 if dtype == "bool" else np.clip(values, -128, 127).astype(dtype))}
        data = compress(arrays, lossless=lossless, n_threads=1)
        assert len(data) <= container_size(arrays, {})
        assert decompress(data)["w"].dtype == dtype
        assert not lossless or np.array_equal(decompress(data)["w"], arrays["w"])


@pytest.mark.parametrize("n_values", [1000, 5000])
def test_random_bytes_do_not_grow(n_values: int) -> None:
    arrays = {"w": np.random.default_rng(0).integers(-128, 128, n_values).astype(np.int8)}
    data = compress(arrays, n_threads=1)
    assert len(data) <= container_size(arrays, {})
    assert np.array_equal(decompress(data)["w"], arrays["w"])


WIDE = [
    {"a" * 15: ("uint64", 1), "b" * 19: ("int64", 1)},
    {"n": ("int64", 1), "nnnnn": ("uint64", 15)},
    {"a" * 18: ("int32", 6), "b" * 17: ("int64", 2), "c": ("float32", 3)},
    {"a" * 16: ("int64", 138), "b" * 11: ("int32", 57), "c" * 7: ("int64", 5)},
]


@pytest.mark.parametrize("tensors", WIDE, ids=str)
def test_a_few_wide_random_integers_are_no_larger_than_safetensors(tensors: dict[str, tuple[str, int]]) -> None:
    random = np.random.default_rng(1)
    arrays = {
        name: random.integers(0, 256, n * np.dtype(kind).itemsize, np.uint8).view(kind)
        if kind != "float32"
        else random.standard_normal(n).astype(kind)
        for name, (kind, n) in tensors.items()
    }
    data = compress(arrays, n_threads=1)
    decoded = decompress(data)
    assert len(data) <= container_size(arrays, {})
    for name, values in arrays.items():
        assert decoded[name].dtype == values.dtype
        assert np.array_equal(decoded[name], values) or values.dtype.kind == "f"


def test_a_stream_larger_than_its_input_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    compress({"w": np.zeros(3, np.float32)})
    assert not caplog.records
    data = compress({})
    assert f"{len(data) - 16} bytes larger than the input, of 16 bytes" in caplog.text


def test_floats_beside_integers_take_what_these_leave() -> None:
    """A quantised network: levels that the arithmetic coder makes shorter than deflate does, and few floats."""
    rng = np.random.default_rng(8)
    levels = np.clip(np.rint(rng.laplace(0, 9, (500, 400))), -127, 127).astype(np.int8)
    arrays: dict[str, Any] = {"a.weight": levels, "b.weight": rng.normal(0, 0.05, (60, 50)).astype(np.float32)}
    data = compress(arrays)
    assert len(data) <= reference_bytes(arrays, None)
    alone = compress({"b.weight": arrays["b.weight"]})
    found, usual = (decompress(each)["b.weight"] - arrays["b.weight"] for each in (data, alone))
    assert np.square(found).mean() < np.square(usual).mean() / 50
    noise = rng.integers(-128, 128, levels.shape).astype(np.int8)  # deflated no longer than coded
    full = arrays | {"a.weight": noise}
    assert len(compress(full)) <= reference_bytes(full, None)
