"""What the format cannot say of a tensor: its number format and its shape, and how both travel all the same.

The coded format knows int32 and float32 arrays of one or more dimensions, none of them zero. So

    bool, integers       int32, modulo 2**32; 64-bit integers beyond int32: low and high halves, two tensors
    float16, bfloat16    float32, rounded back to the format afterwards
    float64              float32, or its bits as 64-bit integers
    exact floats, and those too large for a step   their bits as integers
    0-d                  one dimension of 1
    no elements          a stand-in, the integer 0 in one dimension of 1

A bfloat16 array has the name of that format as its dtype (a type of the package ml_dtypes), or is wrapped in
`Bfloat16Bits`. Since numpy has no such type, what is read back is float32 that bfloat16 could hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.errors import InputError

Array: TypeAlias = NDArray[Any]

INTEGERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
FLOAT64_BITS = "float64 bits"
BITS_SUFFIX = " bits"
# Values as they are, in a data unit of raw floats.
VALUES_SUFFIX = " values"
# Floats as the integers that their bits are, by the bytes of a value.
BITS_OF = {
    "float16": "float16 bits",
    "bfloat16": "bfloat16 bits",
    "float32": "float32 bits",
    "float64": FLOAT64_BITS,
}
_BITS = {"float16 bits": np.uint16, "bfloat16 bits": np.uint16, "float32 bits": np.int32, FLOAT64_BITS: np.int64}
# May take two tensors of int32.
WIDE_FORMATS = ("int64", "uint64", FLOAT64_BITS)
INTEGER_FORMATS = (*INTEGERS, *BITS_OF.values())
NUMBER_FORMATS = (*INTEGER_FORMATS, *FLOATS)
# What to do with floats that have no levels.
NNC_KEEPS_THEM = "a .nnc file keeps them"
_INT32 = np.iinfo(np.int32)
# The last bits of a float32 that a bfloat16 lacks.
_BFLOAT16_SHIFT = 16


@dataclass(frozen=True, slots=True, eq=False)
class Bfloat16Bits:
    """A bfloat16 tensor as numpy can hold it.

    Args:
        bits: uint16, the upper half of each value's float32 bits.
    """

    bits: NDArray[np.uint16]


NamedArrays: TypeAlias = "dict[str, Array | Bfloat16Bits]"


def number_format_of(name: str, array: Array | Bfloat16Bits) -> str:
    """The number format of a tensor.

    Raises:
        InputError: If it is none that can be coded.
    """
    if isinstance(array, Bfloat16Bits):
        return "bfloat16"
    found = str(array.dtype.newbyteorder("=")) if array.dtype.names is None else "records"
    if found not in (*INTEGERS, *FLOATS):
        raise InputError(f"tensor {name!r}: cannot code {found}, only {', '.join((*INTEGERS, *FLOATS))}")
    return found


def shape_of(array: Array | Bfloat16Bits) -> tuple[int, ...]:
    """The shape of a tensor."""
    return array.bits.shape if isinstance(array, Bfloat16Bits) else array.shape


def itemsize_of(array: Array | Bfloat16Bits) -> int:
    """Bytes of one value."""
    return 2 if isinstance(array, Bfloat16Bits) else array.dtype.itemsize


def itemsize_of_format(number_format: str) -> int:
    """Bytes of one value of a number format, however it is coded."""
    plain = number_format.split()[0]
    return 2 if plain == "bfloat16" else np.dtype(plain).itemsize


def coded_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which a tensor is coded."""
    return shape if shape and all(shape) else (1,)


def as_float32(name: str, array: Array | Bfloat16Bits, remedy: str = "") -> NDArray[np.float32]:
    """The values of a float tensor in C order, not copied if they are float32 in that order already.

    Args:
        name: Its name.
        array: The tensor.
        remedy: What the error says to do.

    Raises:
        InputError: If one is NaN, infinite or beyond float32.
    """
    values = nearest_float32(array)
    if not np.isfinite(extremes(values)).all():
        n_bad = int(np.count_nonzero(~np.isfinite(values)))
        fault = f"{n_bad} of {values.size} values are NaN, infinite or beyond float32"
        raise InputError(f"tensor {name!r}: {fault}{remedy and ': '}{remedy}")
    return values


def float32_of_bfloat16(array: Bfloat16Bits) -> NDArray[np.float32]:
    """The values of a bfloat16 tensor, NaN and infinity among them."""
    return _from_bfloat16(array.bits)


def finite_float32(array: Array | Bfloat16Bits) -> NDArray[np.float32] | None:
    """As `as_float32`; None if a value is NaN, infinite or beyond float32, or most of them are too small for it."""
    values = nearest_float32(array)
    least, largest = extremes(values)
    if not (math.isfinite(least) and math.isfinite(largest)) or _is_beneath_float32(
        array, values, max(-least, largest)
    ):
        return None
    return values


