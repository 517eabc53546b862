"""The checked door to the kernels that read a window of a picture as planes, and write planes as samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import UnsupportedError, VvcNnrError
from vvc_nnr.filters import _kernels
from vvc_nnr.filters.networks.packing import sample_scale
from vvc_nnr.filters.tiles import Rectangle, Tile
from vvc_nnr.sequences.frame import Frame


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
