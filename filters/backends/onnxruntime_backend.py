"""ONNX Runtime on the processor (extra `onnxruntime`)."""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vvc_nnr.filters.backends.onnx_graph import INPUTS, to_onnx
from vvc_nnr.filters.networks.in_loop import InLoopNetwork

ERRORS_ONLY = 3


class OnnxRuntimeBackend:
    """One thread for each call, `n_threads` calls at a time, in float32.

    Args:
        network: The filter.
        n_threads: How many calls may run at a time.
    """

    def __init__(self, network: InLoopNetwork, n_threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        self._model = onnxruntime.InferenceSession(to_onnx(network), options, providers=["CPUExecutionProvider"])
        self.n_parallel = n_threads
        self.description = f"onnxruntime {onnxruntime.__version__}"

    def run(self, planes: NDArray[np.float32], qp: float) -> NDArray[np.float32]:
        """See `Backend`."""
        values = (planes[None], np.array([qp], np.float32))
        output: NDArray[np.float32] = self._model.run(None, dict(zip(INPUTS, values, strict=True)))[0][0]
        return output
