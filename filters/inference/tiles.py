"""Tiles of the planes that a network sees: what each writes, and what it has to read for that, of one size for all.

How far an input can change the output, the reach, is measured where no one says it. A cell of the input (`align`
samples high and wide, so that every phase of a strided network is in it) is changed, and what changes in the output is
looked at. The change is large, several are tried, and one of them is NaN where that goes through every operation: a
ReLU that happens to be off then hides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.filters import _kernels
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.planes import Rectangle
from vvc_nnr.sequences.frame import Frame

MIN_TILE = 16


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile.

    Attributes:
        written: What it writes.
        read: What it reads, around that.
    """

    written: Rectangle
    read: Rectangle

    @property
    def place(self) -> tuple[int, int]:
        """Row and column at which what is written lies in what is read."""
        return self.written[0] - self.read[0], self.written[1] - self.read[1]


def check_tile(tile: int | None) -> None:
    """Raises InputError for a tile (of luma samples) that is too small; None, the whole picture, is not."""
    if tile is not None and tile < MIN_TILE:
        raise InputError(f"tile of {tile} luma samples: must be at least {MIN_TILE}")


def tiles_for(layout: Layout, reach: float, height: int, width: int, side: int, *, at_least: int = 1) -> list[Tile]:
    """The tiles that give the samples of the whole picture, for what a layout says of a network.

    Sides and places are multiples of `align`, so that every phase of a strided network lies as in the whole picture;
    what is read may then lie beyond the planes. A network of fixed size gets one tile for each of its outputs.

    Args:
        layout: The network's.
        reach: How far away an input reaches an output, in samples.
        height: Of the planes.
        width: Of the planes.
        side: Of a tile, in samples of the planes.
        at_least: How many tiles there should be, if the planes have the rows.

    Raises:
        InputError: If the network looks at whole pictures, and these are larger than a tile.
    """
    if layout.patch is not None:
        n_high, n_wide = (length - 2 * layout.overlap for length in layout.patch)
        return [
            Tile((top, left, min(n_high, height - top), min(n_wide, width - left)), (top, left, n_high, n_wide))
            for top in range(0, height, n_high)
            for left in range(0, width, n_wide)
        ]
    align = layout.align
    rows, columns, cells = -(-height // align), -(-width // align), max(1, side // align)
    if reach == math.inf:
        if max(rows, columns) > cells:
            raise InputError(
                f"tile: the network's output depends on the whole picture, or on where it is in it, and its planes of "
                f"{width}x{height} are larger than a tile's {side}; make the tile larger, or declare the layout's reach"
            )
        at_least, reach = 1, 0
    found = tiles_of(rows, columns, cells, math.ceil(reach / align), at_least=at_least)
    return found if align == 1 else [_in_samples(tile, align, height, width) for tile in found]


def _in_samples(tile: Tile, align: int, height: int, width: int) -> Tile:
    """A tile of cells as one of samples; what lies beyond the planes is read, not written."""
    top, left, n_high, n_wide = (align * length for length in tile.written)
    top_read, left_read, height_read, width_read = (align * length for length in tile.read)
    written = (top, left, min(n_high, height - top), min(n_wide, width - left))
    return Tile(written, (top_read, left_read, height_read, width_read))


def tiles_of(height: int, width: int, side: int, radius: int, *, at_least: int = 1) -> list[Tile]:
    """Tiles of about one size, at most `side` high and wide, that together write the picture once.

    Each reads `radius` samples more on every side, as far as the picture goes. At its border a tile reads further on
    the other side, so that all read the same size, which a compiled network likes; the output is the same.

    Args:
        height: Of the picture, in samples.
        width: Of the picture.
        side: Of a tile.
        radius: How far away an input reaches an output.
        at_least: How many tiles there should be, if the picture has the rows.
    """
    n_columns = -(-width // side)
    n_rows = min(height, max(-(-height // side), -(-at_least // n_columns)))
    return [
        Tile((top, left, n_high, n_wide), (top_read, left_read, height_read, width_read))
        for top, n_high, top_read, height_read in _spans(height, n_rows, radius)
        for left, n_wide, left_read, width_read in _spans(width, n_columns, radius)
    ]


def _spans(size: int, n: int, radius: int) -> list[tuple[int, int, int, int]]:
    """Begin and length of what is written, and of what is read, along one side."""
    side = -(-size // n)
    n_read = min(size, side + 2 * radius)
    return [
        (begin, min(side, size - begin), min(max(0, begin - radius), size - n_read), n_read)
        for begin in range(0, size, side)
    ]


def empty_like(frame: Frame, bit_depth: int | None = None) -> Frame:
    """A picture of the same format, to be written, or of another bit depth."""
    depth = frame.bit_depth if bit_depth is None else bit_depth
    dtype = np.uint8 if depth == 8 else np.uint16
    return Frame(tuple(np.empty(plane.shape, dtype) for plane in frame.planes), depth, frame.chroma_format)


def write_samples(values: NDArray[np.float32], tile: Tile, out: Frame, scale: float, *, portable: bool = False) -> None:
    """Rounds a tile's packed values half to even, clips them to the bit depth, and puts them into a picture.

    Args:
        values: (6, height, width) of what the tile reads.
        tile: What of them is written, and where.
        out: The picture, whose arrays are changed.
        scale: The sample value that counts as 1.
        portable: Without the processor's wider instructions; the result is the same.

    Raises:
        VvcNnrError: If a value is NaN or infinite.
    """
    luma, *chroma = out.planes
    pair = (chroma[0], chroma[1]) if chroma else None
    peak = float((1 << out.bit_depth) - 1)
    values = np.ascontiguousarray(values)
    if not _kernels.write_window(values, tile.place, tile.written, scale, peak, luma, pair, portable):
        raise VvcNnrError("the network's output is not finite: its weights are damaged or overflow")


Run: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.floating]]
"""The network on (C, height, width)."""
SIDES = (32, 64, 128, 256)
"""Of the pictures that are tried, until two agree; a network that reaches across the largest counts as one that needs
whole pictures. Taps of one layer that lie further from each other than half of that are not seen."""
_N_TRIES = 3
_TOLERANCE = 1e-6


def measured_reach(run: Run, n_inputs: int, align: int = 1) -> float:
    """Samples of the input's planes, infinite for a network that looks at whole pictures or at where it is in them.

    Args:
        run: The network; it is run on pictures whose sides are multiples of `align`.
        n_inputs: Channels that it takes.
        align: What the sides must be multiples of.
    """
    rng = np.random.default_rng(0)
    before: int | None = None
    for side in SIDES:
        cells = max(3, side // align) | 1
        picture = rng.uniform(0, 1, (n_inputs, cells * align, cells * align)).astype(np.float32)
        reach = _reach_in(run, picture, cells // 2 * align, align, rng)
        if reach == before and reach < cells // 2 * align:
            return reach if _is_same_everywhere(run, picture, reach, align) else math.inf
        before = reach
    return math.inf


def _reach_in(run: Run, picture: NDArray[np.float32], begin: int, align: int, rng: np.random.Generator) -> int:
    cell = slice(begin, begin + align)
    before = run(picture)
    touched = np.zeros(picture.shape[1:], bool)
    for change in (*rng.uniform(-100, 100, _N_TRIES), math.nan):
        other = picture.copy()
        other[:, cell, cell] += change * rng.uniform(0.5, 1, (len(picture), align, align)).astype(np.float32)
        after = run(other)
        limit = _TOLERANCE * (1 + np.abs(before).max())
        touched |= ~(np.abs(after - before) <= limit).all(axis=0)
    rows, columns = np.flatnonzero(touched.any(axis=1)), np.flatnonzero(touched.any(axis=0))
    if not len(rows):
        return 0
    ends = begin + align - 1
    return int(max(0, begin - rows[0], rows[-1] - ends, begin - columns[0], columns[-1] - ends))


def _is_same_everywhere(run: Run, picture: NDArray[np.float32], reach: int, align: int) -> bool:
    """Whether a part of a picture gives what the picture gives there, apart from the part's borders."""
    whole, part = run(picture), run(np.ascontiguousarray(picture[:, align:, align:]))
    inner = slice(reach, part.shape[1])
    expected = whole[:, align:, align:][:, inner, inner]
    return bool(np.allclose(part[:, inner, inner], expected, rtol=1e-4, atol=1e-4 * (1 + np.abs(expected).max())))
