"""Compress the CNNs inside video and image codecs, and see what that does to pictures."""

from vvc_nnr.calibrate.samples import Calibration, Sample
from vvc_nnr.coding.inspection import Inspection
from vvc_nnr.coding.update import BaseState, UpdateContexts, compress_update
from vvc_nnr.compress import (
    apply_update,
    compress,
    decompress,
    decompress_onnx,
    inspect,
    load_file,
    load_into,
    save_file,
)
from vvc_nnr.errors import (
    BitstreamError,
    ExternalToolError,
    InputError,
    OutputError,
    ShapeError,
    UnsupportedError,
    VvcNnrError,
)
from vvc_nnr.model.torch_norms import fold_batch_norms
from vvc_nnr.options import CompressOptions

__version__ = "0.1.0"

__all__ = [
    "BaseState",
    "BitstreamError",
    "Calibration",
    "CompressOptions",
    "ExternalToolError",
    "InputError",
    "Inspection",
    "OutputError",
    "Sample",
    "ShapeError",
    "UnsupportedError",
    "UpdateContexts",
    "VvcNnrError",
    "__version__",
    "apply_update",
    "compress",
    "compress_update",
    "decompress",
    "decompress_onnx",
    "fold_batch_norms",
    "inspect",
    "load_file",
    "load_into",
    "save_file",
]
