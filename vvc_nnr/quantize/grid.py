"""Float tensors that whole multiples of a power of two give exactly: their step, and how coarse it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.number_formats import Array, Bfloat16Bits
from vvc_nnr.bitstream.qp import qp_limits

# Largest level of an exact tensor, and of one on a coarse grid.
MAX_LEVEL = 1 << 30
COARSE_LEVEL = 255
# So many values tell most tensors that are on no coarse grid.
SAMPLE = 64
_MANTISSA_BITS = 23
_MANTISSA = np.uint32((1 << _MANTISSA_BITS) - 1)
_NEGATIVE_ZERO = np.uint32(1 << 31)


def exact_qp(values: NDArray[np.float32], qp_density: int, max_level: int = MAX_LEVEL) -> int | None:
    """The QP of the coarsest power of two of which all values are whole multiples; None if there is none.

    Args:
        values: float32, C order; NaN, infinity and negative zero have no level.
        qp_density: QP steps per octave as a power of two.
        max_level: Largest multiple.
    """
    low, high = (limit >> qp_density for limit in qp_limits(qp_density))
    exponent = _grid_exponent(values)
    if exponent is None or exponent < low:
        return None
    exponent = min(exponent, high)
    is_small = float(np.abs(values).max(initial=0)) <= max_level * 2.0**exponent
    return exponent << qp_density if is_small else None


def has_whole_values(array: Array | Bfloat16Bits) -> bool:
    """Whether a float tensor of several values has only whole and half numbers up to 127: no trained weights."""
    if isinstance(array, Bfloat16Bits):
        values = (array.bits.reshape(-1).astype(np.uint32) << 16).view(np.float32)
    elif array.dtype.kind != "f" or array.dtype.itemsize > 4:
        return False
    else:
        values = np.ascontiguousarray(array, dtype=np.float32).reshape(-1)
    if values.size < 2 or not _is_whole(values[:SAMPLE]):
        return False
    return _is_whole(values)


def _is_whole(values: NDArray[np.float32]) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        doubled = 2 * values
    return bool((np.abs(doubled) < COARSE_LEVEL).all() and (doubled == np.rint(doubled)).all())


def _grid_exponent(values: NDArray[np.float32]) -> int | None:
    """The exponent of the grid; None if a value has no level; 0 if all are zero."""
    bits = np.ascontiguousarray(values, dtype=np.float32).reshape(-1).view(np.uint32)
    if not np.isfinite(values).all() or (bits == _NEGATIVE_ZERO).any():
        return None
    bits = bits[bits != 0]
    if not bits.size:
        return 0
    exponents = (bits >> _MANTISSA_BITS & np.uint32(0xFF)).astype(np.int32)
    mantissas = (bits & _MANTISSA) | (exponents > 0).astype(np.uint32) << _MANTISSA_BITS
    last_bits = mantissas & (~mantissas + np.uint32(1))
    zeros = np.frexp(last_bits.astype(np.float64))[1] - 1
    return int((np.maximum(exponents, 1) - 127 - _MANTISSA_BITS + zeros).min())
