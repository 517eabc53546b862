"""PSNR, SSIM and MS-SSIM of decoded pictures: of a plane, a picture, a sequence against its original, and means.

PSNR's peak is part of its definition: `"vtm"` is 255 << (B - 8), as VTM and VVenC print it (1020 at 10 bit),
`"full"` is 2**B - 1 (1023): 0.026 dB apart at 10 bit, equal at 8. Identical planes have infinite PSNR.

Originals are compared at the bit depth of the decoded pictures, as VTM does with an 8-bit sequence that it codes at
10 bit. Means are over pictures, of the scores: the mean PSNR is that of the pictures' values in dB.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import fmean
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from vvc_nnr.errors import InputError, ShapeError, shown_name
from vvc_nnr.files import naming
from vvc_nnr.sequences.frame import DEFAULT_FPS, Frame, Plane, VideoFormat
from vvc_nnr.sequences.source import Source

_log = logging.getLogger(__name__)

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
    check_same_format(reference, decoded)
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
    check_same_format(reference, decoded)
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


def check_same_format(reference: Frame, decoded: Frame) -> None:
    """Raises ShapeError if two pictures differ in size, chroma format or bit depth."""
    sizes = [f"{frame.width}x{frame.height}" for frame in (reference, decoded)]
    if sizes[0] != sizes[1]:
        raise ShapeError(f"pictures differ in size: {sizes[0]} and {sizes[1]}; must be alike")
    if reference.chroma_format != decoded.chroma_format:
        kinds = f"{':'.join(reference.chroma_format)} and {':'.join(decoded.chroma_format)}"
        raise ShapeError(f"pictures differ in chroma format: {kinds}; must be alike")
    if reference.bit_depth != decoded.bit_depth:
        depth, is_first = decoded.bit_depth, reference.bit_depth < decoded.bit_depth
        advice = f"to_bit_depth({max(depth, reference.bit_depth)}) of the {'first' if is_first else 'second'}"
        raise ShapeError(
            f"pictures differ in bit depth: {reference.bit_depth} and {depth} bit; must be alike, as by {advice}"
        )


def _scores(values: list[float]) -> PlaneScores:
    return PlaneScores(values[0], *values[1:]) if len(values) == 3 else PlaneScores(values[0], None, None)


MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_SIDE = SSIM_WINDOW << (len(MS_SSIM_WEIGHTS) - 1)


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
    check_window(reference, decoded, MS_SSIM_SIDE)
    data_range = float((1 << bit_depth) - 1)
    a, b = reference.astype(np.float64), decoded.astype(np.float64)
    factors: list[float] = []
    for weight in MS_SSIM_WEIGHTS:
        if factors:
            a, b = _halved(a), _halved(b)
        whole, structure = _scale_means(a, b, data_range)
        is_last = len(factors) == len(MS_SSIM_WEIGHTS) - 1
        factors.append(max(whole if is_last else structure, 0.0) ** weight)
    return math.prod(factors)


def ms_ssim_rgb(reference: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float | None:
    """Mean MS-SSIM of the three channels of 8-bit images (H, W, 3); None if a side is shorter than 176.

    Raises:
        ShapeError: If the shapes differ or are not (H, W, 3).
    """
    _check_rgb(reference, decoded)
    if min(reference.shape[:2]) < MS_SSIM_SIDE:
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
    check_same_format(reference, decoded)
    scores: list[float | None] = [None, None, None]
    for place, (a, b) in enumerate(zip(reference.planes, decoded.planes, strict=True)):
        if min(a.shape) >= MS_SSIM_SIDE:
            scores[place] = ms_ssim(a, b, bit_depth=reference.bit_depth)
    return scores[0], scores[1], scores[2]


PEAK_WORDS: dict[Peak, str] = {
    "vtm": "255 << (bit depth - 8) as in VTM: 255 at 8 bit, 1020 at 10 bit",
    "full": "2**bit_depth - 1: 255 at 8 bit, 1023 at 10 bit",
}


@dataclass(frozen=True, slots=True)
class PictureScores:
    """The scores of one picture, or their means.

    Attributes:
        psnr_db: PSNR of each plane in dB, inf for identical planes.
        ssim: SSIM of Y, Cb and Cr; None for a plane that is not there or smaller than 11 either way.
        ms_ssim: MS-SSIM of Y, Cb and Cr; None for a plane that is not there or smaller than 176 either way.
    """

    psnr_db: PlaneScores
    ssim: tuple[float | None, float | None, float | None]
    ms_ssim: tuple[float | None, float | None, float | None]

    @property
    def yuv_psnr_db(self) -> float:
        """(6 Y + Cb + Cr) / 8 of the planes' PSNR in dB; luma's for 4:0:0."""
        return yuv_psnr_db(self.psnr_db)

    def by_column(self) -> dict[str, Any]:
        """Score of each plane under its column's name in results: "psnr_y_db", ..., "ms_ssim_cr"."""
        planes = (("y", 0), ("cb", 1), ("cr", 2))
        psnr_db = (self.psnr_db.y, self.psnr_db.cb, self.psnr_db.cr)
        return (
            {f"psnr_{name}_db": psnr_db[at] for name, at in planes}
            | {f"ssim_{name}": self.ssim[at] for name, at in planes}
            | {f"ms_ssim_{name}": self.ms_ssim[at] for name, at in planes}
        )


