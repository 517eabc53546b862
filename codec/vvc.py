"""VVC in a few names: `VvcEncoder` codes pictures, `decode_vvc` decodes a stream.

The code is in `encoders`, `sequence` and `decoder`; what is imported inside this package comes from there.
"""

from __future__ import annotations

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import EncoderName, VvcEncoder
from vvc_nnr.codec.sequence import CodedPicture, EncodedSequence, LoopFilters, Preset, Sao, VvcOptions

__all__ = [
    "CodedPicture",
    "EncodedSequence",
    "EncoderName",
    "LoopFilters",
    "Preset",
    "Sao",
    "VvcEncoder",
    "VvcOptions",
    "decode_vvc",
]
