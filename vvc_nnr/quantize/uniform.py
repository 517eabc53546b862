"""The papers' scalar quantiser: one minimum, one maximum and 1 to 16 bit levels per tensor; as the field does, per row.

    level = round((value - minimum) / step)         step = (maximum - minimum) / (2**bits - 1)
    value = minimum + level * step                  float64 throughout, the result rounded to float32

The largest error is half a step. Source: the MPEG NNR use cases ("8-bit uniform quantisation").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import BitstreamError, InputError

Levels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

MIN_BITS = 1
MAX_BITS = 16


@dataclass(frozen=True, slots=True, eq=False)
class UniformTensor:
    """A quantised tensor.

    Attributes:
        levels: uint8 up to 8 bit, uint16 above, in the tensor's shape; values below 2**bits.
        minimum: Value of level 0, a float32 number.
        maximum: Value of level 2**bits - 1, a float32 number.
        bits: Bits per level, 1 to 16.

    Raises:
        InputError: If bits, dtype, a level or the range do not fit together.
    """

    levels: Levels
    minimum: float
    maximum: float
    bits: int

    def __post_init__(self) -> None:
        check_bits(self.bits)
        if self.levels.dtype != level_dtype(self.bits):
            raise InputError(f"{self.bits} bit levels must be {level_dtype(self.bits)}, got {self.levels.dtype}")
        check_range(self.minimum, self.maximum)
        highest = int(self.levels.max(initial=0))
        if highest >= 1 << self.bits:
            raise InputError(f"level {highest}: {self.bits} bit levels end at {(1 << self.bits) - 1}")

    @property
    def step(self) -> float:
        """Distance of neighbouring levels; 0 for a constant tensor."""
        return (self.maximum - self.minimum) / ((1 << self.bits) - 1)

    def dequantize(self) -> NDArray[np.float32]:
        """The reconstructed values, float32, in the tensor's shape."""
        top = (1 << self.bits) - 1
        values = self.minimum + self.levels.astype(np.float64) * (self.maximum - self.minimum) / top
        return np.asarray(values, dtype=np.float32)


def quantize_uniform(values: NDArray[np.floating[Any]], bits: int) -> UniformTensor:
    """The tensor at `bits` per value, between its own minimum and maximum.

    Args:
        values: Floating-point numbers in any shape (also none, and no elements); rounded to float32 first.
        bits: Bits per value, 1 to 16.

    Returns:
        Levels rounded to nearest, ties to even. An empty tensor has the range 0 to 0, a constant one level 0.

    Raises:
        InputError: If bits is out of range, or a value is no float, NaN, infinite or beyond float32.
    """
    check_bits(bits)
    exact = finite_float32(values).astype(np.float64)
    minimum, maximum = (float(exact.min()), float(exact.max())) if exact.size else (0.0, 0.0)
    top = (1 << bits) - 1
    scale = top / (maximum - minimum) if maximum > minimum else 0.0
    levels = np.clip(np.rint((exact - minimum) * scale), 0, top)
    return UniformTensor(_as_levels(levels, bits), minimum, maximum, bits)


@dataclass(frozen=True, slots=True, eq=False)
class UniformRows:
    """A quantised tensor whose rows, what lies along its first axis, have ranges of their own.

    Attributes:
        levels: uint8 up to 8 bit, uint16 above, in the tensor's shape of two dimensions or more; values below 2**bits.
        ranges: Minimum and maximum of each row, float32, (n_rows, 2).
        bits: Bits per level, 1 to 16.

    Raises:
        InputError: If bits, dtype, a level or a range do not fit together.
    """

    levels: Levels
    ranges: NDArray[np.float32]
    bits: int

    def __post_init__(self) -> None:
        check_bits(self.bits)
        if self.levels.dtype != level_dtype(self.bits):
            raise InputError(f"{self.bits} bit levels must be {level_dtype(self.bits)}, got {self.levels.dtype}")
        if self.levels.ndim < 2 or self.ranges.shape != (self.levels.shape[0], 2):
            raise InputError(f"ranges of shape {self.ranges.shape} for the rows of {self.levels.shape}")
        if not np.isfinite(self.ranges).all() or (self.ranges[:, 0] > self.ranges[:, 1]).any():
            raise InputError("the ranges of rows: must be finite and in order")
        highest = int(self.levels.max(initial=0))
        if highest >= 1 << self.bits:
            raise InputError(f"level {highest}: {self.bits} bit levels end at {(1 << self.bits) - 1}")

    def dequantize(self) -> NDArray[np.float32]:
        """The reconstructed values, float32, in the tensor's shape."""
        low, high = _as_columns(self.ranges, self.levels.ndim)
        values = low + self.levels.astype(np.float64) * (high - low) / ((1 << self.bits) - 1)
        return np.asarray(values, dtype=np.float32)