def may_be_padded(original: VideoFormat, decoded: VideoFormat) -> bool:
    """Whether decoded pictures are larger by what an encoder of even sides pads odd ones with, or alike."""
    return 0 <= decoded.width - original.width <= 1 and 0 <= decoded.height - original.height <= 1


def check_comparable(original: VideoFormat, decoded: VideoFormat, *, has_ssim: bool = False) -> None:
    """Checks formats of an original and what was decoded of it; 4:0:0 may have been coded as 4:2:0.

    Args:
        original: That of the pictures before coding.
        decoded: That of the decoded ones.
        has_ssim: Whether there must be SSIM of each plane.

    Raises:
        InputError: If size or chroma format differ, the decoded pictures have fewer bits per sample, or a plane is too
            small for SSIM that must be.
    """
    if (original.width, original.height) != (decoded.width, decoded.height):
        sizes = f"{decoded.width}x{decoded.height}, and the original is {original.width}x{original.height}"
        size = f"{original.width}x{original.height}"
        remedy = f"; if odd sides were coded as even ones, crop the pictures to {size} (decode or filter --size {size})"
        raise InputError(f"{sizes}: must be one size{remedy if may_be_padded(original, decoded) else ''}")
    if original.chroma_format not in (decoded.chroma_format, "400"):
        raise InputError(
            f"{':'.join(decoded.chroma_format)}, and the original is {':'.join(original.chroma_format)}: must be alike"
        )
    if decoded.bit_depth < original.bit_depth:
        raise InputError(
            f"{decoded.bit_depth} bit, and the original has {original.bit_depth} bit: must be as many, or more"
        )
    shapes = original.plane_shapes
    if has_ssim and min(map(min, shapes)) < SSIM_WINDOW:
        needed = f"{SSIM_WINDOW}x{SSIM_WINDOW}"
        raise InputError(
            f"{original.width}x{original.height} is too small for SSIM: each plane must be {needed} or more"
        )


def comparable(original: Frame, decoded: Frame, *, has_ssim: bool = False) -> tuple[Frame, Frame]:
    """Both pictures in one format: the original's chroma format at the decoded picture's bit depth.

    Args:
        original: The picture before coding.
        decoded: What was decoded of it.
        has_ssim: Whether there must be SSIM of each plane.

    Raises:
        InputError: If they do not fit together, as `check_comparable`.
    """
    check_comparable(original.format(DEFAULT_FPS), decoded.format(DEFAULT_FPS), has_ssim=has_ssim)
    if original.chroma_format == "400":
        decoded = Frame(decoded.planes[:1], decoded.bit_depth, "400")
    return original.to_bit_depth(decoded.bit_depth), decoded


def picture_scores(reference: Frame, decoded: Frame, *, peak: Peak = "vtm") -> PictureScores:
    """The scores of one picture.

    Args:
        reference: The original.
        decoded: What is scored, of the same format.
        peak: What PSNR counts as full scale.

    Raises:
        ShapeError: If the formats differ.
    """
    psnr_db = frame_psnr_db(reference, decoded, peak=peak)
    structure: list[float | None] = [None, None, None]
    for place, (a, b) in enumerate(zip(reference.planes, decoded.planes, strict=True)):
        if min(a.shape) >= SSIM_WINDOW:
            structure[place] = ssim(a, b, bit_depth=reference.bit_depth)
    return PictureScores(psnr_db, (structure[0], structure[1], structure[2]), frame_ms_ssim(reference, decoded))


