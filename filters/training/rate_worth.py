"""What a gain is worth in rate: over the QPs the logarithm of a stream's rate rises with luma's PSNR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

DEFAULT_SLOPE = 0.2
"""By how much the logarithm of the rate rises for a dB, where one stream alone is there: about that of QP 22 to 37."""
DB_PER_LOSS = 10 / math.log(10)
"""dB of PSNR for a small change of the squared error, as a share of it."""


def rate_slopes(sizes_bytes: Sequence[float], psnrs_db: Sequence[float]) -> list[float]:
    """By how much the logarithm of the rate rises for a dB at each stream: the mean slope to its neighbours.

    Args:
        sizes_bytes: Sizes of streams of the same pictures.
        psnrs_db: Their mean PSNR of luma.
    """
    order = sorted(range(len(sizes_bytes)), key=lambda place: psnrs_db[place])
    found: list[list[float]] = [[] for _ in order]
    for low, high in pairwise(order):
        step_db, growth = psnrs_db[high] - psnrs_db[low], math.log(sizes_bytes[high] / sizes_bytes[low])
        if 0 < step_db < math.inf and growth > 0:
            found[low].append(growth / step_db)
            found[high].append(growth / step_db)
    return [fmean(each) if each else DEFAULT_SLOPE for each in found]


def loss_per_bit(sizes_bytes: Sequence[float], slopes: Sequence[float], chroma_weight: float) -> float:
    """What of the loss a bit must save so that it is worth its place, in the mean over the streams.

    A bit more is a share of a stream's bits, and the loss is worth slope x dB of its rate.
    """
    shares = fmean(1 / (8 * size) for size in sizes_bytes)
    luma = 1 / (1 + 2 * chroma_weight)
    return shares / (fmean(slopes) * DB_PER_LOSS) * luma


def net_percent(gain_db: float, added_bytes: float, slope: float, worth_bytes: float) -> float:
    """The change of the rate at equal luma in percent, with what is added; negative saves."""
    if math.isinf(gain_db):
        return -100.0
    return 100 * (math.exp(-slope * gain_db) * (1 + added_bytes / worth_bytes) - 1)
