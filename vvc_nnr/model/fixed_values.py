"""Whether a float tensor holds trained values, or such as somebody wrote down: a mask, a grid, a filter, a window.

Trained values follow no rule. Those of constants repeat along an axis or a diagonal, or are few, or mirror themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.number_formats import Array, Bfloat16Bits, exact_float32

# Fewer values cost little however they are coded.
_MIN_VALUES = 64
# A tensor of no more than so many different values is none of trained ones; so many of its values are looked at.
_MAX_DISTINCT = 16
_SAMPLE = 4096
# Sides of filters of pictures that no larger ones have.
_MAX_FILTER_SIDE = 31
# Above this share of equal neighbours values repeat; a grid of N coordinates has one in N.
_MAX_EQUAL = 0.2
_MIRROR_TOLERANCE = 1e-5


def looks_trained(array: Array | Bfloat16Bits) -> bool:
    """Whether a float tensor is one of many values on two axes or more that follow no rule."""
    exact = exact_float32(array)
    values = np.asarray(array) if exact is None else exact
    if values.size < _MIN_VALUES or sum(side > 1 for side in values.shape) < 2 or _is_filter_bank(values.shape):
        return False
    sample = values.reshape(-1)[:: max(1, values.size // _SAMPLE)]
    if not np.isfinite(values).all() or np.unique(sample).size <= _MAX_DISTINCT:
        return False
    return not _repeats(values) and not _mirrors(values)


def _is_filter_bank(shape: tuple[int, ...]) -> bool:
    """Whether it is the shape of several filters of one channel: (n, 1, k), or (n, 1, k, k) of small k."""
    if len(shape) < 3 or shape[0] == 1 or shape[1] != 1:
        return False
    return len(shape) == 3 or (len(set(shape[2:])) == 1 and shape[2] <= _MAX_FILTER_SIDE)


def _repeats(values: NDArray[np.floating]) -> bool:
    """Whether many neighbours are equal, along an axis or the diagonal of the last two; pairs of zeros do not count."""
    axes = range(values.ndim)
    pairs = [(values.swapaxes(0, axis)[1:], values.swapaxes(0, axis)[:-1]) for axis in axes]
    pairs.append((values[..., 1:, 1:], values[..., :-1, :-1]))
    return any(_share_of_equal(first, second) > _MAX_EQUAL for first, second in pairs)


def _share_of_equal(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    counted = (first != 0) | (second != 0)
    n_counted = int(np.count_nonzero(counted))
    return int(np.count_nonzero((first == second) & counted)) / n_counted if n_counted else 0.0


def _mirrors(values: NDArray[np.floating]) -> bool:
    """Whether turning the last two axes round changes no more than signs, as of blurs, derivatives and cosines."""
    if max(values.shape[-2:]) == 1:
        return False
    sizes = np.abs(values)
    return bool(np.abs(sizes - sizes[..., ::-1, ::-1]).max() <= _MIRROR_TOLERANCE * sizes.max())
