"""Running a filter over pictures of any size: whole, or in overlapping tiles that give the same output."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.filters.inloop import InLoopFilter
from vvc_nnr.filters.packing import pack, sample_scale, unpack
from vvc_nnr.filters.train import choose_device
from vvc_nnr.sequences.frame import Frame

DEFAULT_TILE = 512


def filter_frame(
    network: InLoopFilter, frame: Frame, qp: int, *, tile: int | None = DEFAULT_TILE, device: str = "cpu"
) -> Frame:
    """The filtered picture, in the size, depth and chroma format of the input.

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
    if not 0 <= qp <= 63:
        raise InputError(f"QP {qp}: must be 0 to 63")
    peak = (1 << frame.bit_depth) - 1
    scale = sample_scale(frame.bit_depth)
    packed = pack(frame)
    filtered = np.empty_like(packed)
    for window, values in filter_planes(network, packed, scale, qp, tile=tile, device=device):
        if not np.isfinite(values).all():
            raise VvcNnrError("the network's output is not finite: its weights are damaged or overflow")
        filtered[:, *window] = np.clip(np.rint(values * scale), 0, peak)
    return unpack(filtered, frame)


def filter_planes(
    network: InLoopFilter,
    packed: NDArray[np.uint16],
    scale: float,
    qp: int,
    *,
    tile: int | None = DEFAULT_TILE,
    device: str = "cpu",
) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float32]]]:
    """Yields the network's real-valued output tile by tile.

    Args:
        network: The filter.
        packed: A picture from `packing.pack`, (6, H, W).
        scale: The sample value that the network sees as 1.
        qp: The picture's QP.
        tile: Side of a tile in luma samples, None for one tile.
        device: Where to compute.

    Yields:
        The tile's rows and columns, and the values (6, h, w) there, about 0..1.
    """
    _, height, width = packed.shape
    side = max(height, width) if tile is None else _half_tile(tile)
    radius = network.receptive_radius
    network.eval().to(choose_device(device))
    for top in range(0, height, side):
        for left in range(0, width, side):
            rows, rows_read = _span(top, side, height, radius)
            columns, columns_read = _span(left, side, width, radius)
            values = _run(network, packed[:, rows_read, columns_read], scale, qp)
            inner = _inside(rows, rows_read), _inside(columns, columns_read)
            yield (rows, columns), values[:, *inner]


def _half_tile(tile: int) -> int:
    if tile < 16:
        raise InputError(f"tile of {tile} luma samples: must be at least 16")
    return tile // 2


def _span(begin: int, side: int, size: int, radius: int) -> tuple[slice, slice]:
    """What a tile writes and what it has to read, cut off at the picture's border."""
    end = min(begin + side, size)
    return slice(begin, end), slice(max(0, begin - radius), min(size, end + radius))


def _inside(written: slice, read: slice) -> slice:
    return slice(written.start - read.start, written.stop - read.start)


def _run(network: InLoopFilter, packed: NDArray[np.uint16], scale: float, qp: int) -> NDArray[np.float32]:
    device = network.head.weight.device
    planes = torch.from_numpy(packed.astype(np.float32)).to(device)[None] / scale
    planes = planes.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        output = network(planes, torch.tensor([float(qp)], device=device))
    return np.ascontiguousarray(output[0].float().cpu().numpy())
