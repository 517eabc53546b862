"""A codebook of the levels that a tensor has."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.data_unit import Codebook
from vvc_nnr.bitstream.number_formats import extremes

# Levels further apart are not looked at.
MAX_SPAN = 1 << 22
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
    zero_offset = int(np.argmax(counts[values]))
    table = np.zeros(counts.size, np.int32)
    table[values] = np.arange(values.size, dtype=np.int32) - zero_offset
    members = tuple(int(value) + low for value in values)
    return Codebook(_best_order(members), zero_offset, members), table[levels - low]


def codebook_bits(codebook: Codebook) -> int:
    """Size of a codebook in a header, but for its first fields."""
    return _gap_bits([b - a - 1 for a, b in pairwise(codebook.values)], codebook.egk)


def _best_order(values: tuple[int, ...]) -> int:
    """The order of Exp-Golomb codes that makes the gaps smallest."""
    gaps = [b - a - 1 for a, b in pairwise(values)]
    return min(range(_MAX_EGK + 1), key=lambda order: _gap_bits(gaps, order))


def _gap_bits(gaps: list[int], order: int) -> int:
    return sum(2 * ((gap >> order) + 1).bit_length() - 1 + order for gap in gaps)
