"""Compress the CNNs inside video and image codecs, and see what that does to pictures."""

from vvc_nnr.errors import (
    BitstreamError,
    ExternalToolError,
    InputError,
    ShapeError,
    UnsupportedError,
    VvcNnrError,
)

__version__ = "0.1.0"

__all__ = [
    "BitstreamError",
    "ExternalToolError",
    "InputError",
    "ShapeError",
    "UnsupportedError",
    "VvcNnrError",
    "__version__",
]
