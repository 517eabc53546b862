"""A 4:2:0 picture as six planes of half size: the four luma phases, Cb and Cr.

```
 Y: a b a b      a a   b b   c c   d d   Cb Cb   Cr Cr
    c d c d  ->  a a   b b   c c   d d   Cb Cb   Cr Cr
```
All networks of this package see pictures in this form; nothing is lost and every convolution costs a quarter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.errors import UnsupportedError
from vvc_nnr.sequences.frame import Frame, Plane

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
    planes = unpacked_planes(packed, like.format().plane_shapes)
    samples = (cast(Plane, p.astype(like.planes[0].dtype)) for p in planes)
    return Frame(tuple(samples), like.bit_depth, like.chroma_format)


def unpacked_planes(packed: NDArray[_Sample], shapes: Sequence[tuple[int, int]]) -> tuple[NDArray[_Sample], ...]:
    """Six planes of half size as planes of the given shapes (height, width): Y, or Y, Cb and Cr."""
    _, height, width = packed.shape
    luma = np.empty((2 * height, 2 * width), packed.dtype)
    for phase in range(N_LUMA_PLANES):
        luma[phase // 2 :: 2, phase % 2 :: 2] = packed[phase]
    return tuple(p[:h, :w] for p, (h, w) in zip((luma, *packed[N_LUMA_PLANES:]), shapes, strict=False))
