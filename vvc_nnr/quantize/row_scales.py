"""Scales of a weight's rows by what the next layer makes of them: where one step for all rows costs much.

An error of an output channel counts by the size of the weights that the next layer has for it. Let c[r] be the root
mean square of these, over its column r. At a given number of bits the error of the next layer's output is least where

    D[r] ~ 1 / c[r]**2        D[r]: mean squared error of row r        scale of row r ~ 1 / c[r]

and against one D for all rows that saves the arithmetic over the geometric mean of the c[r]**2 (reverse
water-filling), as long as D[r] is less than the row's own mean square: no row is scaled up beyond that at the least
quality.
The size of a row itself is no guide: channels that are large are often those that the next layer listens to.

Which weight comes next is told by the order of the tensors and their shapes, and believed where sizes of rows and of
columns go together, or against each other, as those of one channel do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.quantize.quality import MIN_QUALITY_DB
from vvc_nnr.quantize.snr import row_powers

# Fewer rows do not tell whether sizes go together, and rows of fewer values do not pay for a scale.
MIN_ROWS, MIN_ROW_VALUES = 16, 8
# Correlation of the logarithms of sizes from which on another weight is believed to have the same channels.
SURE_CORRELATION = 0.85
# What scales must save in dB, beyond their own bits: estimated bits of each, and dB of one bit for each value.
PAYS_DB, SCALE_BITS, DB_PER_BIT = 1.5, 5.0, 20 * math.log10(2)
# Scales are within this factor of their geometric mean.
MAX_RATIO = 64.0
# Weights behind one that are looked at.
LOOK_AHEAD = 4


@dataclass(frozen=True, slots=True, eq=False)
class AxisPowers:
    """Mean squares of the slices of a weight.

    Attributes:
        shape: Of the weight, of two dimensions or more.
        rows: Of those along its first axis, float64.
        columns: Of those along its second axis, float64.
    """

    shape: tuple[int, ...]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]


def axis_powers(values: NDArray[np.float32]) -> AxisPowers:
    """The mean squares of a weight's slices.

    Args:
        values: float32, of two dimensions or more, finite.
    """
    return AxisPowers(values.shape, row_powers(values), row_powers(np.moveaxis(values, 1, 0)))


def row_scales(
    own: AxisPowers, behind: Sequence[AxisPowers], before: AxisPowers | None = None
) -> NDArray[np.float64] | None:
    """The wanted scale of each row, of geometric mean 1, float64; None where scales do not pay.

    Args:
        own: Of the weight.
        behind: Of those behind it, the next one first.
        before: Of the one before it.
    """
    n_rows, n_columns = own.shape[0], math.prod(own.shape[1:])
    if n_rows < MIN_ROWS or n_columns < MIN_ROW_VALUES:
        return None
    candidates = [_scales(own.rows, powers) for powers in _powers_of_channels(n_rows, behind, before)]
    best = max(candidates, key=lambda found: found.correlation, default=None)
    if best is None or best.correlation < SURE_CORRELATION:
        return None
    return best.scales if best.saved_db >= PAYS_DB + SCALE_BITS / n_columns * DB_PER_BIT else None


@dataclass(frozen=True, slots=True, eq=False)
class _Scales:
    """Scales of rows, how far sizes of these go with or against what tells them (0 to 1), and what they save."""

    scales: NDArray[np.float64]
    correlation: float
    saved_db: float


def _scales(own: NDArray[np.float64], powers: NDArray[np.float64]) -> _Scales:
    """Scales by what the next weights have of each channel.

    Args:
        own: Mean squares of the rows.
        powers: Of what the next weights have of them.
    """
    scales, is_alive = np.ones(own.size), (own > 0) & (powers > 0)
    if np.count_nonzero(is_alive) < MIN_ROWS:
        return _Scales(scales, 0.0, 0.0)
    costs, sizes = powers[is_alive], 0.5 * np.log2(own[is_alive])
    octaves, limit = -0.5 * np.log2(costs), math.log2(MAX_RATIO)
    octaves = np.clip(octaves - np.median(octaves), -limit, limit)
    if octaves.std() == 0 or sizes.std() == 0:
        return _Scales(scales, 0.0, 0.0)
    correlation = abs(float(np.corrcoef(sizes, octaves)[0, 1]))
    octaves -= octaves.mean()
    left = math.log2(float(np.exp2(sizes - octaves).mean()))
    octaves = np.minimum(octaves, np.maximum(sizes - left + MIN_QUALITY_DB / DB_PER_BIT, 0))
    octaves -= octaves.mean()
    scales[is_alive] = np.exp2(octaves)
    saved_db = 10 * math.log10(float(costs.mean()) / float(np.mean(costs * np.exp2(2 * octaves))))
    return _Scales(scales, correlation, saved_db)


def _powers_of_channels(
    n_channels: int, behind: Sequence[AxisPowers], before: AxisPowers | None
) -> Iterator[NDArray[np.float64]]:
    """What may tell the sizes of a weight's rows: powers of so many channels in its neighbours.

    What the next weights have of each, on average 1: the next, the next two, and so on. Weights of one input channel
    for each of as many groups, as of depthwise convolutions, pass them on. Then with inputs first, as of matrices in
    ONNX and of transposed convolutions: what the next weight has, and what the one before makes of each.
    """
    passed, found = np.ones(n_channels), None
    for each in behind[:LOOK_AHEAD]:
        if found is None and len(each.shape) > 2 and each.shape[:2] == (n_channels, 1):
            passed = passed * each.rows
        elif each.shape[1] == n_channels and (mean := float(each.columns.mean())) > 0:
            found = each.columns / mean if found is None else found + each.columns / mean
            yield found * passed
        elif found is not None:
            break
        elif each.shape[0] == n_channels:
            yield each.rows * passed
            break
    if before is not None and before.shape[1] == n_channels:
        yield before.columns
