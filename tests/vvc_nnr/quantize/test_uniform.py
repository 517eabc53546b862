"""The uniform quantiser: contract, exact values, error bound, bit packing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.quantize.uniform import (
    UniformTensor,
    level_dtype,
    pack_levels,
    packed_bytes,
    quantize_uniform,
    unpack_levels,
)

BITS = st.integers(1, 16)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def tensors(elements=FLOATS):
    return hnp.arrays(np.float32, SHAPES, elements=elements)


def naive_levels(values, bits):
    """The formula of the module, one Python number at a time."""
    flat = [float(v) for v in values.reshape(-1)]
    low, high = (min(flat), max(flat)) if flat else (0.0, 0.0)
    top = 2**bits - 1
    return [round((v - low) * (top / (high - low))) if high > low else 0 for v in flat]


def test_known_levels_and_values():
    tensor = quantize_uniform(np.array([[-1.0, 0.0], [0.26, 2.0]], np.float32), 2)
    assert tensor.levels.tolist() == [[0, 1], [1, 3]]
    assert (tensor.minimum, tensor.maximum, tensor.step) == (-1.0, 2.0, 1.0)
    assert tensor.dequantize().tolist() == [[-1.0, 0.0], [0.0, 2.0]]


@given(values=tensors(), bits=BITS)
def test_levels_follow_the_formula_and_errors_stay_within_half_a_step(values, bits):
    tensor = quantize_uniform(values, bits)
    assert tensor.levels.shape == values.shape
    assert tensor.levels.dtype == (np.uint8 if bits <= 8 else np.uint16)
    assert tensor.levels.reshape(-1).tolist() == naive_levels(values, bits)
    decoded = tensor.dequantize()
    assert decoded.dtype == np.float32
    assert decoded.shape == values.shape
    rounding = 2.0**-23 * max(abs(tensor.minimum), abs(tensor.maximum)) + 2.0**-149
    errors = np.abs(decoded.astype(np.float64) - values)
    assert errors.max(initial=0) <= tensor.step / 2 + rounding


@given(value=FLOATS, shape=SHAPES, bits=BITS)
def test_constant_tensor_is_exact(value, shape, bits):
    values = np.full(shape, value, np.float32)
    np.testing.assert_array_equal(quantize_uniform(values, bits).dequantize(), values)


@given(bits=BITS, low=FLOATS, high=FLOATS)
def test_both_ends_of_the_range_are_exact_at_comparable_size(bits, low, high):
    decoded = quantize_uniform(np.array([low, high], np.float32), bits).dequantize()
    span = abs(high - low)
    np.testing.assert_allclose(decoded, np.array([low, high], np.float32), rtol=2e-7, atol=1e-15 * span)


@pytest.mark.parametrize("bits", [0, 17, -1])
def test_bits_out_of_range(bits):
    with pytest.raises(InputError, match=f"{bits} bits per value: must be 1 to 16"):
        quantize_uniform(np.zeros(3, np.float32), bits)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(bad):
    with pytest.raises(InputError, match="1 of 3 values are NaN, infinite"):
        quantize_uniform(np.array([0.0, bad, 1.0], np.float32), 8)


def test_float64_beyond_float32():
    with pytest.raises(InputError, match="beyond float32"):
        quantize_uniform(np.array([1e300]), 8)


def test_integers_are_not_quantised():
    with pytest.raises(InputError, match="int64"):
        quantize_uniform(np.arange(3, dtype=np.int64), 8)


@pytest.mark.parametrize(
    ("levels", "minimum", "maximum", "bits", "message"),
    [
        (np.array([4], np.uint8), 0.0, 1.0, 2, "level 4: 2 bit levels end at 3"),
        (np.array([256], np.uint16), 0.0, 1.0, 8, "uint8"),
        (np.array([1], np.uint8), 0.0, 1.0, 9, "uint16"),
        (np.array([1], np.uint8), np.nan, 1.0, 8, "finite"),
        (np.array([1], np.uint8), 0.0, np.inf, 8, "finite"),
        (np.array([1], np.uint8), 1.0, 0.0, 8, "ordered"),
        (np.array([1], np.uint8), 0.0, 1e39, 8, "within float32"),
    ],
)
def test_tensor_parts_that_do_not_fit(levels, minimum, maximum, bits, message):
    with pytest.raises(InputError, match=message):
        UniformTensor(levels, minimum, maximum, bits)


def test_packed_bytes_are_most_significant_bit_first():
    packed = pack_levels(np.array([0b101, 0b001, 0b110], np.uint8), 3)
    assert packed.tolist() == [0b10100111, 0b00000000]


@given(data=st.data(), bits=BITS)
def test_packing_round_trip_and_size(data, bits):
    values = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=40))
    levels = np.array(values, level_dtype(bits))
    packed = pack_levels(levels, bits)
    assert packed.size == packed_bytes(len(values), bits)
    text = "".join(f"{v:0{bits}b}" for v in values)
    assert "".join(f"{b:08b}" for b in packed.tolist())[: len(text)] == text
    unpacked = unpack_levels(packed, len(values), bits)
    assert unpacked.dtype == level_dtype(bits)
    assert unpacked.tolist() == values


def test_unpacking_checks_size_and_filling():
    with pytest.raises(BitstreamError, match="3 levels of 3 bit take 2 bytes, got 1"):
        unpack_levels(np.zeros(1, np.uint8), 3, 3)
    with pytest.raises(BitstreamError, match="fill the last byte"):
        unpack_levels(np.array([0, 1], np.uint8), 3, 3)
