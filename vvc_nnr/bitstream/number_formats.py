"""What the format cannot say of a tensor: its number format and its shape, and how both travel all the same.

The coded format knows int32 and float32 arrays of one or more dimensions, none of them zero. So

    bool, integers       int32, modulo 2**32; 64-bit integers beyond int32: low and high halves, two tensors
    float16, bfloat16    float32, rounded back to the format afterwards
    float64              float32, or its bits as 64-bit integers
    exact floats, and those too large for a step   their bits as integers
    float8               as exact floats: they have been quantised before, to less than steps would leave
    0-d                  one dimension of 1
    no elements          a stand-in, the integer 0 in one dimension of 1

An array of bfloat16 or float8 has the name of that format as its dtype (a type of the package ml_dtypes), or is wrapped
in `FloatBits`. Since numpy has no such types, what is read back is float32 that the format could hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.bitstream.float8 import FLOAT8, nearest_codes, values_of_codes
from vvc_nnr.errors import InputError

Array: TypeAlias = NDArray[Any]

INTEGERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "bfloat16", "float32", "float64", *FLOAT8)
# Floats that numpy lacks, and the integers that their bits are.
BITS_DTYPES: Mapping[str, type[np.unsignedinteger[Any]]] = {"bfloat16": np.uint16, **dict.fromkeys(FLOAT8, np.uint8)}
FLOAT64_BITS = "float64 bits"
BITS_SUFFIX = " bits"
# Values as they are, in a data unit of raw floats.
VALUES_SUFFIX = " values"
# Floats as the integers that their bits are, by the bytes of a value.
BITS_OF = {name: name + BITS_SUFFIX for name in FLOATS}
_BITS = {"float16 bits": np.uint16, "float32 bits": np.int32, FLOAT64_BITS: np.int64}
# May take two tensors of int32.
WIDE_FORMATS = ("int64", "uint64", FLOAT64_BITS)
INTEGER_FORMATS = (*INTEGERS, *BITS_OF.values())
NUMBER_FORMATS = (*INTEGER_FORMATS, *FLOATS)
# What to do with floats that have no levels.
NNC_KEEPS_THEM = "a .nnc file keeps them"
_INT32 = np.iinfo(np.int32)
_MAX_FLOAT32 = np.finfo(np.float32).max
# The last bits of a float32 that a bfloat16 lacks.
_BFLOAT16_SHIFT = 16
_FEW = 4096


@dataclass(frozen=True, slots=True, eq=False)
class FloatBits:
    """A tensor of bfloat16 or float8 as numpy can hold it.

    Args:
        bits: The bits of its values: uint16 of bfloat16, which are the upper half of a float32's, uint8 of float8.
        number_format: Its number format, one of `BITS_DTYPES`.
    """

    bits: NDArray[Any]
    number_format: str


NamedArrays: TypeAlias = "dict[str, Array | FloatBits]"


def is_float(number_format: str) -> bool:
    """Whether values of a number format are floats."""
    return number_format in FLOATS


def may_lose(number_format: str) -> bool:
    """Whether a tensor of a number format may lose something: float8 and integers are always exact."""
    return number_format in FLOATS and number_format not in FLOAT8


def number_format_of(name: str, array: Array | FloatBits) -> str:
    """The number format of a tensor.

    Raises:
        InputError: If it is none that can be coded.
    """
    if isinstance(array, FloatBits):
        return array.number_format
    found = _name_of(array.dtype)
    if found not in (*INTEGERS, *FLOATS):
        raise InputError(f"tensor {name!r}: cannot code {found}, only {', '.join((*INTEGERS, *FLOATS))}")
    return found


@lru_cache(64)
def _name_of(dtype: np.dtype[Any]) -> str:
    """Of whatever byte order; numpy takes long to spell it."""
    return str(dtype.newbyteorder("=")) if dtype.names is None else "records"


def plain_array(array: Array | FloatBits) -> Array:
    """An array as numpy has it: the bits of floats that it lacks."""
    return array.bits if isinstance(array, FloatBits) else array


def shape_of(array: Array | FloatBits) -> tuple[int, ...]:
    """The shape of a tensor."""
    return plain_array(array).shape


def itemsize_of(array: Array | FloatBits) -> int:
    """Bytes of one value."""
    return plain_array(array).dtype.itemsize


def itemsize_of_format(number_format: str) -> int:
    """Bytes of one value of a number format, however it is coded."""
    plain = number_format.split()[0]
    return np.dtype(BITS_DTYPES.get(plain, plain)).itemsize


def coded_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which a tensor is coded."""
    return shape if shape and all(shape) else (1,)


def as_float32(name: str, array: Array | FloatBits, remedy: str = "") -> NDArray[np.float32]:
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


def numpy_values(array: Array | FloatBits) -> Array:
    """The values of a tensor as numpy can hold them: of bfloat16 and float8 float32, NaN and infinity among them."""
    return _widened(array.bits, array.number_format) if isinstance(array, FloatBits) else array


def finite_float32(array: Array | FloatBits) -> NDArray[np.float32] | None:
    """As `as_float32`; None if a value is NaN, infinite or beyond float32, or most of them are too small for it."""
    values = nearest_float32(array)
    least, largest = extremes(values)
    if not (math.isfinite(least) and math.isfinite(largest)) or _is_beneath_float32(
        array, values, max(-least, largest)
    ):
        return None
    return values


