"""Tiles of a picture: what each writes, and what it has to read for that. All of a picture read the same size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from vvc_nnr.errors import InputError

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