def _is_beneath_float32(array: Array | Bfloat16Bits, values: NDArray[np.float32], largest: float) -> bool:
    """Whether float32 has no full precision for any value of a float64 tensor, or makes most of them zero."""
    if isinstance(array, Bfloat16Bits) or array.dtype.itemsize <= 4:
        return False
    n_zeros = values.size - int(np.count_nonzero(values))
    n_lost = n_zeros - (array.size - int(np.count_nonzero(array))) if n_zeros else 0
    is_tiny = largest < np.finfo(np.float32).tiny and not np.array_equal(values.astype(np.float64), array)
    return is_tiny or 2 * n_lost > values.size - n_zeros + n_lost


def nearest_float32(array: Array | Bfloat16Bits) -> NDArray[np.float32]:
    """The values of a float tensor as float32 in C order; infinite where they are beyond it."""
    if isinstance(array, Bfloat16Bits):
        return _from_bfloat16(array.bits)
    with np.errstate(over="ignore", invalid="ignore"):  # a NaN may be a signalling one
        return np.ascontiguousarray(array, dtype=np.float32)


def exact_float32(array: Array | Bfloat16Bits) -> NDArray[np.float32] | None:
    """The values of a float tensor as float32 in C order, NaN and infinity among them; None if that loses some."""
    if isinstance(array, Bfloat16Bits):
        return _from_bfloat16(array.bits)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.ascontiguousarray(array, dtype=np.float32)
        is_same = array.dtype.itemsize <= 4 or np.array_equal(values.astype(np.float64), array)
    return values if is_same else None


def nonzero(array: Array | Bfloat16Bits) -> NDArray[np.bool_]:
    """Where a float tensor is not zero."""
    found: NDArray[np.bool_] = (array.bits & 0x7FFF if isinstance(array, Bfloat16Bits) else array) != 0
    return found


def extremes(values: Array) -> tuple[Any, Any]:
    """Least and largest element; NaN if there is one; zeros of an empty array."""
    if not values.size:
        return values.dtype.type(0), values.dtype.type(0)
    if values.dtype == np.float32 and values.dtype.isnative:
        return _kernels.extremes(values)
    return values.min(), values.max()


def as_int32(array: Array | Bfloat16Bits, number_format: str) -> tuple[NDArray[np.int32], ...]:
    """An integer tensor, or the bits of a float tensor, in C order: one array, or low and high halves."""
    if isinstance(array, Bfloat16Bits):
        integers: Array = array.bits
    elif number_format in _BITS:
        native = np.ascontiguousarray(array, dtype=number_format.split()[0])
        integers = native.view(_BITS[number_format])
    else:
        integers = array
    if integers.dtype.itemsize < 8:
        return (np.ascontiguousarray(integers.astype(np.int32, copy=False)),)
    wide = np.ascontiguousarray(integers, dtype=integers.dtype.newbyteorder("=")).view(np.int64)
    low, high = extremes(wide)
    narrow = wide.astype(np.int32)
    return (narrow,) if _INT32.min <= low and high <= _INT32.max else (narrow, (wide >> 32).astype(np.int32))


def from_int32(parts: tuple[NDArray[np.int32], ...], number_format: str) -> Array:
    """The inverse of `as_int32`, but for bfloat16, which becomes float32."""
    if number_format == "bfloat16 bits":
        return _from_bfloat16(parts[0].astype(np.uint16))
    if number_format == "float16 bits":
        return parts[0].astype(np.uint16).view(np.float16)
    if number_format == "float32 bits":
        return parts[0].view(np.float32)
    if number_format not in WIDE_FORMATS:
        return parts[0].astype(number_format, copy=False)
    wide = parts[0].astype(np.int64)
    if len(parts) == 2:
        wide &= 0xFFFFFFFF
        wide |= parts[1].astype(np.int64) << 32
    return wide.view(np.float64 if number_format == FLOAT64_BITS else number_format)


def from_bits(bits: Array, number_format: str) -> Array:
    """Values from their bits, unsigned integers of their size; bfloat16 becomes float32."""
    if number_format == "bfloat16":
        return _from_bfloat16(bits)
    return bits != 0 if number_format == "bool" else bits.view(number_format)


def from_float32(values: NDArray[np.float32], number_format: str) -> Array:
    """Values rounded to a float format; what rounds to infinity becomes the largest finite value."""
    if number_format == "float64":
        return values.astype(np.float64)
    if number_format == "float16":
        largest = np.finfo(np.float16).max
        return np.clip(values, -largest, largest).astype(np.float16)
    return _rounded_to_bfloat16(values) if number_format == "bfloat16" else values


def bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves of values that bfloat16 can hold."""
    return (values.view(np.uint32) >> _BFLOAT16_SHIFT).astype(np.uint16)


def _from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    wide = bits.astype(np.uint32, order="C")
    wide <<= _BFLOAT16_SHIFT
    return wide.view(np.float32)


def _rounded_to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Nearest values of bfloat16, ties to even."""
    largest = _from_bfloat16(np.array([0x7F7F], np.uint16))[0]
    bits = np.clip(values, -largest, largest).view(np.uint32).astype(np.uint64)
    bits += 0x7FFF + ((bits >> _BFLOAT16_SHIFT) & 1)
    bits &= 0xFFFF0000
    return np.clip(bits.astype(np.uint32).view(np.float32), -largest, largest)
