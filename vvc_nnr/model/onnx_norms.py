"""Batch norms of an ONNX model folded into the layers before them.

The graph travels with its tensors, so the norms leave it, and their four tensors with them:

    y = gamma * (w * x + b - mean) / sqrt(var + eps) + beta = (gain * w) * x + (gain * (b - mean) + beta)

Left as they are: norms in training mode; those of branches, loops and functions; those whose layer's output or weight
something else uses; those with a tensor that is computed, or that a caller may replace; and those whose folded values
are not finite in their number format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.number_formats import Array, FloatBits
from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.model.onnx import OnnxModel, put_together, take_apart
from vvc_nnr.model.onnx_constants import constant_array, constants, element_type
from vvc_nnr.model.onnx_proto import check_texts, import_onnx

DEFAULT_DOMAINS = ("", "ai.onnx")
# Before it every initialiser is an input too, which no caller can replace. From it on those that are can be replaced.
_IR_VERSION_OF_CONSTANTS = 4
_FLOATS = ("FLOAT16", "FLOAT", "DOUBLE")

Values: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class EditedGraph:
    """The main graph of a model.

    Attributes:
        model: The `ModelProto`, changed in place.
        fixed: `TensorProto` of each constant of floats that nobody can replace.
        producers: Place of the node that each result comes from.
        n_uses: How often each name is an input of a node or an output of a graph, here and in subgraphs.
        names: All names.
    """

    model: Any
    fixed: dict[str, Any]
    producers: dict[str, int]
    n_uses: Counter[str]
    names: set[str]

    def values(self, name: str) -> Values:
        """The values of a fixed tensor.

        Raises:
            InputError: If they are in another file and were not loaded.
            BitstreamError: If they do not fit its type and shape.
        """
        tensor = self.fixed[name]
        if tensor.data_location == import_onnx().TensorProto.EXTERNAL:
            raise InputError(f"tensor {name!r} has its values in another file: load them before")
        with np.errstate(invalid="ignore"):  # a NaN may be a signalling one
            return np.asarray(constant_array(name, tensor), np.float64)

    def number_format(self, name: str) -> np.dtype[Any]:
        """That of a fixed tensor."""
        return element_type(name, self.fixed[name])

    def store(self, name: str, array: Array) -> None:
        """Gives a fixed tensor other values."""
        tensor = self.fixed[name]
        tensor.CopyFrom(import_onnx().numpy_helper.from_array(array, tensor.name))

    def add(self, name: str, array: Array) -> str:
        """Adds a constant by that name, or by a similar one if it is taken; which."""
        onnx = import_onnx()
        while name in self.names:
            name += "_"
        tensor = onnx.numpy_helper.from_array(array, name)
        self.model.graph.initializer.append(tensor)
        if self.model.ir_version < _IR_VERSION_OF_CONSTANTS:
            entry = onnx.helper.make_tensor_value_info(name, tensor.data_type, array.shape)
            self.model.graph.input.append(entry)
        self.fixed[name] = self.model.graph.initializer[-1]
        self.names.add(name)
        return name

    def remove(self, places: Iterable[int], freed: Iterable[str]) -> None:
        """Takes nodes out, and those fixed tensors and notes on results that nothing uses any more.

        Args:
            places: Of the nodes.
            freed: Names that the graph may no longer use.
        """
        unused = {name for name in freed if not self.n_uses[name]}
        gone = {*places, *(self.producers[name] for name in unused & self.fixed.keys() & self.producers.keys())}
        graph = self.model.graph
        _remove(graph.node, [place in gone for place in range(len(graph.node))])
        for entries in (graph.initializer, graph.input, graph.value_info):
            _remove(entries, [entry.name in unused for entry in entries])


def edited(model: Any) -> EditedGraph:
    """The main graph of a `ModelProto`."""
    data_types = {import_onnx().TensorProto.DataType.Value(each) for each in _FLOATS}
    inputs = {entry.name for entry in model.graph.input}
    is_old = model.ir_version < _IR_VERSION_OF_CONSTANTS
    found = {
        each.name: each.tensor for each in constants(model) if not each.path and (is_old or each.name not in inputs)
    }
    n_uses: Counter[str] = Counter()
    names: set[str] = set()
    for graph in _with_subgraphs(model.graph):
        names.update(entry.name for entry in (*graph.input, *graph.initializer))
        n_uses.update(entry.name for entry in graph.output)
        for node in graph.node:
            n_uses.update(node.input)
            names.update(node.output)
    producers = {name: place for place, node in enumerate(model.graph.node) for name in node.output}
    fixed = {name: tensor for name, tensor in found.items() if tensor.data_type in data_types}
    return EditedGraph(model, fixed, producers, n_uses, names | n_uses.keys())


def attribute_of(node: Any, name: str, default: Any) -> Any:
    """The value of a node's attribute, a number.

    Raises:
        BitstreamError: If it is no number of the default's type.
    """
    found = next((each for each in node.attribute if each.name == name), None)
    if found is None:
        return default
    value = import_onnx().helper.get_attribute_value(found)
    if type(value) is not type(default):
        raise BitstreamError(f"attribute {name!r} of a {node.op_type} is no {type(default).__name__}", field="graph")
    return value


def _with_subgraphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else []
            for subgraph in (*inner, *attribute.graphs):
                yield from _with_subgraphs(subgraph)


def _remove(entries: Any, is_gone: list[bool]) -> None:
    for place in reversed(range(len(is_gone))):
        if is_gone[place]:
            del entries[place]


_LAYERS = ("Conv", "ConvTranspose", "Gemm")
# Before it the attribute is_test tells what a norm does.
_OPSET_WITHOUT_IS_TEST = 7


def fold_onnx(model: Any) -> Any:
    """A copy of a `ModelProto` whose batch norms are folded as far as they directly follow a layer of fixed weights.

    Raises:
        InputError: If the values of a tensor are in another file and were not loaded.
        BitstreamError: If a tensor is damaged, a name is no UTF-8, or a norm has not the channels of its layer.
    """
    check_texts(model)
    folded = import_onnx().ModelProto()
    folded.CopyFrom(model)
    _fold_all(folded)
    return folded


def fold_arrays(graph: bytes, arrays: Mapping[str, Array | FloatBits], n_bytes: int) -> OnnxModel:
    """A model that was taken apart, folded.

    Args:
        graph: The model without its tensors, serialised.
        arrays: The tensors.
        n_bytes: Size of the file that they are from.

    Raises:
        InputError: If no norm can be folded, or the package onnx is not installed.
        BitstreamError: If the tensors do not fit the graph, or a norm not its layer.
    """
    model = put_together(graph, arrays)
    if not _fold_all(model):
        raise InputError("no batch norm can be folded: none alone uses a Conv, ConvTranspose or Gemm of fixed weights")
    return take_apart(model, n_bytes)


def _fold_all(model: Any) -> int:
    """Folds in place; how many norms went."""
    graph = edited(model)
    gone: list[int] = []
    freed: set[str] = set()
    for place, node in enumerate(model.graph.node):
        layer = _layer_of(graph, node) if _is_norm(model, node) else None
        used = [] if layer is None else [*layer.input, *node.input]
        if layer is not None and _fold(graph, layer, node):
            gone.append(place)
            freed.update(used)
    graph.remove(gone, freed)
    return len(gone)


def _is_norm(model: Any, node: Any) -> bool:
    """Whether a node is a batch norm in inference mode, in any version of the operator."""
    if node.op_type != "BatchNormalization" or node.domain not in DEFAULT_DOMAINS:
        return False
    if len(node.input) != 5 or not any(node.output[:1]):
        return False
    opset = next((entry.version for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS), 1)
    is_training = attribute_of(node, "training_mode", 0) or any(node.output[1:])
    is_tested = opset >= _OPSET_WITHOUT_IS_TEST or attribute_of(node, "is_test", 0)
    return bool(is_tested and not is_training and attribute_of(node, "spatial", 1))


def _layer_of(graph: EditedGraph, norm: Any) -> Any:
    """The layer that a norm can be folded into, None if there is none."""
    place = graph.producers.get(norm.input[0])
    layer = None if place is None else graph.model.graph.node[place]
    if layer is None or layer.op_type not in _LAYERS or layer.domain not in DEFAULT_DOMAINS:
        return None
    used = [*layer.input[1:2], *filter(None, layer.input[2:3]), *norm.input[1:]]
    is_alone = all(graph.n_uses[name] == 1 for name in (norm.input[0], *layer.input[1:2]))
    return layer if len(layer.input) > 1 and is_alone and all(name in graph.fixed for name in used) else None


def _fold(graph: EditedGraph, layer: Any, norm: Any) -> bool:
    """Gives a layer the weight, bias and output of the norm behind it, if the values are finite."""
    gain, mean, shift = _affine(graph, norm)
    weight, bias = graph.values(layer.input[1]), _bias(graph, layer)
    n_outputs = _n_outputs(layer, weight.shape)
    if gain.shape != (n_outputs,) or bias.shape[-1:] not in ((), (1,), gain.shape):
        raise BitstreamError(f"batch norm {norm.output[0]!r} has not the {n_outputs} channels of the layer before it")
    number_format = graph.number_format(layer.input[1])
    with np.errstate(all="ignore"):
        weight = (weight * _over_outputs(layer, gain, weight.shape)).astype(number_format)
        bias = ((bias - mean) * gain + shift).astype(number_format)
    if not np.isfinite(weight).all() or not np.isfinite(bias).all():
        return False
    graph.store(layer.input[1], weight)
    _store_bias(graph, layer, bias)
    graph.producers[norm.output[0]] = graph.producers[norm.input[0]]
    graph.n_uses.subtract(norm.input)
    layer.output[0] = norm.output[0]
    return True


def _affine(graph: EditedGraph, norm: Any) -> tuple[Values, Values, Values]:
    """Gain, mean and shift of a norm, (x - mean) * gain + shift, each one value per channel."""
    scale, shift, mean, variance = (graph.values(name) for name in norm.input[1:])
    if scale.ndim != 1 or len({each.shape for each in (scale, shift, mean, variance)}) != 1:
        raise BitstreamError(f"batch norm {norm.output[0]!r} has tensors of different or odd shapes")
    with np.errstate(all="ignore"):
        return scale / np.sqrt(variance + attribute_of(norm, "epsilon", 1e-5)), mean, shift


def _bias(graph: EditedGraph, layer: Any) -> Values:
    """What a layer adds to its outputs; 0 without a bias."""
    if not any(layer.input[2:3]):
        return np.zeros(())
    return graph.values(layer.input[2]) * np.float64(attribute_of(layer, "beta", 1.0))


def _store_bias(graph: EditedGraph, layer: Any, bias: Array) -> None:
    """Gives a layer another bias, in the place of its own if nothing else uses that."""
    own = layer.input[2] if len(layer.input) > 2 else ""
    if own and graph.n_uses[own] == 1 and tuple(graph.fixed[own].dims) == bias.shape:
        graph.store(own, bias)
    else:
        name = graph.add(f"{layer.input[1]}.bias", bias)
        graph.n_uses.update({own: -1, name: 1})
        del layer.input[2:]
        layer.input.append(name)
    kept = [each for each in layer.attribute if each.name != "beta"]
    del layer.attribute[:]
    layer.attribute.extend(kept)


def _n_outputs(layer: Any, shape: tuple[int, ...]) -> int:
    n_groups = attribute_of(layer, "group", 1)
    if len(shape) < 2 or n_groups < 1 or shape[0] % n_groups:
        raise BitstreamError(f"weight {layer.input[1]!r} of shape {shape} in {n_groups} groups is none of a layer")
    if layer.op_type == "ConvTranspose":
        return shape[1] * int(n_groups)
    return shape[-1 if _has_outputs_last(layer) else 0]


def _over_outputs(layer: Any, gain: Values, shape: tuple[int, ...]) -> Values:
    """A factor for each output, in a shape that multiplies the layer's weight."""
    if layer.op_type == "ConvTranspose":
        n_groups = attribute_of(layer, "group", 1)
        by_input: Values = np.repeat(gain.reshape(n_groups, -1), shape[0] // n_groups, axis=0)
        return by_input.reshape(*by_input.shape, *[1] * (len(shape) - 2))
    return gain if _has_outputs_last(layer) else gain.reshape(-1, *[1] * (len(shape) - 1))


def _has_outputs_last(layer: Any) -> bool:
    return layer.op_type == "Gemm" and not attribute_of(layer, "transB", 0)
