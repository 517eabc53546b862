"""The main graph of an ONNX model while it is changed: who makes and uses each name, and its fixed tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vvc_nnr.bitstream.number_formats import Array
from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.model.onnx import constant_array, constants, import_onnx

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
        found: np.dtype[Any] = import_onnx().helper.tensor_dtype_to_np_dtype(self.fixed[name].data_type)
        return found

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
