"""What a gain is worth, and what of the rate is left of it with what it takes.

It follows from the streams themselves: over the QPs the logarithm of the rate rises with luma's PSNR, about by 0.2 for
a dB; by that slope a gain is so many bytes. A filter and its update go into a stream only if they take less there than
they are worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from vvc_nnr.filters.adaptation.options import LUMA_SHARE_OF_YUV, Measure

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


def measured_db(components_db: Sequence[float], measure: Measure) -> float:
    """The PSNR, or the gain, that decides, of those of the components; of pictures without chroma luma's.

    >>> measured_db((0.1, 0.3, 0.5), "luma"), round(measured_db((0.1, 0.3, 0.5), "yuv"), 6)
    (0.1, 0.175)
    """
    luma_db, *chroma_db = components_db
    if measure == "luma" or not chroma_db:
        return luma_db
    return LUMA_SHARE_OF_YUV * luma_db + (1 - LUMA_SHARE_OF_YUV) * fmean(chroma_db)


def loss_per_bit(
    sizes_bytes: Sequence[float], slopes: Sequence[float], chroma_weight: float, measure: Measure = "luma"
) -> float:
    """What of the loss a bit must save so that it is worth its place, in the mean over the streams.

    A bit more is a share of a stream's bits, and the loss is worth slope x dB of its rate.

    Args:
        sizes_bytes: Of the streams.
        slopes: By how much the logarithms of their rates rise for a dB of what decides.
        chroma_weight: Weight of each chroma plane in the loss, against 1 for luma.
        measure: What decides.
    """
    shares = fmean(1 / (8 * size) for size in sizes_bytes)
    luma = 1 / (1 + 2 * chroma_weight) / (1 if measure == "luma" else LUMA_SHARE_OF_YUV)
    return shares / (fmean(slopes) * DB_PER_LOSS) * luma


def net_percent(gain_db: float, added_bytes: float, slope: float, worth_bytes: float) -> float:
    """The change of the rate at equal luma in percent, with what is added; negative saves."""
    if math.isinf(gain_db):
        return -100.0 if gain_db > 0 else math.inf
    return 100 * (math.exp(-slope * gain_db) * (1 + added_bytes / worth_bytes) - 1)
