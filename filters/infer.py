"""Running a filter by torch over one picture of any size: whole, or in overlapping tiles that give the same output."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.runner import DEFAULT_TILE, Runner
from vvc_nnr.sequences.frame import Frame


def filter_frame(
    network: InLoopNetwork, frame: Frame, qp: int, *, tile: int | None = DEFAULT_TILE, device: str = "cpu"
) -> Frame:
    """The filtered picture, in the size, depth and chroma format of the input; for many pictures see `Runner`.

    Args:
        network: The filter.
        frame: A decoded 4:2:0 or 4:0:0 picture of 8 to 16 bit, any size.
        qp: The QP that it was coded with, 0 to 63.
        tile: Side of the tiles in luma samples, None for the whole picture at once. Memory grows with the tile, not
            with the picture; the output is the same up to float rounding.
        device: Where to compute: "cpu", "cuda" or "auto".

    Raises:
        UnsupportedError: For 4:2:2 and 4:4:4.
        InputError: If the QP or the tile is out of range, or the device is not there.
        VvcNnrError: If the network gives NaN or infinity.
    """
    return Runner(network, backend="torch", tile=tile, device=device).filter_frame(frame, qp)


def filter_planes(
    network: InLoopNetwork,
    packed: NDArray[np.uint16],
    scale: float,
    qp: int,
    *,
    tile: int | None = DEFAULT_TILE,
    device: str = "cpu",
) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float32]]]:
    """The network's real-valued output tile by tile.

    Args:
        network: The filter.
        packed: A picture from `packing.pack`, (6, H, W).
        scale: The sample value that the network sees as 1.
        qp: The picture's QP.
        tile: Side of a tile in luma samples, None for one tile.
        device: Where to compute.

    Returns:
        The tile's rows and columns, and the values (6, h, w) there, about 0..1.
    """
    return Runner(network, backend="torch", tile=tile, device=device).filter_planes(packed, scale, qp)
