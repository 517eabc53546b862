"""A picture as the planes that a network's layout declares, and what comes out of it as a picture again.

All values between are real, in units of the layout's range without its sign: `sample / layout.scale(bit_depth)`, R, G
and B likewise. What is not direct (chroma that was made larger, RGB) goes back as a correction, so that a network that
changes nothing leaves every sample as it is.

The bundled networks see a 4:2:0 picture as six planes of half size: the four luma phases, Cb and Cr.

```
 Y: a b a b      a a   b b   c c   d d   Cb Cb   Cr Cr
    c d c d  ->  a a   b b   c c   d d   Cb Cb   Cr Cr
```
Nothing is lost by it, and every convolution costs a quarter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import UnsupportedError
from vvc_nnr.filters import _kernels
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.sequences.frame import CHROMA_SHIFTS, ColourRange, Frame, Plane
from vvc_nnr.sequences.images import RGB_TO_YUV, grown, nominal_steps, shrunk

N_PLANES = 6
N_LUMA_PLANES = 4
_Sample = TypeVar("_Sample", np.uint16, np.float32)


def sample_scale(bit_depth: int) -> float:
    """The sample value that the networks see as 1: 1023 at 10 bit, where they learn, and the same light elsewhere."""
    return float(1023 * 2 ** (bit_depth - 10))


def pack(frame: Frame) -> NDArray[np.uint16]:
    """The picture as uint16 (6, ceil(height / 2), ceil(width / 2)); odd sizes repeat their last row and column.

    A 4:0:0 picture gets flat chroma of half the range.

    Raises:
        UnsupportedError: For 4:2:2 and 4:4:4.
    """
    if frame.chroma_format not in ("400", "420"):
        raise UnsupportedError(
            f"the filters take 4:2:0 and 4:0:0, got 4:{frame.chroma_format[1]}:{frame.chroma_format[2]}"
        )
    frame = frame.padded(frame.width + frame.width % 2, frame.height + frame.height % 2)
    luma = frame.planes[0].astype(np.uint16)
    phases = [luma[y::2, x::2] for y in (0, 1) for x in (0, 1)]
    flat = np.full_like(phases[0], 1 << (frame.bit_depth - 1))
    chroma = [p.astype(np.uint16) for p in frame.planes[1:]] or [flat, flat]
    return np.stack(phases + chroma)


def unpack(packed: NDArray[np.uint16], like: Frame) -> Frame:
    """The inverse of `pack`: a picture of the size, depth and chroma format of `like`."""
    planes = unpacked_planes(packed, [p.shape for p in like.planes])
    samples = (cast(Plane, p.astype(like.planes[0].dtype)) for p in planes)
    return Frame(tuple(samples), like.bit_depth, like.chroma_format)


def unpacked_planes(packed: NDArray[_Sample], shapes: Sequence[tuple[int, int]]) -> tuple[NDArray[_Sample], ...]:
    """Six planes of half size as planes of the given shapes (height, width): Y, or Y, Cb and Cr."""
    _, height, width = packed.shape
    luma = np.empty((2 * height, 2 * width), packed.dtype)
    for phase in range(N_LUMA_PLANES):
        luma[phase // 2 :: 2, phase % 2 :: 2] = packed[phase]
    return tuple(p[:h, :w] for p, (h, w) in zip((luma, *packed[N_LUMA_PLANES:]), shapes, strict=False))


Rectangle: TypeAlias = tuple[int, int, int, int]
"""Top, left, height and width, in samples of the planes; may lie beyond the picture."""
Values: TypeAlias = NDArray[np.float32]
COMPONENTS = ("y", "cb", "cr")


class Grid(Protocol):
    """The planes that a network sees at a time, of one picture."""

    @property
    def height(self) -> int:
        """Rows of each plane."""

    @property
    def width(self) -> int:
        """Samples per row."""

    def read(self, window: Rectangle) -> Values:
        """The values (C, height, width) of a window that lies in the planes; contiguous, the caller's own."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedGrid:
    """Six planes of half size, made while they are read.

    Attributes:
        frame: A 4:2:0 or 4:0:0 picture; the latter's chroma is flat.
        scale: The sample value that counts as 1.
        portable: Without the processor's wider instructions; the result is the same.
    """

    frame: Frame
    scale: float
    portable: bool = False

    @property
    def height(self) -> int:
        """Rows of each plane."""
        return -(-self.frame.height // 2)

    @property
    def width(self) -> int:
        """Samples per row."""
        return -(-self.frame.width // 2)

    def read(self, window: Rectangle) -> Values:
        """A window as six planes (6, height, width), read out of the picture."""
        luma, *chroma = (np.ascontiguousarray(plane) for plane in self.frame.planes)
        flat = float(1 << (self.frame.bit_depth - 1))
        pair = (chroma[0], chroma[1]) if chroma else None
        return _kernels.read_window(luma, pair, window, self.scale, flat, self.portable)


@dataclass(frozen=True, slots=True, eq=False)
class ArrayGrid:
    """Planes that are all there.

    Attributes:
        values: (C, height, width).
    """

    values: Values

    @property
    def height(self) -> int:
        """Rows of each plane."""
        return int(self.values.shape[1])

    @property
    def width(self) -> int:
        """Samples per row."""
        return int(self.values.shape[2])

    def read(self, window: Rectangle) -> Values:
        """A copy of a window, (C, height, width)."""
        top, left, height, width = window
        return self.values[:, top : top + height, left : left + width].copy()


def check_format(frame: Frame, layout: Layout) -> None:
    """Raises UnsupportedError for a chroma format that the planes do not go with: packed ones are 4:2:0 and 4:0:0."""
    if layout.planes == "yuv420-packed" and frame.chroma_format not in ("400", "420"):
        shown = ":".join(frame.chroma_format)
        raise UnsupportedError(f"the filters take 4:2:0 and 4:0:0, got {shown}")


def grids_of(frame: Frame, layout: Layout, colour_range: ColourRange | None = None) -> list[Grid]:
    """The planes that the network is to see, one grid after the other.

    Args:
        frame: The picture.
        layout: The network's.
        colour_range: Of the picture's samples, by which R, G and B are made of them; None: limited.

    Raises:
        UnsupportedError: If the picture's chroma format does not go with the layout.
    """
    check_format(frame, layout)
    scale = np.float32(layout.scale(frame.bit_depth))
    match layout.planes:
        case "yuv420-packed":
            return [PackedGrid(frame, float(scale))]
        case "y":
            return [ArrayGrid(frame.planes[0][None].astype(np.float32) / scale)]
        case "each":
            return [ArrayGrid(plane[None].astype(np.float32) / scale) for plane in frame.planes]
        case "yuv444":
            return [ArrayGrid(_luma_sized(frame) / scale)]
        case "rgb":
            peak = np.float32(((1 << frame.bit_depth) - 1) / scale)
            return [ArrayGrid(np.einsum("cp,phw->chw", _yuv_to_rgb(), _nominal(frame, colour_range)) * peak)]


def corrections(
    frame: Frame,
    layout: Layout,
    grids: Sequence[Grid],
    outputs: Sequence[Values],
    colour_range: ColourRange | None = None,
) -> tuple[Values, ...]:
    """What the outputs add to each component of the picture, in its sample values, (height, width) each.

    Args:
        frame: The picture.
        layout: The network's.
        grids: What went in.
        outputs: The filtered planes (C, height, width) of each grid, in the same units.
        colour_range: As for `grids_of`.
    """
    scale = np.float32(layout.scale(frame.bit_depth))
    zeros = tuple(np.zeros(plane.shape, np.float32) for plane in frame.planes)
    found: tuple[Values, ...]
    match layout.planes:
        case "yuv420-packed":
            found = unpacked_planes(outputs[0] * scale - pack(frame), [plane.shape for plane in frame.planes])
        case "y":
            found = (outputs[0][0] * scale - frame.planes[0], *zeros[1:])
        case "each":
            found = tuple(out[0] * scale - plane for out, plane in zip(outputs, frame.planes, strict=True))
        case "yuv444":
            found = _chroma_sized(frame, (outputs[0] - _whole(grids[0])) * scale)
        case "rgb":
            peak = np.float32(((1 << frame.bit_depth) - 1) / scale)
            changed = np.einsum("pc,chw->phw", RGB_TO_YUV.astype(np.float32), (outputs[0] - _whole(grids[0])) / peak)
            _, luma_steps, chroma_steps = nominal_steps(frame.bit_depth, colour_range)
            steps = np.array([luma_steps, chroma_steps, chroma_steps], np.float32)[:, None, None]
            found = _chroma_sized(frame, changed * steps)
    return tuple(
        zero if name in layout.keep else values for name, values, zero in zip(COMPONENTS, found, zeros, strict=False)
    )


def corrected(frame: Frame, added: Sequence[Values], bit_depth: int | None = None) -> Frame:
    """The picture with corrections added, rounded half to even and clipped to a bit depth.

    Args:
        frame: The picture.
        added: What is added to each component, in its sample values.
        bit_depth: That of the result, at least the picture's, whose samples count 2**(difference) each; None: the same.
    """
    depth = frame.bit_depth if bit_depth is None else bit_depth
    peak, step = (1 << depth) - 1, np.float32(1 << (depth - frame.bit_depth))
    planes = (
        np.rint((plane + values) * step).clip(0, peak).astype(np.uint8 if depth == 8 else np.uint16)
        for plane, values in zip(frame.planes, added, strict=True)
    )
    return Frame(tuple(cast(Plane, plane) for plane in planes), depth, frame.chroma_format)


def network_input(layout: Layout, values: Values, qp: float) -> Values:
    """What the network takes (C, height, width): the planes in its range, and the QP plane if it has one."""
    planes = 2 * values - 1 if layout.range == "signed" else values
    if layout.qp != "plane":
        return planes
    return np.concatenate([planes, np.full((1, *planes.shape[1:]), layout.qp_input(qp), np.float32)])


def filtered_values(layout: Layout, values: Values, output: Values) -> Values:
    """The filtered planes, of what went into the network and what came out of it, both (C, height, width)."""
    step = np.float32(0.5 if layout.range == "signed" else 1)
    match layout.output:
        case "residual":
            return values + step * output
        case "noise":
            return values - step * output
    return (output + 1) * step if layout.range == "signed" else output


def network_target(layout: Layout, original: Values, decoded: Values) -> Values:
    """What the network should return: the inverse of `filtered_values`, of original and decoded planes."""
    step = np.float32(2 if layout.range == "signed" else 1)
    match layout.output:
        case "residual":
            return (original - decoded) * step
        case "noise":
            return (decoded - original) * step
    return original * step - 1 if layout.range == "signed" else original


def read_extended(grid: Grid, window: Rectangle) -> Values:
    """A window that may lie beyond the planes, whose last rows and columns are repeated there; else as `Grid.read`."""
    top, left, height, width = window
    first, last = max(0, top), min(grid.height, top + height)
    begin, end = max(0, left), min(grid.width, left + width)
    values = grid.read((first, begin, last - first, end - begin))
    sides = ((0, 0), (first - top, top + height - last), (begin - left, left + width - end))
    return values if not any(map(any, sides)) else np.pad(values, sides, mode="edge")


def _whole(grid: Grid) -> Values:
    return grid.read((0, 0, grid.height, grid.width))


def _luma_sized(frame: Frame) -> Values:
    """Y, Cb and Cr of luma's size, (3, height, width), in sample values; flat chroma for 4:0:0."""
    found = np.full((3, frame.height, frame.width), 1 << (frame.bit_depth - 1), np.float32)
    found[0] = frame.planes[0]
    if frame.chroma_format != "400":
        for target, plane in zip(found[1:], frame.planes[1:], strict=True):
            large = grown(plane.astype(np.float32), *CHROMA_SHIFTS[frame.chroma_format])
            target[:] = large[: frame.height, : frame.width]
    return found


def _nominal(frame: Frame, colour_range: ColourRange | None) -> Values:
    """The same with luma 0..1 and chroma -0.5..0.5 of nominal range."""
    black, luma_steps, chroma_steps = nominal_steps(frame.bit_depth, colour_range)
    found = _luma_sized(frame)
    found[0] = (found[0] - black) / luma_steps
    found[1:] = (found[1:] - np.float32(1 << (frame.bit_depth - 1))) / chroma_steps
    return found


def _yuv_to_rgb() -> Values:
    return np.linalg.inv(RGB_TO_YUV).astype(np.float32)


def _chroma_sized(frame: Frame, added: Values) -> tuple[Values, ...]:
    """Corrections of luma's size, (3, height, width), as the picture's planes lie."""
    if frame.chroma_format == "400":
        return (added[0],)
    across, down = CHROMA_SHIFTS[frame.chroma_format]
    return (added[0], *(np.ascontiguousarray(shrunk(plane, across, down)) for plane in added[1:]))
