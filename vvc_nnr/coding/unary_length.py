"""How many of a tensor's greater flags pay: each has contexts to be set up and learnt, what is above them an escape.

A magnitude above the flags takes a prefix in contexts and a suffix in bypass bins. Few flags are shorter in small
tensors and in those of large or even magnitudes; the best number is told by the entropy of all bins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.data_unit import DEFAULT_UNARY_LENGTH_MINUS1

# Numbers of flags that are tried; the header need not say that of the default.
_LENGTHS = (1, 2, 3, 4, 5, 7, 10, 11, 14, 19)
_DEFAULT = DEFAULT_UNARY_LENGTH_MINUS1 + 1
_FIELD_BITS, _SET_FLAG_BITS = 8, 0.15
# No suffix is longer.
_MAX_SUFFIX = 33
# A context takes so many bits to learn, times the binary logarithm of its bins plus one. Two contexts share a flag.
_LEARNING, _N_SIGNS = 2.0, 2
# So many values have no statistics to tell; so many tell those of all.
_TINY, _SAMPLE = 64, 1 << 14


def unary_length_minus1_of(indices: NDArray[np.int32]) -> int | None:
    """The number of greater flags less one that codes indices in about the fewest bits; None: the default.

    Args:
        indices: int32, any shape.
    """
    flat = indices.reshape(-1)
    stride = -(-flat.size // _SAMPLE)
    sizes = np.abs(flat[::stride].astype(np.int64))
    largest = int(sizes.max(initial=0))
    if largest <= 1:
        return None
    if flat.size <= _TINY:
        return 0
    if largest < _SAMPLE:
        counted = np.bincount(sizes)
        different = np.flatnonzero(counted)
        n_of_each = counted[different]
    else:
        different, n_of_each = np.unique(sizes, return_counts=True)
    counts = np.bincount(np.minimum(different, _LENGTHS[-1] + 2), n_of_each, minlength=_LENGTHS[-1] + 3)
    reached = counts[::-1].cumsum()[::-1][1:] * float(stride)
    flags = (_N_SIGNS * _bits(reached[:-1] / _N_SIGNS, reached[1:] / _N_SIGNS)).cumsum()
    lengths = np.array([length for length in _LENGTHS if length <= max(largest, _DEFAULT)])
    headers = _SET_FLAG_BITS * _N_SIGNS * lengths + np.where(lengths == _DEFAULT, 0, _FIELD_BITS)
    best = int(lengths[np.argmin(flags[lengths - 1] + _escape_bits(different, n_of_each, lengths, stride) + headers)])
    return None if best == _DEFAULT else best - 1


def _escape_bits(
    different: NDArray[np.int64], n_of_each: NDArray[np.int64], lengths: NDArray[np.int64], stride: int
) -> NDArray[np.float64]:
    """Prefixes and suffixes of magnitudes above each number of flags, those of one in `stride` of them.

    Args:
        different: The magnitudes, ascending.
        n_of_each: How often each comes.
        lengths: Numbers of flags.
        stride: For how many values each stands.
    """
    # Suffixes of k bits are those of 2**k up to 2**(k + 1) - 1 beyond the flags.
    first = np.searchsorted(different, lengths[:, None] + (np.int64(1) << np.arange(_MAX_SUFFIX + 1)))
    counts = np.diff(np.concatenate([[0], n_of_each.cumsum()])[first], axis=1) * float(stride)
    reached = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    beyond_it = np.concatenate([reached[:, 1:], np.zeros((len(lengths), 1))], axis=1)
    found: NDArray[np.float64] = _bits(reached, beyond_it).sum(axis=1) + counts @ np.arange(_MAX_SUFFIX)
    return found


def _bits(bins: NDArray[np.float64], ones: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the bins of contexts take, by how many are ones."""
    share = np.clip(ones / np.maximum(bins, 1), 1e-9, 1 - 1e-9)
    entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    found: NDArray[np.float64] = bins * entropy + _LEARNING * np.log2(1 + bins)
    return found