def score_sequence(original: Source, decoded: Source, *, peak: Peak = "vtm") -> Iterator[PictureScores]:
    """Yields the scores of each picture of a decoded sequence.

    Args:
        original: The pictures before coding.
        decoded: As many pictures of the same size, of as many bits per sample or more.
        peak: What PSNR counts as full scale.

    Raises:
        InputError: If the sequences do not fit together, or one cannot be read.
        BitstreamError: If one is damaged.
    """
    _say_other_range(original, decoded)
    n_pictures = 0
    for reference, frame in zip_longest(original.frames(), decoded.frames()):
        if reference is None or frame is None:
            what = "more" if reference is None else "fewer"
            raise InputError(f"{decoded.path}: holds {what} pictures than {original.path}, must hold as many")
        try:
            pair = comparable(reference, frame)
        except InputError as error:
            raise error.prefixed(f"{decoded.path} picture {n_pictures}") from error
        yield picture_scores(*pair, peak=peak)
        n_pictures += 1
    if not n_pictures:
        raise InputError(f"{decoded.path}: holds no picture")


def _say_other_range(original: Source, decoded: Source) -> None:
    """Warns where both files state a colour range, and not the same one."""
    stated, other = original.format.colour_range, decoded.format.colour_range
    if stated and other and stated != other:
        said = "%s: states colour range %s, %s states %s; samples are compared as they are"
        _log.warning(said, shown_name(str(decoded.path)), other, shown_name(str(original.path)), stated)


class BeforeAndAfter:
    """Scores pictures as they go through a filter: what goes in, and what comes out.

    Args:
        original: The pictures before coding.
        name: How errors name the decoded pictures.
        peak: What PSNR counts as full scale.

    Attributes:
        before: Scores of the decoded pictures, as far as they went through.
        after: Those of the filtered pictures.
    """

    def __init__(self, original: Source, name: str, *, peak: Peak = "vtm") -> None:
        self.before: list[PictureScores] = []
        self.after: list[PictureScores] = []
        self._original, self._name, self._peak = original, name, peak
        self._waiting: deque[Frame] = deque()

    def taking(self, decoded: Iterable[Frame], size: tuple[int, int] | None = None) -> Iterator[Frame]:
        """The decoded pictures on their way into the filter.

        Args:
            decoded: The pictures.
            size: Width and height of what is scored of them; None: all.
        """
        for frame in decoded:
            self._waiting.append(frame if size is None else frame.cropped(*size))
            yield frame

    def giving(self, filtered: Iterable[Frame]) -> Iterator[Frame]:
        """The filtered pictures on their way out.

        Raises:
            InputError: If the original does not fit the decoded pictures, or has another number of them.
            BitstreamError: If the original is damaged.
        """
        for original, frame in zip_longest(self._original.frames(), filtered):
            if original is None or frame is None:
                what = "fewer" if original is None else "more"
                raise InputError(f"{self._original.path}: holds {what} pictures than {self._name}, must hold as many")
            for found, each in ((self.before, self._waiting.popleft()), (self.after, frame)):
                with naming(self._name):
                    found.append(picture_scores(*comparable(original, each), peak=self._peak))
            yield frame


def mean_scores(pictures: Sequence[PictureScores]) -> PictureScores:
    """The means over at least one picture; one infinite PSNR makes the mean infinite."""

    def planes(of: Callable[[PictureScores], tuple[float | None, ...]]) -> list[float | None]:
        columns = zip(*(of(picture) for picture in pictures), strict=True)
        return [_mean(list(column)) for column in columns]

    psnr_db = planes(lambda each: (each.psnr_db.y, each.psnr_db.cb, each.psnr_db.cr))
    ssim, ms_ssim = planes(lambda each: each.ssim), planes(lambda each: each.ms_ssim)
    assert psnr_db[0] is not None
    return PictureScores(
        PlaneScores(psnr_db[0], *psnr_db[1:]), (ssim[0], ssim[1], ssim[2]), (ms_ssim[0], ms_ssim[1], ms_ssim[2])
    )


def _mean(values: list[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return fmean(found) if len(found) == len(values) else None
