"""A codebook of the levels that a tensor has."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.bitstream.data_unit import Codebook
from vvc_nnr.bitstream.number_formats import extremes
from vvc_nnr.bitstream.qp import step_size
from vvc_nnr.quantize.step_choice import exact_qp

# Levels further apart are not looked at.
MAX_SPAN = 1 << 22
# Of a codebook of 4,096 values used evenly 906 of 1,024 would differ.
_SAMPLE, _MOST_OF_SAMPLE = 1024, 1000
_MAX_EGK = 15


def make_codebook(levels: NDArray[np.int32], max_size: int) -> tuple[Codebook, NDArray[np.int32]] | None:
    """The codebook of a tensor's levels and the index k of each; None if there are too many different ones.

    The value that k = 0 means is the most frequent one, since a zero is the cheapest index.

    Args:
        levels: Multiples of the step, any shape.
        max_size: The largest codebook that is made.
    """
    low, high = (int(level) for level in extremes(levels))
    if high - low >= MAX_SPAN:
        return None
    counts = np.bincount((levels.reshape(-1) - low), minlength=high - low + 1)
    values = np.flatnonzero(counts)
    if not 0 < values.size <= max_size:
        return None
    codebook = _codebook([int(value) + low for value in values], counts[values])
    table = np.zeros(counts.size, np.int32)
    table[values] = np.arange(values.size, dtype=np.int32) - codebook.zero_offset
    return codebook, table[levels - low]


def exact_codebook(
    values: NDArray[np.float32], qp_density: int, max_size: int
) -> tuple[int, Codebook, NDArray[np.int32]] | None:
    """A codebook that gives few different values exactly: the QP of its step, it, and the index k of each value.

    None if there are too many of them, or no step of which all are whole multiples of 31 bits.

    Args:
        values: float32, any shape; NaN, infinity and negative zero are in no codebook.
        qp_density: QP steps per octave as a power of two.
        max_size: The largest codebook that is made.
    """
    if not are_few(values, max_size):
        return None
    qp = exact_qp(values, qp_density)
    if qp is None:
        return None
    members, places, counts = _kernels.distinct(values)
    if members.size > max_size:
        return None
    levels = members.astype(np.float64) / step_size(qp, qp_density)
    codebook = _codebook([int(level) for level in levels], counts)
    return qp, codebook, places.reshape(values.shape) - np.int32(codebook.zero_offset)


def are_few(values: NDArray[np.float32], max_size: int) -> bool:
    """Whether a part of the values does not show that more than so many differ.

    Args:
        values: float32, any shape.
        max_size: How many may differ.
    """
    return are_so_few(n_different_of_part(values), values.size, max_size)


def n_different_of_part(values: NDArray[np.float32]) -> int:
    """How many different values a part of a tensor, or all of a small one, has."""
    flat = values.reshape(-1)
    return len(set(flat[:: max(1, flat.size // _SAMPLE)][:_SAMPLE].tolist()))


def are_so_few(n_different: int, n_values: int, max_size: int) -> bool:
    """What `are_few` says, by `n_different_of_part` and the number of values."""
    return n_different <= min(max_size, _MOST_OF_SAMPLE if n_values > _SAMPLE else max_size)


def _codebook(members: list[int], counts: NDArray[np.int64]) -> Codebook:
    """That of different levels, the smallest first, with how many there are of each."""
    return Codebook(_best_order(tuple(members)), int(np.argmax(counts)), tuple(members))


def least_codebook_bits(values: NDArray[np.float32], step: float) -> float:
    """What a codebook of values takes at least.

    An Exp-Golomb code of any order takes no fewer bits for a gap than the binary logarithm of one more.

    Args:
        values: float32, any shape, multiples of a step.
        step: The step.
    """
    ordered = np.sort(values.reshape(-1).astype(np.float64))
    gaps = (ordered[1:] - ordered[:-1]) / step - 1
    return float(np.log2(np.maximum(gaps, 0) + 1).sum())


def codebook_bits(codebook: Codebook) -> int:
    """Size of a codebook in a header."""
    size, zero = len(codebook.values), codebook.zero_offset
    signed = ((zero - (size >> 1), 2), (codebook.values[zero], 7))
    head = 4 + _gap_bits([size], 2) + sum(_gap_bits([2 * abs(value)], order) for value, order in signed)
    # The order that this package chose is the best up to itself; the kernel tells its bits at once.
    order, n_bits = _kernels.best_gap_order(np.array(codebook.values, np.int64), codebook.egk)
    if order == codebook.egk:
        return head + n_bits
    return head + _gap_bits([b - a - 1 for a, b in pairwise(codebook.values)], codebook.egk)


def _best_order(values: tuple[int, ...]) -> int:
    """The order of Exp-Golomb codes that makes the gaps smallest."""
    return _kernels.best_gap_order(np.array(values, np.int64), _MAX_EGK)[0]


def _gap_bits(gaps: list[int], order: int) -> int:
    return sum(2 * ((gap >> order) + 1).bit_length() - 1 + order for gap in gaps)
