"""One uncompressed picture, and the format that a sequence of them shares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from numbers import Rational
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import InputError, ShapeError

ChromaFormat: TypeAlias = Literal["400", "420", "422", "444"]
ColourRange: TypeAlias = Literal["limited", "full"]
ChromaLocation: TypeAlias = Literal["left", "center", "top_left", "top", "bottom_left", "bottom"]
Plane: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

CHROMA_SHIFTS: dict[ChromaFormat, tuple[int, int]] = {"420": (1, 1), "422": (1, 0), "444": (0, 0)}
"""Right shifts (width, height) from luma to chroma size; 400 has no chroma and no entry."""

DEFAULT_FPS = Fraction(30)
"""Pictures per second where no one says it, and where only the planes of a format matter."""
MAX_RATE_TERM = 9_999_999_999
"""Largest numerator and denominator of a picture rate: ten digits, as in the header of a .y4m file."""


def check_rate(fps: Fraction) -> None:
    """Raises InputError unless a picture rate is exact and positive, its terms at most `MAX_RATE_TERM`."""
    if not isinstance(fps, Rational):
        raise InputError(f"{fps!r} pictures per second: must be a whole number or a Fraction, such as 30000/1001")
    if max(abs(fps.numerator), fps.denominator) > MAX_RATE_TERM:
        raise InputError("pictures per second: out of range, numerator and denominator must have at most ten digits")
    if fps <= 0:
        raise InputError(f"{fps} pictures per second: must be positive")


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """What all pictures of a sequence have in common.

    Attributes:
        width: Luma samples per row.
        height: Luma rows.
        bit_depth: Bits per sample, 8 to 16.
        chroma_format: "400", "420", "422" or "444".
        fps: Pictures per second.
        colour_range: "limited" (luma 16..235 at 8 bit), "full" (0..255), or None if the file does not say.
        chroma_location: Where a 4:2:0 chroma sample sits among its four luma samples, or None if the file does
            not say. In the order of H.266's vui_chroma_sample_loc_type: "left" (0), "center" (1), "top_left" (2),
            "top" (3), "bottom_left" (4), "bottom" (5).
        pixel_aspect: Width of a sample over its height (sample aspect ratio), or None if the file does not say.

    The last three change no sample; they are kept where pictures are copied.
    """

    width: int
    height: int
    bit_depth: int = 8
    chroma_format: ChromaFormat = "420"
    fps: Fraction = DEFAULT_FPS
    colour_range: ColourRange | None = None
    chroma_location: ChromaLocation | None = None
    pixel_aspect: Fraction | None = None

    def __post_init__(self) -> None:
        check_rate(self.fps)
        if self.width < 1 or self.height < 1:
            raise InputError(f"picture size {self.width}x{self.height}: both sides must be at least 1")
        if not 8 <= self.bit_depth <= 16:
            raise InputError(f"bit depth {self.bit_depth}: must be 8 to 16")
        if self.chroma_format not in ("400", "420", "422", "444"):
            raise InputError(f"chroma format {self.chroma_format!r}: must be 400, 420, 422 or 444")
        if self.colour_range not in (None, *get_args(ColourRange)):
            raise InputError(f"colour range {self.colour_range!r}: must be {_or_list(ColourRange)}")
        if self.chroma_location not in (None, *get_args(ChromaLocation)):
            raise InputError(f"chroma location {self.chroma_location!r}: must be {_or_list(ChromaLocation)}")
        if self.pixel_aspect is not None and self.pixel_aspect <= 0:
            raise InputError(f"pixel aspect {self.pixel_aspect}: must be positive")

    @property
    def plane_shapes(self) -> tuple[tuple[int, int], ...]:
        """Shapes (height, width) of the planes Y[, Cb, Cr]; odd luma sizes round chroma up."""
        luma = (self.height, self.width)
        if self.chroma_format == "400":
            return (luma,)
        dx, dy = CHROMA_SHIFTS[self.chroma_format]
        chroma = (-(-self.height >> dy), -(-self.width >> dx))
        return (luma, chroma, chroma)

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """uint8 for 8 bit, uint16 above."""
        return np.dtype(np.uint8) if self.bit_depth == 8 else np.dtype(np.uint16)

    @property
    def picture_bytes(self) -> int:
        """Size of one raw picture in bytes: one byte per sample at 8 bit, two above."""
        return self.dtype.itemsize * sum(h * w for h, w in self.plane_shapes)

    def holding(self, frame: Frame) -> VideoFormat:
        """This format at the frame's size, bit depth and chroma format: what a copy of such pictures states."""
        return replace(
            self, width=frame.width, height=frame.height, bit_depth=frame.bit_depth, chroma_format=frame.chroma_format
        )


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture: planes Y[, Cb, Cr].

    Attributes:
        planes: 2-D arrays (height, width), uint8 at 8 bit and uint16 above, values below 2**bit_depth.
        bit_depth: Bits per sample, 8 to 16.
        chroma_format: "400", "420", "422" or "444".

    Raises:
        ShapeError: If the planes' number, shapes or dtype do not follow from the format.
    """

    planes: tuple[Plane, ...]
    bit_depth: int
    chroma_format: ChromaFormat

    def __post_init__(self) -> None:
        if not self.planes or any(p.ndim != 2 for p in self.planes):
            raise ShapeError(f"a frame needs 2-D planes, got {[p.shape for p in self.planes]}")
        expected = self.format(DEFAULT_FPS)
        shapes = tuple(p.shape for p in self.planes)
        if shapes != expected.plane_shapes:
            raise ShapeError(f"planes {shapes} do not make a {self.chroma_format} picture: {expected.plane_shapes}")
        if any(p.dtype != expected.dtype for p in self.planes):
            raise ShapeError(
                f"planes of {[str(p.dtype) for p in self.planes]}: {self.bit_depth} bit is {expected.dtype}"
            )

    @property
    def width(self) -> int:
        """Luma samples per row."""
        return int(self.planes[0].shape[1])

    @property
    def height(self) -> int:
        """Luma rows."""
        return int(self.planes[0].shape[0])

    def format(self, fps: Fraction | int) -> VideoFormat:
        """The format of a sequence of such pictures.

        A picture has no rate, colour range, chroma location or pixel aspect of its own. A copy of the pictures of a
        file states those of its source: `source.format.holding(frame)`.

        Args:
            fps: Pictures per second.

        Raises:
            InputError: If the rate is not exact and positive.
        """
        rate = Fraction(fps) if isinstance(fps, int) else fps
        return VideoFormat(self.width, self.height, self.bit_depth, self.chroma_format, rate)

    def to_bit_depth(self, bit_depth: int) -> Frame:
        """This picture at another depth: shifted left, or right with rounding and clipping."""
        if bit_depth == self.bit_depth:
            return self
        dtype = np.uint8 if bit_depth == 8 else np.uint16
        if bit_depth > self.bit_depth:
            planes = [np.left_shift(p, bit_depth - self.bit_depth, dtype=dtype) for p in self.planes]
        else:
            shift = self.bit_depth - bit_depth
            peak = (1 << bit_depth) - 1
            planes = [
                np.minimum((p.astype(np.uint32) + (1 << (shift - 1))) >> shift, peak).astype(dtype) for p in self.planes
            ]
        return Frame(tuple(planes), bit_depth, self.chroma_format)

    def padded(self, width: int, height: int) -> Frame:
        """This picture extended to width x height by repeating its right column and bottom row."""
        if width < self.width or height < self.height:
            raise ShapeError(f"cannot pad {self.width}x{self.height} to the smaller {width}x{height}")
        shapes = VideoFormat(width, height, self.bit_depth, self.chroma_format).plane_shapes
        pairs = zip(self.planes, shapes, strict=True)
        return self._with(
            cast(Plane, np.pad(p, ((0, h - p.shape[0]), (0, w - p.shape[1])), mode="edge")) for p, (h, w) in pairs
        )

    def cropped(self, width: int, height: int) -> Frame:
        """The top left width x height samples of this picture."""
        if width > self.width or height > self.height:
            raise ShapeError(f"cannot crop {self.width}x{self.height} to the larger {width}x{height}")
        shapes = VideoFormat(width, height, self.bit_depth, self.chroma_format).plane_shapes
        return self._with(p[:h, :w] for p, (h, w) in zip(self.planes, shapes, strict=True))

    def tobytes(self) -> bytes:
        """The samples as raw YUV: planes in order, row by row, little endian above 8 bit."""
        return b"".join(np.ascontiguousarray(p, dtype=p.dtype.newbyteorder("<")).tobytes() for p in self.planes)

    def _with(self, planes: Iterable[Plane]) -> Frame:
        return Frame(tuple(planes), self.bit_depth, self.chroma_format)


def _or_list(literal: object) -> str:
    *first, last = get_args(literal)
    return f"{', '.join(first)} or {last}"
