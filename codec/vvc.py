"""VVC in three names: `VvcEncoder` and `VvcOptions` code pictures, `decode_vvc` decodes a stream."""

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.libvvenc import EncodedSequence, LoopFilters, Preset, Sao, VvcEncoder, VvcOptions, encoder_version

__all__ = [
    "EncodedSequence",
    "LoopFilters",
    "Preset",
    "Sao",
    "VvcEncoder",
    "VvcOptions",
    "decode_vvc",
    "encoder_version",
]
