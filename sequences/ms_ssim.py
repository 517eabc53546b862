"""Multi-scale SSIM.

Source: Wang, Simoncelli, Bovik, Multi-scale structural similarity for image quality assessment,
Asilomar 2003; as in the authors' code, the luminance term enters with the structure term of the last scale.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import ShapeError
from vvc_nnr.sequences.frame import Frame, Plane
from vvc_nnr.sequences.metrics import SSIM_WINDOW, check_window

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SMALLEST_SIDE = SSIM_WINDOW << (len(_WEIGHTS) - 1)


def ms_ssim(reference: Plane, decoded: Plane, *, bit_depth: int) -> float:
    """MS-SSIM of one plane over five scales, 0 to 1; window and constants as `metrics.ssim`.

    A negative mean of a scale, which has no real power, counts as 0.

    Args:
        reference: uint8 or uint16 (H, W), both sides at least 176.
        decoded: The same shape.
        bit_depth: Bits per sample, 8 to 16.

    Raises:
        ShapeError: If the shapes differ or are smaller than 176 either way.
    """
    check_window(reference, decoded, _SMALLEST_SIDE)
    data_range = float((1 << bit_depth) - 1)
    a, b = reference.astype(np.float64), decoded.astype(np.float64)
    factors: list[float] = []
    for weight in _WEIGHTS:
        if factors:
            a, b = _halved(a), _halved(b)
        whole, structure = _scale_means(a, b, data_range)
        is_last = len(factors) == len(_WEIGHTS) - 1
        factors.append(max(whole if is_last else structure, 0.0) ** weight)
    return math.prod(factors)


def _scale_means(a: NDArray[np.float64], b: NDArray[np.float64], data_range: float) -> tuple[float, float]:
    """Mean SSIM and mean contrast-structure term over all windows that fit."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_a, mean_b = _blurred(a), _blurred(b)
    variances = _blurred(a * a) + _blurred(b * b) - mean_a**2 - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    structure = (2 * covariance + c2) / (variances + c2)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float(np.mean(luminance * structure)), float(np.mean(structure))


def _blurred(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    edge = SSIM_WINDOW // 2
    blurred = np.asarray(cv2.GaussianBlur(plane, (SSIM_WINDOW, SSIM_WINDOW), 1.5), np.float64)
    return blurred[edge:-edge, edge:-edge]


def _halved(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of 2x2 samples; an odd last row or column is repeated."""
    height, width = plane.shape
    even = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def frame_ms_ssim(reference: Frame, decoded: Frame) -> tuple[float | None, float | None, float | None]:
    """MS-SSIM of Y, Cb and Cr; None for a plane that is not there or smaller than 176 either way.

    Args:
        reference: The original picture.
        decoded: A picture of the same size, bit depth and chroma format.

    Raises:
        ShapeError: If the formats differ.
    """
    if reference.format() != decoded.format():
        raise ShapeError(f"pictures differ in format: {reference.format()} and {decoded.format()}")
    scores: list[float | None] = [None, None, None]
    for place, (a, b) in enumerate(zip(reference.planes, decoded.planes, strict=True)):
        if min(a.shape) >= _SMALLEST_SIDE:
            scores[place] = ms_ssim(a, b, bit_depth=reference.bit_depth)
    return scores[0], scores[1], scores[2]