def _is_beneath_float32(array: Array | FloatBits, values: NDArray[np.float32], largest: float) -> bool:
    """Whether float32 has no full precision for any value of a float64 tensor, or makes most of them zero."""
    if isinstance(array, FloatBits) or array.dtype.itemsize <= 4:
        return False
    n_zeros = values.size - int(np.count_nonzero(values))
    n_lost = n_zeros - (array.size - int(np.count_nonzero(array))) if n_zeros else 0
    is_tiny = largest < np.finfo(np.float32).tiny and not np.array_equal(values.astype(np.float64), array)
    return is_tiny or 2 * n_lost > values.size - n_zeros + n_lost


def nearest_float32(array: Array | FloatBits) -> NDArray[np.float32]:
    """The values of a float tensor as float32 in C order; infinite where they are beyond it."""
    if isinstance(array, FloatBits):
        return _widened(array.bits, array.number_format)
    if array.dtype == np.float32 and array.dtype.isnative:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore", invalid="ignore"):  # a NaN may be a signalling one
        return np.ascontiguousarray(array, dtype=np.float32)


def exact_float32(array: Array | FloatBits) -> NDArray[np.float32] | None:
    """The values of a float tensor as float32 in C order, NaN and infinity among them; None if that loses some."""
    if isinstance(array, FloatBits):
        return _widened(array.bits, array.number_format)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.ascontiguousarray(array, dtype=np.float32)
        is_same = array.dtype.itemsize <= 4 or np.array_equal(values.astype(np.float64), array)
    return values if is_same else None


def nonzero(array: Array | FloatBits) -> NDArray[np.bool_]:
    """Where a float tensor is not zero."""
    found: NDArray[np.bool_] = numpy_values(array) != 0
    return found


def extremes(values: Array) -> tuple[Any, Any]:
    """Least and largest element; NaN if there is one; zeros of an empty array."""
    if not values.size:
        return values.dtype.type(0), values.dtype.type(0)
    # Of few values numpy's two calls take longer, of many its vectors are faster.
    if values.size <= _FEW and values.dtype == np.float32 and values.dtype.isnative:
        return _kernels.extremes(values)
    return values.min(), values.max()


def as_int32(array: Array | FloatBits, number_format: str) -> tuple[NDArray[np.int32], ...]:
    """An integer tensor, or the bits of a float tensor, in C order: one array, or low and high halves."""
    if isinstance(array, FloatBits):
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
    """The inverse of `as_int32`, but for bfloat16 and float8, which become float32."""
    plain = number_format.removesuffix(BITS_SUFFIX)
    if plain in BITS_DTYPES:
        return _widened(parts[0].astype(BITS_DTYPES[plain]), plain)
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
    """Values from their bits, unsigned integers of their size; bfloat16 and float8 become float32."""
    if number_format in BITS_DTYPES:
        return _widened(bits, number_format)
    return bits != 0 if number_format == "bool" else bits.view(number_format)


def from_float32(values: NDArray[np.float32], number_format: str) -> Array:
    """Values rounded to a float format; what rounds to infinity becomes the largest finite value."""
    if number_format == "float64":
        return values.astype(np.float64)
    if number_format == "float16":
        largest = np.finfo(np.float16).max
        return np.clip(values, -largest, largest).astype(np.float16)
    if number_format in FLOAT8:
        return _widened(nearest_codes(np.clip(values, -_MAX_FLOAT32, _MAX_FLOAT32), number_format), number_format)
    return _rounded_to_bfloat16(values) if number_format == "bfloat16" else values


def dtype_of(number_format: str) -> str:
    """What numpy calls the values of a number format, however it is coded; bfloat16 and float8 become float32."""
    plain = number_format.split()[0]
    return "float32" if plain in BITS_DTYPES else plain


def in_format(values: Array, number_format: str) -> Array | FloatBits:
    """Values that `numpy_values` gave in their number format again, bit for bit.

    Args:
        values: Of bfloat16 and float8 float32 that the format can hold.
        number_format: Any; the others' values are as they are.
    """
    if number_format in FLOAT8:
        return FloatBits(nearest_codes(values, number_format), number_format)
    if number_format == "bfloat16":
        return FloatBits((values.view(np.uint32) >> _BFLOAT16_SHIFT).astype(np.uint16), number_format)
    return values


def nearest_in_format(values: NDArray[np.float32], number_format: str) -> Array | FloatBits:
    """Values rounded to bfloat16 or float8, in that; infinity and NaNs that the format has stay as they are."""
    if number_format == "bfloat16":
        values = np.where(np.isfinite(values), _rounded_to_bfloat16(values), values)
    return in_format(values, number_format)


def _widened(bits: NDArray[Any], number_format: str) -> NDArray[np.float32]:
    """bfloat16 or float8 as float32, in C order."""
    if number_format in FLOAT8:
        return np.asarray(values_of_codes(number_format)[bits], order="C")
    wide = bits.astype(np.uint32, order="C")
    wide <<= _BFLOAT16_SHIFT
    return wide.view(np.float32)


def _rounded_to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Nearest values of bfloat16, ties to even."""
    largest = _widened(np.array([0x7F7F], np.uint16), "bfloat16")[0]
    bits = np.clip(values, -largest, largest).view(np.uint32).astype(np.uint64)
    bits += 0x7FFF + ((bits >> _BFLOAT16_SHIFT) & 1)
    bits &= 0xFFFF0000
    return np.clip(bits.astype(np.uint32).view(np.float32), -largest, largest)
