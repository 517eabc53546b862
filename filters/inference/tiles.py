"""Tiles of a picture: what each writes, and what it has to read for that. All of a picture read the same size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import InputError, UnsupportedError, VvcNnrError
from vvc_nnr.filters import _kernels
from vvc_nnr.filters.networks.packing import sample_scale
from vvc_nnr.sequences.frame import Frame

Rectangle: TypeAlias = tuple[int, int, int, int]
"""Top, left, height and width, in samples of half size."""
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


def half_side(tile: int | None, height: int, width: int) -> int:
    """Side of a tile in half-size samples; the whole picture without a tile.

    Raises:
        InputError: If the tile is too small.
    """
    if tile is None:
        return max(height, width)
    if tile < MIN_TILE:
        raise InputError(f"tile of {tile} luma samples: must be at least {MIN_TILE}")
    return tile // 2


def tiles_of(height: int, width: int, side: int, radius: int, *, at_least: int = 1) -> list[Tile]:
    """Tiles of about one size, at most `side` high and wide, that together write the picture once.

    Each reads `radius` samples more on every side, as far as the picture goes. At its border a tile reads further on
    the other side, so that all read the same size, which a compiled network likes; the output is the same.

    Args:
        height: Of the picture, in half-size samples.
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


def check_format(frame: Frame) -> None:
    """Raises UnsupportedError for 4:2:2 and 4:4:4."""
    if frame.chroma_format not in ("400", "420"):
        raise UnsupportedError(
            f"the filters take 4:2:0 and 4:0:0, got 4:{frame.chroma_format[1]}:{frame.chroma_format[2]}"
        )


def read_planes(frame: Frame, window: Rectangle, *, portable: bool = False) -> NDArray[np.float32]:
    """A window of `packing.pack(frame) / sample_scale(...)`, in one pass.

    Args:
        frame: A 4:2:0 or 4:0:0 picture.
        window: What of it, in half-size samples.
        portable: Without the processor's wider instructions; the result is the same.

    Returns:
        (6, height, width) of the window.
    """
    luma, *chroma = (np.ascontiguousarray(plane) for plane in frame.planes)
    flat = float(1 << (frame.bit_depth - 1))
    pair = (chroma[0], chroma[1]) if chroma else None
    return _kernels.read_window(luma, pair, window, sample_scale(frame.bit_depth), flat, portable)


def empty_like(frame: Frame) -> Frame:
    """A picture of the same format, to be written."""
    return Frame(tuple(np.empty_like(plane, order="C") for plane in frame.planes), frame.bit_depth, frame.chroma_format)


def write_samples(values: NDArray[np.float32], tile: Tile, out: Frame, *, portable: bool = False) -> None:
    """Rounds a tile's values half to even, clips them to the bit depth, and puts them into a picture.

    Args:
        values: (6, height, width) of what the tile reads.
        tile: What of them is written, and where.
        out: The picture, whose arrays are changed.
        portable: Without the processor's wider instructions; the result is the same.

    Raises:
        VvcNnrError: If a value is NaN or infinite.
    """
    luma, *chroma = out.planes
    pair = (chroma[0], chroma[1]) if chroma else None
    scale, peak = sample_scale(out.bit_depth), float((1 << out.bit_depth) - 1)
    values = np.ascontiguousarray(values)
    if not _kernels.write_window(values, tile.place, tile.written, scale, peak, luma, pair, portable):
        raise VvcNnrError("the network's output is not finite: its weights are damaged or overflow")
