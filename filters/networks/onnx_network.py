"""An ONNX model as a torch module: its weights are the module's, its graph is run by ONNX Runtime."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.errors import InputError, UnsupportedError
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.model.onnx import import_onnx, put_together

_ERRORS_ONLY = 3
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "PRelu", "LSTM", "GRU", "RNN")
_NORMS = ("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization")


class OnnxNetwork(nn.Module):
    """A network that is a graph and its constants.

    Args:
        graph: The model without its constants, serialised, as `vvc_nnr.model.onnx` takes it apart.
        arrays: The constants by name.

    Raises:
        InputError: If the package onnx or onnxruntime is not installed.
        BitstreamError: If the constants do not fit the graph.
        UnsupportedError: If ONNX Runtime cannot run the graph, or a name cannot be a module's.
    """

    layout: Layout
    """How pictures go into it, where that has been said."""

    def __init__(self, graph: bytes, arrays: NamedArrays) -> None:
        super().__init__()
        self.graph = graph
        self._run: tuple[tuple[int, ...], Any] | None = None
        self._fixed: NamedArrays = {}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray) or array.dtype != np.float32:
                self._fixed[name] = array
                continue
            try:
                self._hold(name, torch.from_numpy(array.copy()))
            except (KeyError, AttributeError) as error:
                raise UnsupportedError(
                    f"constant {name[:80]!r} of the ONNX model cannot be a module's: {error}"
                ) from error
        self._runtime()

    @property
    def input_sides(self) -> tuple[int, int] | None:
        """Height and width of its input if they are fixed."""
        height, width = self._runtime().get_inputs()[0].shape[2:]
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

    @property
    def batch_size(self) -> int | None:
        """How many pictures its input must have if that is fixed."""
        first = self._runtime().get_inputs()[0].shape[:1]
        return first[0] if first and isinstance(first[0], int) else None

    @property
    def input_shapes(self) -> str:
        """Names and shapes of its inputs, in words."""
        return ", ".join(f"{each.name} {each.shape}" for each in self._runtime().get_inputs())

    @property
    def n_parameters(self) -> int:
        """Values that layers (convolutions, products, norms, recurrent ones) have; constants of others do not count."""
        graph = import_onnx().load_from_string(self.model()).graph
        sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
        taken = {name for node in graph.node if node.op_type in _LAYERS + _NORMS for name in node.input[1:]}
        return sum(size for name, size in sizes.items() if name in taken)

    def model(self) -> bytes:
        """The model with the weights as they are, serialised."""
        own = {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}
        data: bytes = put_together(self.graph, {**self._fixed, **own}).SerializeToString()
        return data

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the graph gives first, for its inputs in order; without gradients."""
        runtime = self._runtime()
        values = feeds(runtime.get_inputs(), [each.detach().cpu().numpy() for each in inputs])
        return torch.from_numpy(runtime.run(None, values)[0])

    def _hold(self, name: str, values: Tensor) -> None:
        """Makes a constant a parameter of that name, whose dots are submodules."""
        *folders, last = name.split(".")
        place: nn.Module = self
        for folder in folders:
            if folder not in dict(place.named_children()):
                place.add_module(folder, nn.Module())
            place = place.get_submodule(folder)
        place.register_parameter(last, nn.Parameter(values))

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_run": None}

    def _runtime(self) -> Any:
        """Made anew when a weight has changed."""
        versions = tuple(parameter._version for parameter in self.parameters())
        if self._run is None or self._run[0] != versions:
            self._run = versions, onnx_runtime(self.model())
        return self._run[1]


def onnx_runtime(model: bytes) -> Any:
    """ONNX Runtime on the processor for a serialised model, one thread for each call.

    Raises:
        InputError: If the package is not installed.
        UnsupportedError: If it cannot run the model.
    """
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError:
        raise InputError("ONNX networks need the package onnxruntime: pip install 'vvc-nnr[onnxruntime]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds, by the version of it
        raise UnsupportedError(f"ONNX Runtime cannot run the model: {' '.join(str(error).split())[:300]}") from error


def feeds(inputs: Any, values: list[np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """The values by the names of a graph's inputs; one number takes the shape that the graph gives it."""
    if len(inputs) != len(values):
        raise InputError(f"the ONNX model has {len(inputs)} inputs, the layout gives it {len(values)}")
    return {
        each.name: value if value.ndim > 1 else value.reshape([1] * len(each.shape))
        for each, value in zip(inputs, values, strict=True)
    }
