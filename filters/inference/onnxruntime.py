"""ONNX Runtime on the processor (extra `onnxruntime`)."""

from __future__ import annotations

import importlib
import io
import warnings
from importlib.util import find_spec
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vvc_nnr.errors import InputError, UnsupportedError
from vvc_nnr.filters.networks.foreign import own_copy
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.onnx_network import OnnxNetwork, feeds, graph_inputs, onnx_runtime
from vvc_nnr.filters.zoo import build_network
from vvc_nnr.network_file import NetworkArrays, stored_network

INPUTS = ("planes", "qp")
OPSET = 17
_EXAMPLE_SIDES = (16, 24)
_exporting = Lock()
"""torch's exporter and Python's filters of warnings are one for all threads."""


def to_onnx(network: nn.Module, layout: Layout) -> bytes:
    """The network with inputs `planes` (1, C, H, W) and, where the layout has it, `qp` (1,), float32, for any H and W.

    A network that is an ONNX model is given as it is. The package `onnx` has to be there. A network in bfloat16 is no
    part of this: each runtime lowers the precision itself.

    The graph is that of one run, on an example. So a forward that decides in Python by what it is given, such as by the
    size or the QP, is none of the same network.

    Raises:
        UnsupportedError: If it does so.
    """
    if isinstance(network, OnnxNetwork):
        return network.model()
    own = own_copy(network, "cpu", torch.float32)
    height, width = layout.patch or (layout.align * -(-side // layout.align) for side in _EXAMPLE_SIDES)
    margin = 0 if layout.patch else 2 * layout.overlap
    planes = torch.zeros(1, layout.n_inputs, height + margin, width + margin)
    example = (planes, torch.tensor([32.0])) if layout.qp == "scalar" else (planes,)
    sides = {2: "height", 3: "width"}
    returned = {2: "filtered_height", 3: "filtered_width"} if layout.overlap else sides
    file = io.BytesIO()
    with _exporting, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("ignore")  # torch's newer exporter needs one more package for the same graph
        warnings.simplefilter("always", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        torch.onnx.export(
            own,
            example,
            file,  # type: ignore[arg-type]  # this exporter takes streams too
            input_names=list(INPUTS[: len(example)]),
            output_names=["filtered"],
            dynamic_axes=None if layout.patch else {"planes": sides, "filtered": returned},
            opset_version=OPSET,
            dynamo=False,
        )
    if told:
        what = str(told[0].message).partition(" might ")[0]
        raise UnsupportedError(f"forward decides in Python by what it is given, which a graph would not: {what}")
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
    return to_onnx(built, built.layout)


class OnnxRuntimeBackend:
    """One thread for each call, `n_threads` calls at a time, in float32.

    Args:
        network: The filter.
        layout: How pictures go into it.
        n_threads: How many calls may run at a time.
    """

    def __init__(self, network: nn.Module, layout: Layout, n_threads: int = 1) -> None:
        self._model = onnx_runtime(to_onnx(network, layout))
        self._inputs = graph_inputs(self._model)
        self.n_parallel = n_threads
        self.description = f"onnxruntime {importlib.import_module('onnxruntime').__version__}"

    def run(self, planes: NDArray[np.float32], qp: float | None) -> NDArray[np.float32]:
        """The network's output (C', H', W') for planes (C, H, W), not clipped."""
        values = [planes[None]] if qp is None else [planes[None], np.array([qp], np.float32)]
        output: NDArray[np.float32] = self._model.run(None, feeds(self._inputs, values))[0][0]
        return output
