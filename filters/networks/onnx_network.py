"""An ONNX model as a torch module: its weights are the module's, its graph is run by ONNX Runtime."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.errors import InputError, UnsupportedError
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.model.onnx import put_together
from vvc_nnr.model.onnx_proto import import_onnx

_ERRORS_ONLY = 3
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "PRelu", "LSTM", "GRU", "RNN")
_NORMS = ("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization")


_Values = TypeVar("_Values", np.ndarray[Any, Any], Tensor)
_PLANES, _QP = "planes", "qp"
_N_AXES = 4
FLOAT32 = "float"
"""A number format of ONNX, as ONNX Runtime calls it; others are float16, double, int64 ..."""


@dataclass(frozen=True, slots=True)
class GraphInput:
    """An input of a graph.

    Attributes:
        name: Its name.
        shape: Each axis has its length, or a name or None where any goes; without axes it is not known.
        number_format: Such as FLOAT32.
    """

    name: str
    shape: tuple[int | str | None, ...]
    number_format: str = FLOAT32


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
    graph_inputs: tuple[GraphInput, ...]
    """What the graph takes, in its order."""

    def __init__(self, graph: bytes, arrays: NamedArrays) -> None:
        super().__init__()
        self.graph = graph
        self.graph_inputs = ()
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
        self.graph_inputs = graph_inputs(self._runtime())

    def planes_input(self, n_planes: int) -> GraphInput:
        """The input that takes planes (N, n_planes, H, W); raises as `planes_place`."""
        return self.graph_inputs[planes_place(self.graph_inputs, n_planes)]

    @property
    def input_shapes(self) -> str:
        """Names and shapes of its inputs, in words."""
        return _in_words(self.graph_inputs)

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
        """What the graph gives first for planes (N, C, H, W) and, if it takes that, QPs (N,); without gradients."""
        values = feeds(self.graph_inputs, [each.detach().cpu().numpy() for each in inputs])
        return torch.from_numpy(self._runtime().run(None, values)[0])

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


def graph_inputs(runtime: Any) -> tuple[GraphInput, ...]:
    """What a graph takes, as ONNX Runtime says it."""
    return tuple(
        GraphInput(each.name, tuple(each.shape), each.type.removeprefix("tensor(").removesuffix(")"))
        for each in runtime.get_inputs()
    )


def planes_place(inputs: Sequence[GraphInput], n_planes: int) -> int:
    """Which of a graph's inputs takes planes (N, n_planes, H, W); the other one, if there is one, takes the QP.

    It is the one whose shape fits: four axes, the second of that length or of any. Of two that fit, an input of one
    value is the QP's; else the names "planes" and "qp" decide.

    Raises:
        InputError: If none fits, or the names do not tell which one of two.
    """
    fitting = [place for place, each in enumerate(inputs) if _takes_planes(each.shape, n_planes)]
    if len(fitting) > 1:
        several = [place for place in fitting if inputs[place].shape[1:] != (1, 1, 1)]
        named = [place for place in several if inputs[place].name == _PLANES]
        fitting = named or [place for place in several if inputs[place].name != _QP]
    if len(fitting) == 1:
        return fitting[0]
    if len(inputs) == 1 and not inputs[0].shape:
        return 0
    wanted = f"(N, {n_planes}, H, W)"
    if not fitting:
        raise InputError(f"no input of the ONNX model takes planes {wanted}: it takes {_in_words(inputs)}")
    raise InputError(
        f"{len(fitting)} inputs of the ONNX model could take planes {wanted}: it takes {_in_words(inputs)}; call them "
        f"{_PLANES!r} and {_QP!r}, or give the QP's the shape (N,)"
    )


def _takes_planes(shape: tuple[int | str | None, ...], n_planes: int) -> bool:
    return len(shape) == _N_AXES and (shape[1] == n_planes or not isinstance(shape[1], int))


def _in_words(inputs: Sequence[GraphInput]) -> str:
    return ", ".join(f"{each.name} {list(each.shape)}" for each in inputs) or "no input"


def feeds(inputs: Sequence[GraphInput], values: Sequence[_Values]) -> dict[str, _Values]:
    """Planes (N, C, H, W) and, if there are two, QPs (N,) by the names of a graph's inputs.

    The QPs take as many axes as the graph gives them.

    Raises:
        InputError: If it has another number of inputs, or as `planes_place`.
    """
    if len(inputs) != len(values):
        raise InputError(f"the ONNX model has {len(inputs)} inputs, the layout gives it {len(values)}")
    place: int = planes_place(inputs, values[0].shape[1]) if len(inputs) > 1 else 0
    found = {inputs[place].name: values[0]}
    others: list[GraphInput] = [*inputs[:place], *inputs[place + 1 :]]
    for number, value in enumerate(values[1:]):
        n_axes: int = len(others[number].shape)
        found[others[number].name] = value.reshape((-1, *(1,) * (n_axes - 1)) if n_axes else ())
    return found
