"""PSNR, SSIM and MS-SSIM of decoded pictures, per plane and combined.

PSNR's peak is part of its definition: `"vtm"` is 255 << (B - 8), as VTM and VVenC print it (1020 at 10 bit),
`"full"` is 2**B - 1 (1023): 0.026 dB apart at 10 bit, equal at 8. Identical planes have infinite PSNR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from vvc_nnr.errors import InputError, ShapeError
from vvc_nnr.sequences.frame import Frame, Plane

Peak: TypeAlias = Literal["vtm", "full"]

SSIM_WINDOW = 11


@dataclass(frozen=True, slots=True)
class PlaneScores:
    """One value per plane; None for the chroma of a 4:0:0 picture."""

    y: float
    cb: float | None
    cr: float | None


def peak_value(bit_depth: int, peak: Peak = "vtm") -> int:
    """The sample value that PSNR counts as full scale.

    Raises:
        InputError: If `peak` is neither "vtm" nor "full".
    """
    if peak == "vtm":
        return 255 << (bit_depth - 8)
    if peak == "full":
        return (1 << bit_depth) - 1
    raise InputError(f"PSNR peak {peak!r}: must be vtm or full")


def psnr_db(reference: Plane, decoded: Plane, *, bit_depth: int, peak: Peak = "vtm") -> float:
    """PSNR of one plane (or any arrays of samples) in dB; inf if identical, never capped.

    Args:
        reference: uint8 or uint16, any shape.
        decoded: The same shape.
        bit_depth: Bits per sample, 8 to 16.
        peak: Definition of full scale, see above.

    Raises:
        ShapeError: If the shapes differ or are empty.
        InputError: If `peak` is unknown.
    """
    _check_shapes(reference, decoded)
    full_scale = peak_value(bit_depth, peak)
    difference = reference.astype(np.int64) - decoded
    squares = int(np.vdot(difference, difference))
    return math.inf if squares == 0 else 10 * math.log10(full_scale**2 * difference.size / squares)


def frame_psnr_db(reference: Frame, decoded: Frame, *, peak: Peak = "vtm") -> PlaneScores:
    """PSNR of each plane in dB.

    Raises:
        ShapeError: If the pictures differ in size, bit depth or chroma format.
    """
    _check_formats(reference, decoded)
    pairs = zip(reference.planes, decoded.planes, strict=True)
    return _scores([psnr_db(a, b, bit_depth=reference.bit_depth, peak=peak) for a, b in pairs])


def yuv_psnr_db(psnr: PlaneScores, weights: tuple[float, float, float] = (6, 1, 1)) -> float:
    """The weighted mean of the planes' PSNR in dB, (6 Y + Cb + Cr) / 8 by default; luma's for 4:0:0."""
    if psnr.cb is None or psnr.cr is None:
        return psnr.y
    planes = (psnr.y, psnr.cb, psnr.cr)
    weighted = [weight * plane for weight, plane in zip(weights, planes, strict=True) if weight]
    return math.fsum(weighted) / math.fsum(weights)


def ssim(reference: Plane, decoded: Plane, *, bit_depth: int) -> float:
    """SSIM of one plane, at most 1: Gaussian 11x11 window, sigma 1.5, data range 2**bit_depth - 1.

    Args:
        reference: uint8 or uint16 (H, W), both sides at least 11.
        decoded: The same shape.
        bit_depth: Bits per sample, 8 to 16.

    Raises:
        ShapeError: If the shapes differ or are smaller than the window.

    Source: Wang, Bovik, Sheikh, Simoncelli, IEEE Transactions on Image Processing 13(4), 2004.
    """
    check_window(reference, decoded, SSIM_WINDOW)
    value = structural_similarity(  # type: ignore[no-untyped-call]
        reference,
        decoded,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=(1 << bit_depth) - 1,
    )
    return float(value)


def frame_ssim(reference: Frame, decoded: Frame) -> PlaneScores:
    """SSIM of each plane.

    Raises:
        ShapeError: If the pictures differ in format or a plane is smaller than 11x11.
    """
    _check_formats(reference, decoded)
    pairs = zip(reference.planes, decoded.planes, strict=True)
    return _scores([ssim(a, b, bit_depth=reference.bit_depth) for a, b in pairs])


def ssim_rgb(reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float:
    """Mean SSIM of the three channels of 8-bit images (H, W, 3).

    Raises:
        ShapeError: If the shapes differ, are not (H, W, 3), or smaller than 11x11.
    """
    _check_rgb(reference, decoded)
    return math.fsum(ssim(reference[..., c], decoded[..., c], bit_depth=8) for c in range(3)) / 3


def _check_rgb(reference: NDArray[Any], decoded: NDArray[Any]) -> None:
    _check_shapes(reference, decoded)
    if reference.ndim != 3 or reference.shape[2] != 3:
        raise ShapeError(f"got images {reference.shape}, want (H, W, 3)")


def check_window(reference: NDArray[Any], decoded: NDArray[Any], smallest_side: int) -> None:
    """Raise ShapeError unless both are 2-D, of one shape and at least `smallest_side` each way."""
    _check_shapes(reference, decoded)
    if reference.ndim != 2 or min(reference.shape) < smallest_side:
        raise ShapeError(f"got a plane {reference.shape}, want (H, W) of at least {smallest_side} each way")


def _check_shapes(reference: NDArray[Any], decoded: NDArray[Any]) -> None:
    if reference.shape != decoded.shape:
        raise ShapeError(f"planes differ in shape: {reference.shape} and {decoded.shape}")
    if reference.size == 0:
        raise ShapeError(f"got planes {reference.shape} without samples")


def _check_formats(reference: Frame, decoded: Frame) -> None:
    if reference.format() != decoded.format():
        raise ShapeError(f"pictures differ in format: {reference.format()} and {decoded.format()}")


def _scores(values: list[float]) -> PlaneScores:
    return PlaneScores(values[0], *values[1:]) if len(values) == 3 else PlaneScores(values[0], None, None)


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


def ms_ssim_rgb(reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float | None:
    """Mean MS-SSIM of the three channels of 8-bit images (H, W, 3); None if a side is shorter than 176.

    Raises:
        ShapeError: If the shapes differ or are not (H, W, 3).
    """
    _check_rgb(reference, decoded)
    if min(reference.shape[:2]) < _SMALLEST_SIDE:
        return None
    return math.fsum(ms_ssim(reference[..., c], decoded[..., c], bit_depth=8) for c in range(3)) / 3


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