def quantize_rows(values: NDArray[np.floating[Any]], bits: int) -> UniformRows:
    """The tensor at `bits` per value, each row between its own minimum and maximum.

    Args:
        values: Floating-point numbers of two dimensions or more, at least one value; rounded to float32 first.
        bits: Bits per value, 1 to 16.

    Returns:
        Levels rounded to nearest, ties to even; a constant row has level 0.

    Raises:
        InputError: If bits is out of range, or a value is no float, NaN, infinite or beyond float32.
    """
    check_bits(bits)
    exact = finite_float32(values)
    rows = exact.reshape(exact.shape[0], -1)
    ranges = np.stack([rows.min(1), rows.max(1)], 1)
    low, high = _as_columns(ranges, exact.ndim)
    top = (1 << bits) - 1
    scale = np.divide(top, high - low, out=np.zeros_like(low), where=high > low)
    levels = np.clip(np.rint((exact - low) * scale), 0, top)
    return UniformRows(_as_levels(levels, bits), ranges, bits)


def _as_columns(ranges: NDArray[np.float32], n_dimensions: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Minima and maxima that numpy spreads over the rows of a tensor."""
    shape = (len(ranges),) + (1,) * (n_dimensions - 1)
    wide = ranges.astype(np.float64)
    return wide[:, 0].reshape(shape), wide[:, 1].reshape(shape)


def finite_float32(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """The values as float32.

    Raises:
        InputError: If they are no floats, or one is NaN, infinite or beyond the range of float32.
    """
    if values.dtype.kind != "f":
        raise InputError(f"only floating-point tensors are quantised, got {values.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.asarray(values, dtype=np.float32)
    if not np.isfinite(rounded).all():
        n_bad = int(np.count_nonzero(~np.isfinite(rounded)))
        raise InputError(f"{n_bad} of {rounded.size} values are NaN, infinite or beyond float32")
    return rounded


def level_dtype(bits: int) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    """uint8 up to 8 bit, uint16 above."""
    return np.dtype(np.uint8) if bits <= 8 else np.dtype(np.uint16)


def pack_levels(levels: Levels, bits: int) -> NDArray[np.uint8]:
    """The levels' bits one after another, most significant first; the last byte is filled up with zeros."""
    shifts = np.arange(bits - 1, -1, -1, dtype=np.uint16)
    planes = (levels.reshape(-1, 1).astype(np.uint16) >> shifts) & 1
    return np.packbits(planes.astype(np.uint8).reshape(-1))


def packed_bytes(n_levels: int, bits: int) -> int:
    """Size in bytes of that many packed levels."""
    return -(-n_levels * bits // 8)


def unpack_levels(packed: NDArray[np.uint8], n_levels: int, bits: int) -> Levels:
    """The inverse of `pack_levels`: a flat array of n_levels.

    Raises:
        BitstreamError: If the size is not `packed_bytes`, or a filling bit is not zero.
    """
    if packed.size != packed_bytes(n_levels, bits):
        raise BitstreamError(
            f"{n_levels} levels of {bits} bit take {packed_bytes(n_levels, bits)} bytes, got {packed.size}"
        )
    all_bits = np.unpackbits(packed)
    if all_bits[n_levels * bits :].any():
        raise BitstreamError("the bits that fill the last byte are not zero", offset_bytes=packed.size - 1)
    weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.uint16)
    levels = all_bits[: n_levels * bits].reshape(n_levels, bits) @ weights
    return _as_levels(levels, bits)


def _as_levels(values: NDArray[Any], bits: int) -> Levels:
    return np.asarray(values, dtype=np.uint8) if bits <= 8 else np.asarray(values, dtype=np.uint16)


def check_bits(bits: int) -> None:
    """Raises InputError unless bits is 1 to 16."""
    if not MIN_BITS <= bits <= MAX_BITS:
        raise InputError(f"{bits} bits per value: must be {MIN_BITS} to {MAX_BITS}")


def check_range(minimum: float, maximum: float) -> None:
    """Raises InputError unless both ends are finite float32 numbers in order."""
    limit = float(np.finfo(np.float32).max)
    if not (math.isfinite(minimum) and math.isfinite(maximum)):
        raise InputError(f"range {minimum} to {maximum}: must be finite")
    if not -limit <= minimum <= maximum <= limit:
        raise InputError(f"range {minimum} to {maximum}: must be ordered and within float32")
