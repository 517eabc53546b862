"""How many of a tensor's greater flags pay: each has contexts to be set up and learnt, what is above them an escape.

A magnitude above the flags takes a prefix in contexts and a suffix in bypass bins. Few flags are shorter in small
tensors and in those of large or even magnitudes; the best number is told by the entropy of all bins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vvc_nnr import _kernels
from vvc_nnr.bitstream.data_unit import DEFAULT_UNARY_LENGTH_MINUS1

# So many values have no statistics to tell.
_TINY = 64


def unary_length_minus1_of(indices: NDArray[np.int32]) -> int | None:
    """The number of greater flags less one that codes indices in about the fewest bits; None: the default.

    Args:
        indices: int32, any shape.
    """
    default = DEFAULT_UNARY_LENGTH_MINUS1 + 1
    best = _kernels.best_unary_length(np.ascontiguousarray(indices, np.int32), default, _TINY)
    return None if best == default else best - 1
