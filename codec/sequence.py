"""What every VVC encoder here is given: 10-bit 4:2:0 pictures with even sides of at least 16."""

from __future__ import annotations

import numpy as np

from vvc_nnr.errors import InputError, UnsupportedError
from vvc_nnr.sequences.frame import Frame, VideoFormat

CODED_BIT_DEPTH = 10
MIN_SIDE = 16


def check_encodable(frame: Frame, source: VideoFormat) -> None:
    """Checks one picture of a sequence before it is encoded.

    Raises:
        InputError: If its format is not that of the sequence.
        UnsupportedError: For 4:2:2, 4:4:4 and more than 10 bit.
    """
    if source.holding(frame) != source:
        raise InputError(f"pictures differ in format: {source.holding(frame)} after {source}")
    if source.chroma_format not in ("400", "420"):
        named = ":".join(source.chroma_format)
        raise UnsupportedError(f"the encoder takes 4:0:0 and 4:2:0, got {named}")
    if source.bit_depth > CODED_BIT_DEPTH:
        raise UnsupportedError(f"the encoder takes at most {CODED_BIT_DEPTH} bit, got {source.bit_depth} bit")


def coded_picture(frame: Frame) -> Frame:
    """The picture as the encoder gets it; 4:0:0 gets flat chroma, small and odd sizes are padded."""
    frame = frame.to_bit_depth(CODED_BIT_DEPTH)
    if frame.chroma_format == "400":
        shape = (-(-frame.height // 2), -(-frame.width // 2))
        flat = np.full(shape, 1 << (CODED_BIT_DEPTH - 1), np.uint16)
        frame = Frame((frame.planes[0], flat, flat), CODED_BIT_DEPTH, "420")
    width, height = (max(MIN_SIDE, side + side % 2) for side in (frame.width, frame.height))
    return frame.padded(width, height)
