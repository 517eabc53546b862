"""What a filter adds to a decoded picture, before any rounding: the encoder weighs it block by block."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import VvcNnrError
from vvc_nnr.filters.inference.runner import DEFAULT_TILE, Runner, check_qp
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.packing import pack, sample_scale, unpacked_planes
from vvc_nnr.sequences.frame import Frame

Correction: TypeAlias = tuple[NDArray[np.float32], ...]
"""One plane (height, width) per component of a picture, in its sample values: filtered minus decoded."""


def correction_of(
    network: InLoopNetwork, frame: Frame, qp: int, *, tile: int | None = DEFAULT_TILE, device: str = "cpu"
) -> Correction:
    """The network's correction of a picture, real-valued, in the size and chroma format of the picture.

    Args:
        network: The filter.
        frame: A decoded 4:2:0 or 4:0:0 picture of 8 to 16 bit, any size.
        qp: The QP that it was coded with, 0 to 63.
        tile: Side of the tiles in luma samples, None for the whole picture at once.
        device: Where to compute: "cpu", "cuda" or "auto".

    Raises:
        UnsupportedError: For 4:2:2 and 4:4:4.
        InputError: If the QP or the tile is out of range, or the device is not there.
        VvcNnrError: If the network gives NaN or infinity.
    """
    return correction_by(Runner(network, backend="torch", tile=tile, device=device), frame, qp)


def correction_by(runner: Runner, frame: Frame, qp: int) -> Correction:
    """The correction of a picture by a network that was made ready; else as `correction_of`."""
    check_qp(qp)
    scale = sample_scale(frame.bit_depth)
    packed = pack(frame)
    correction = np.empty(packed.shape, np.float32)
    for window, values in runner.filter_planes(packed, scale, qp):
        np.subtract(values * np.float32(scale), packed[:, *window], out=correction[:, *window])
    if not np.isfinite(correction).all():
        raise VvcNnrError("the network's output is not finite: its weights are damaged or overflow")
    return unpacked_planes(correction, frame.format().plane_shapes)
