"""ONNX Runtime on the processor (extra `onnxruntime`)."""

from __future__ import annotations

import importlib
import io
import warnings
from copy import deepcopy
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from vvc_nnr.errors import InputError
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.packing import N_PLANES
from vvc_nnr.filters.zoo import build_network
from vvc_nnr.network_file import NetworkArrays, stored_network

INPUTS = ("planes", "qp")
OPSET = 17


def to_onnx(network: InLoopNetwork) -> bytes:
    """The network with inputs `planes` (1, 6, H, W) and `qp` (1,), both float32, for any H and W.

    The package `onnx` has to be there. A network in bfloat16 is no part of this: each runtime lowers the precision
    itself.
    """
    own = deepcopy(network).cpu().float().eval()
    example = (torch.zeros(1, N_PLANES, 16, 24), torch.tensor([32.0]))
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's newer exporter needs one more package for the same graph
        torch.onnx.export(
            own,
            example,
            file,  # type: ignore[arg-type]  # this exporter takes streams too
            input_names=list(INPUTS),
            output_names=["filtered"],
            dynamic_axes={"planes": {2: "height", 3: "width"}, "filtered": {2: "height", 3: "width"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return file.getvalue()


def onnx_of_arrays(network: NetworkArrays, where: str) -> bytes:
    """An in-loop filter of this package as an ONNX model, as `to_onnx` makes it.

    Args:
        network: What its file holds.
        where: How errors name the file.

    Raises:
        InputError: If it is no in-loop filter, or the package onnx is not installed.
        UnsupportedError: If it holds a value beyond float32.
    """
    if find_spec("onnx") is None:
        raise InputError(f"{where}: ONNX models need the package onnx; pip install 'vvc-nnr[onnx]'")
    built = build_network(stored_network(network, where), where)
    if not isinstance(built, InLoopNetwork):
        raise InputError(
            f"{where}: holds an autoencoder, two networks in one; an ONNX model is made of in-loop filters"
        )
    return to_onnx(built)


ERRORS_ONLY = 3


class OnnxRuntimeBackend:
    """One thread for each call, `n_threads` calls at a time, in float32.

    Args:
        network: The filter.
        n_threads: How many calls may run at a time.
    """

    def __init__(self, network: InLoopNetwork, n_threads: int = 1) -> None:
        onnxruntime = importlib.import_module("onnxruntime")  # not at the top: `to_onnx` does without it
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        self._model = onnxruntime.InferenceSession(to_onnx(network), options, providers=["CPUExecutionProvider"])
        self.n_parallel = n_threads
        self.description = f"onnxruntime {onnxruntime.__version__}"

    def run(self, planes: NDArray[np.float32], qp: float) -> NDArray[np.float32]:
        """The network's output (6, H, W), not clipped, for planes (6, H, W) of 0..1 coded with a QP."""
        values = (planes[None], np.array([qp], np.float32))
        output: NDArray[np.float32] = self._model.run(None, dict(zip(INPUTS, values, strict=True)))[0][0]
        return output
