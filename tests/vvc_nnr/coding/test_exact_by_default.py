"""Tensors that are as short without loss as with it are exact by default; short files; scales of all sizes."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save

from vvc_nnr.bitstream.data_unit import PayloadType
from vvc_nnr.bitstream.number_formats import FloatBits, numpy_values
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.coding.update import BaseState, apply_update, compress_update
from vvc_nnr.compress import compress, decompress
from vvc_nnr.errors import BitstreamError, UnsupportedError


def snr_db(values: NDArray[np.floating], decoded: NDArray[np.floating]) -> float:
    error = np.square(values.astype(np.float64) - decoded).sum()
    return 10 * math.log10(float(np.square(values, dtype=np.float64).sum()) / float(error)) if error else math.inf


RNG = np.random.default_rng(7)


def levels(n: int, shape: tuple[int, ...], scale: float = 0.1, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.choice((scale * rng.normal(size=n)).astype(np.float32), shape).astype(np.float32)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(30, 30), (900,), (8, 3, 3, 3), (400, 200), (600, 500)])
@pytest.mark.parametrize("scale", [0.1, 30.0])
def test_few_different_values_are_exact(n: int, shape: tuple[int, ...], scale: float) -> None:
    array = levels(n, shape, scale)
    data = compress({"w": array})
    np.testing.assert_array_equal(decompress(data)["w"], array)
    assert len(data) <= 1.02 * len(compress({"w": array}, lossless=True)) + 16


@pytest.mark.parametrize("scale", [1e-12, 1e-30])
def test_tiny_values_that_are_all_alike_are_exact(scale: float) -> None:
    array = levels(1, (30, 30), scale)
    data = compress({"w": array})
    np.testing.assert_array_equal(decompress(data)["w"], array)
    assert len(data) <= 200


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("scale", [1e-3, 1e-5])
def test_few_small_values_are_near_in_a_codebook_that_other_decoders_read(n: int, scale: float) -> None:
    array = levels(n, (60, 60), scale)
    data = compress({"w": array})
    assert np.abs(decompress(data)["w"] / array - 1).max() <= 2.0**-10
    assert read_stream(data).tensors[0].data_units[0].codebook
    assert len(data) <= (100 if n == 1 else 900)
    np.testing.assert_array_equal(decompress(compress({"w": array}, lossless=True))["w"], array)


def test_few_different_values_are_in_a_codebook_that_other_decoders_read() -> None:
    stream = read_stream(compress({"w": levels(3, (64, 64)), "b": levels(2, (64,))}))
    units = [unit for tensor in stream.tensors for unit in tensor.data_units]
    assert [unit.nnr_compressed_data_unit_payload_type for unit in units] == [PayloadType.FLOAT] * 2
    assert [len(unit.codebook.values) for unit in units if unit.codebook] == [3, 2]


def test_zeros_of_pruned_weights_may_be_negative() -> None:
    array = levels(2, (64, 64))
    array[::2] *= np.float32(-0.0)
    np.testing.assert_array_equal(decompress(compress({"w": array}))["w"], array)


def test_values_on_a_coarse_grid_are_exact() -> None:
    rng = np.random.default_rng(1)
    array = (np.rint(rng.normal(0, 300, (100, 100))) / 4).astype(np.float32)
    np.testing.assert_array_equal(decompress(compress({"w": array}))["w"], array)


LARGE = {
    "one of many": [np.triu(np.full((64, 64), -1e4, np.float32), 1)],
    "two of two": [
        np.float32([-1e3, 1e3])[RNG.integers(0, 2, (64, 64))],
        np.float32([0, 1e3])[RNG.integers(0, 2, (64, 64))],
    ],
    "256 levels": [levels(256, (32, 32, 3, 3), 10.0), levels(256, (10, 512), 10.0)],
}


@pytest.mark.parametrize("kind", LARGE)
def test_few_large_values_are_no_longer_than_without_loss(kind: str) -> None:
    arrays = {f"layer{place}.weight": array for place, array in enumerate(LARGE[kind])}
    data = compress(arrays)
    assert len(data) <= 1.02 * len(compress(arrays, lossless=True))
    for name, array in decompress(data).items():
        assert snr_db(arrays[name], array) > 150


def test_a_constant_of_a_few_finest_steps_stays_one() -> None:
    (found,) = set(decompress(compress({"w": np.full((8, 8), 1e-8, np.float32)}))["w"].reshape(-1).tolist())
    assert abs(found / 1e-8 - 1) < 2.0**-4


def test_raw_floats_stand_alone() -> None:
    arrays = {"w": levels(3, (5, 4, 3, 3)), "b": np.random.default_rng(5).normal(size=5).astype(np.float32)}
    for named, n_raw in (({"b": arrays["b"]}, 1), (arrays, 0)):
        units = [unit for tensor in read_stream(compress(named, lossless=True)).tensors for unit in tensor.data_units]
        kinds = [unit.nnr_compressed_data_unit_payload_type for unit in units]
        assert kinds.count(PayloadType.RAW_FLOAT) == n_raw


def test_few_different_values_beside_others() -> None:
    rng = np.random.default_rng(2)
    arrays = {"a": levels(3, (100, 64)), "b": rng.normal(0, 0.1, (100, 64)).astype(np.float32)}
    decoded = decompress(compress(arrays))
    np.testing.assert_array_equal(decoded["a"], arrays["a"])
    assert 14 < snr_db(arrays["b"], decoded["b"]) < 60


def test_values_for_which_the_coarsest_step_is_too_fine_are_exact_where_that_is_shorter() -> None:
    bits = (1e21 * np.random.default_rng(4).normal(size=(60, 60))).astype(np.float32).view(np.uint32) >> 16
    array = FloatBits(bits.astype(np.uint16), "bfloat16")
    data = compress({"w": array})
    np.testing.assert_array_equal(decompress(data)["w"], numpy_values(array))
    assert len(data) < 1.5 * bits.size


def test_half_floats_get_no_finer_step_than_their_digits() -> None:
    array = (100 * np.random.default_rng(5).normal(size=(200,))).astype(np.float16)
    data = compress({"norm.weight": array})
    assert len(data) < 2 * array.size + 70
    assert snr_db(array, decompress(data)["norm.weight"]) > 60


def test_a_given_qp_means_that_step() -> None:
    array = levels(3, (30, 30))
    assert (decompress(compress({"w": array}, qp=-20))["w"] != array).any()


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 30, 100, 255, 256, 1000])
@pytest.mark.parametrize("lossless", [False, True])
def test_short_files_are_no_larger_than_their_input(n: int, lossless: bool) -> None:
    for seed in range(3):
        array = np.random.default_rng(seed).normal(size=n).astype(np.float32)
        data = compress({"w": array}, lossless=lossless)
        assert len(data) <= len(save({"w": array}))
        if lossless:
            np.testing.assert_array_equal(decompress(data)["w"], array)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i4", "i8", "u2", "?"])
@pytest.mark.parametrize("n_tensors", [3, 6])
def test_short_files_of_several_tensors_are_no_larger_than_their_input(dtype: str, n_tensors: int) -> None:
    rng = np.random.default_rng(n_tensors)
    for n in (20, 60):
        arrays = {f"layer.{i}.weight": (100 * rng.normal(size=n)).astype(dtype) for i in range(n_tensors)}
        for options in ({}, {"lossless": True}):
            assert len(compress(arrays, **options)) <= len(save(arrays))


def test_each_changed_byte_of_a_short_file_is_noticed() -> None:
    data = compress({"w": np.random.default_rng(0).normal(size=20).astype(np.float32)}, lossless=True)
    for place in range(len(data)):
        with pytest.raises((BitstreamError, UnsupportedError)):
            decompress(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])


def whole_or_named(
    arrays: dict[str, NDArray[np.floating]], caplog: pytest.LogCaptureFixture, **options: bool
) -> dict[str, NDArray[np.floating]]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        decoded = decompress(compress(arrays, **options))
    for name, array in arrays.items():
        assert decoded[name].shape == array.shape
        assert snr_db(array, decoded[name]) >= 10 or name in caplog.text
    return decoded


@pytest.mark.parametrize("exponent", [*range(-45, -3), -2, 0, 3, 8, 16, 24, 32, 37])
def test_weights_of_any_scale_keep_11_db_or_are_exact(exponent: int, caplog: pytest.LogCaptureFixture) -> None:
    for shape, factor in (((24, 24), 1.0), ((500,), 3.0)):
        with np.errstate(over="ignore", under="ignore"):
            values = np.random.default_rng(-exponent & 0xFF).normal(size=shape) * factor * 10.0**exponent
            array = values.astype(np.float32)
        decoded = whole_or_named({"w": array}, caplog)["w"]
        assert snr_db(array, decoded) > 10.9
        assert "keep" not in caplog.text


@pytest.mark.parametrize("scale", [3e-10, 2e-10, 1e-10, 5e-11, 1e-30, 1e-40])
def test_differences_of_any_scale_keep_11_db_or_are_exact(scale: float, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(3)
    old = BaseState.of({"w": np.zeros((24, 24), np.float32)})
    new = {"w": (scale * rng.normal(size=(24, 24))).astype(np.float32)}
    with caplog.at_level(logging.WARNING):
        data, after = compress_update(old, new)
    assert snr_db(new["w"], after.tensors["w"].values) > 10.9
    np.testing.assert_array_equal(apply_update(old, data).tensors["w"].values, after.tensors["w"].values)
    assert not caplog.text


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-38, 37), st.sampled_from(["normal", "sparse", "rank 1", "outliers", "few"])),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 99),
)
def test_no_tensor_of_a_generated_network_is_weak_without_a_word(kinds: list[tuple[float, str]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = {}
    for place, (exponent, kind) in enumerate(kinds):
        values = rng.normal(size=(16, 24))
        values *= {"sparse": rng.random(values.shape) < 0.1}.get(kind, 1)
        if kind == "rank 1":
            values = rng.normal(size=(16, 1)) * rng.normal(size=24)
        if kind == "outliers":
            values[3, 5] = 1e6
        if kind == "few":
            values = np.sign(values)
        with np.errstate(over="ignore"):
            arrays[f"w{place}"] = np.clip(values * 10.0**exponent, -3e38, 3e38).astype(np.float32)
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("vvc_nnr")
    logger.addHandler(handler)
    try:
        decoded = decompress(compress(arrays))
    finally:
        logger.removeHandler(handler)
    for name, array in arrays.items():
        assert snr_db(array, decoded[name]) >= 10 or name in " ".join(records)
