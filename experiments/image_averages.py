"""From rows per image to scores per method and setting: the one place where images are averaged."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from vvc_nnr.experiments.rows import ImageMethod, ImageRow, unique_rows


@dataclass(frozen=True, slots=True)
class ImageMean:
    """The means of one method at one setting over all its images.

    Attributes:
        method: The method.
        setting: Its quality or network.
        images: Names of the images.
        bpp: Mean rate in bits per pixel.
        psnr_db: Mean of the images' PSNR in dB; infinite if one of them is exact.
        psnr_of_mean_mse_db: PSNR in dB of the mean squared error over all images (of one size); infinite if all of
            them are exact.
        ssim: Mean SSIM.
        n_exact: How many images are exact, which is an infinite PSNR.
        psnr_of_others_db: Mean PSNR in dB of the images that are not exact, None if all are.
    """

    method: ImageMethod
    setting: str
    images: frozenset[str]
    bpp: float
    psnr_db: float
    psnr_of_mean_mse_db: float
    ssim: float
    n_exact: int
    psnr_of_others_db: float | None


def image_means(rows: Iterable[ImageRow]) -> list[ImageMean]:
    """The means over images of each method and setting, in the order of the rows.

    Raises:
        InputError: If two rows about the same thing differ.
    """
    groups: dict[tuple[ImageMethod, str], list[ImageRow]] = defaultdict(list)
    for row in unique_rows(rows):
        groups[row.method, row.setting].append(row)
    return [_image_mean(group) for group in groups.values()]


def _image_mean(rows: Sequence[ImageRow]) -> ImageMean:
    finite_db = [row.psnr_db for row in rows if math.isfinite(row.psnr_db)]
    relative_mse = fmean(10 ** (-row.psnr_db / 10) for row in rows)
    return ImageMean(
        rows[0].method,
        rows[0].setting,
        frozenset(row.image for row in rows),
        fmean(row.bpp for row in rows),
        fmean(row.psnr_db for row in rows),
        -10 * math.log10(relative_mse) if relative_mse else math.inf,
        fmean(row.ssim for row in rows),
        len(rows) - len(finite_db),
        fmean(finite_db) if finite_db else None,
    )
