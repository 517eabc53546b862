"""How alike decoded pictures are to their originals: PSNR, SSIM and MS-SSIM of each plane, and their means.

Originals are compared at the bit depth of the decoded pictures, as VTM does with an 8-bit sequence that it codes at
10 bit. Means are over pictures, of the scores: the mean PSNR is that of the pictures' values in dB.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import fmean

from vvc_nnr.errors import InputError
from vvc_nnr.files import naming
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.metrics import (
    SSIM_WINDOW,
    Peak,
    PlaneScores,
    frame_ms_ssim,
    frame_psnr_db,
    frame_ssim,
    yuv_psnr_db,
)
from vvc_nnr.sequences.source import Source

PEAK_WORDS: dict[Peak, str] = {
    "vtm": "255 << (bit depth - 8) as in VTM: 255 at 8 bit, 1020 at 10 bit",
    "full": "2**bit_depth - 1: 255 at 8 bit, 1023 at 10 bit",
}


@dataclass(frozen=True, slots=True)
class PictureScores:
    """The scores of one picture, or their means.

    Attributes:
        psnr_db: PSNR of each plane in dB, inf for identical planes.
        ssim: SSIM of each plane.
        ms_ssim: MS-SSIM of Y, Cb and Cr; None for a plane that is not there or smaller than 176 either way.
    """

    psnr_db: PlaneScores
    ssim: PlaneScores
    ms_ssim: tuple[float | None, float | None, float | None]

    @property
    def yuv_psnr_db(self) -> float:
        """(6 Y + Cb + Cr) / 8 of the planes' PSNR in dB; luma's for 4:0:0."""
        return yuv_psnr_db(self.psnr_db)


def check_comparable(original: VideoFormat, decoded: VideoFormat) -> None:
    """Checks formats of an original and what was decoded of it; 4:0:0 may have been coded as 4:2:0.

    Raises:
        InputError: If size or chroma format differ, a plane is too small for SSIM, or the decoded pictures have fewer
            bits per sample.
    """
    if (original.width, original.height) != (decoded.width, decoded.height):
        sizes = f"{decoded.width}x{decoded.height}, and the original is {original.width}x{original.height}"
        raise InputError(f"{sizes}: must be one size")
    if original.chroma_format not in (decoded.chroma_format, "400"):
        raise InputError(
            f"{':'.join(decoded.chroma_format)}, and the original is {':'.join(original.chroma_format)}: must be alike"
        )
    if decoded.bit_depth < original.bit_depth:
        raise InputError(
            f"{decoded.bit_depth} bit, and the original has {original.bit_depth} bit: must be as many, or more"
        )
    shapes = original.plane_shapes
    if min(map(min, shapes)) < SSIM_WINDOW:
        needed = f"{SSIM_WINDOW}x{SSIM_WINDOW}"
        raise InputError(
            f"{original.width}x{original.height} is too small for SSIM: each plane must be {needed} or more"
        )


def comparable(original: Frame, decoded: Frame) -> tuple[Frame, Frame]:
    """Both pictures in one format: the original's chroma format at the decoded picture's bit depth.

    Raises:
        InputError: If they do not fit together, as `check_comparable`.
    """
    check_comparable(original.format(), decoded.format())
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
        ShapeError: If the formats differ, or a plane is smaller than SSIM's window.
    """
    return PictureScores(
        frame_psnr_db(reference, decoded, peak=peak), frame_ssim(reference, decoded), frame_ms_ssim(reference, decoded)
    )


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

    def taking(self, decoded: Iterable[Frame]) -> Iterator[Frame]:
        """The decoded pictures on their way into the filter."""
        for frame in decoded:
            self._waiting.append(frame)
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
    ssim = planes(lambda each: (each.ssim.y, each.ssim.cb, each.ssim.cr))
    ms_ssim = planes(lambda each: each.ms_ssim)
    assert psnr_db[0] is not None
    assert ssim[0] is not None
    return PictureScores(
        PlaneScores(psnr_db[0], *psnr_db[1:]), PlaneScores(ssim[0], *ssim[1:]), (ms_ssim[0], ms_ssim[1], ms_ssim[2])
    )


def _mean(values: list[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return fmean(found) if len(found) == len(values) else None
