"""The constants of an ONNX model: which there are, and their values as arrays and back.

Constants are initialisers and the values of Constant nodes, of the main graph, of branches and loops, and of functions.

Those of different graphs may have one name. The main graph's have theirs as tensors too; of others a name that is
taken gets "'" at its end, once or more, in the order of the graphs.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vvc_nnr.bitstream.number_formats import BITS_DTYPES, Array, FloatBits, plain_array, shape_of
from vvc_nnr.errors import BitstreamError, UnsupportedError, as_damage, shown
from vvc_nnr.model.onnx_packed import (
    PACKED_FORMATS,
    PackedFormat,
    is_plainly_packed,
    packed_array,
    packed_bytes,
    unpacked_array,
)
from vvc_nnr.model.onnx_proto import import_onnx
from vvc_nnr.model.torch import as_array
from vvc_nnr.roles.by_onnx_node import MAIN_GRAPH, GraphPath, graphs_of_node, path_of_function

# Smaller constants stay in the graph: a data unit of their own would take more. So do integers of no more bytes, such
# as zero points, which a graph repeats in next to nothing.
MIN_VALUES, MAX_BYTES_IN_GRAPH = 8, 64
# Number formats that are coded, by their names in ONNX; those that numpy lacks by themselves.
_BITS_FORMATS = {
    "BFLOAT16": "bfloat16",
    "FLOAT8E4M3FN": "float8_e4m3fn",
    "FLOAT8E4M3FNUZ": "float8_e4m3fnuz",
    "FLOAT8E5M2": "float8_e5m2",
    "FLOAT8E5M2FNUZ": "float8_e5m2fnuz",
    "FLOAT8E8M0": "float8_e8m0fnu",
}
_FORMATS = (
    *("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"),
    *("FLOAT16", "FLOAT", "DOUBLE", *_BITS_FORMATS, *PACKED_FORMATS),
)


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A constant of a model.

    Attributes:
        key: Its name among all of the model.
        name: Its name in its graph.
        path: Where that graph is.
        tensor: The `TensorProto`.
    """

    key: str
    name: str
    path: GraphPath
    tensor: Any


def constants(model: Any) -> Iterator[Constant]:
    """The constants of a model, those of the main graph first.

    Raises:
        UnsupportedError: If two of one graph have one name.
    """
    keys: set[str] = set()
    for path, initializers, nodes in _graphs(model):
        names: set[str] = set()
        for name, tensor in _constants_of(initializers, nodes):
            if name in names:
                raise UnsupportedError(f"two constants are called {name!r}")
            names.add(name)
            key = name
            while key in keys:
                key += "'"
            keys.add(key)
            yield Constant(key, name, path, tensor)


def _graphs(model: Any) -> Iterator[tuple[GraphPath, Any, Any]]:
    """Path, initialisers and nodes of the main graph, of the graphs in it, and of functions and those in them."""
    yield from _graphs_in(MAIN_GRAPH, model.graph.initializer, model.graph.node)
    for place, function in enumerate(model.functions):
        yield from _graphs_in(path_of_function(place), (), function.node)


def _graphs_in(path: GraphPath, initializers: Any, nodes: Any) -> Iterator[tuple[GraphPath, Any, Any]]:
    yield path, initializers, nodes
    for place, node in enumerate(nodes):
        for inner, graph in graphs_of_node(node, (*path, place)):
            yield from _graphs_in(inner, graph.initializer, graph.node)


def _constants_of(initializers: Any, nodes: Any) -> Iterator[tuple[str, Any]]:
    for tensor in initializers:
        yield tensor.name, tensor
    for node in nodes:
        if node.op_type == "Constant" and len(node.output) == 1:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.HasField("t"):
                    yield node.output[0], attribute.t


def keys_of_constants(model: Any) -> dict[GraphPath, dict[str, str]]:
    """The keys of all constants by path and name."""
    keys: dict[GraphPath, dict[str, str]] = {}
    for each in constants(model):
        keys.setdefault(each.path, {})[each.name] = each.key
    return keys


def coded_types() -> set[int]:
    """Types of the number formats that are coded; older releases of onnx lack FLOAT8E8M0, INT2 and others."""
    return {number for name, number in import_onnx().TensorProto.DataType.items() if name in _FORMATS}


def packed_format(tensor: Any) -> PackedFormat | None:
    """The type of a tensor whose values take fewer than eight bits; None of others."""
    data_type = import_onnx().TensorProto.DataType
    return PACKED_FORMATS.get(data_type.Name(tensor.data_type)) if tensor.data_type in data_type.values() else None


def packed_constants(model: Any, names: Container[str]) -> dict[str, str]:
    """The types, such as "INT4", of those constants of a model whose values are packed, several in a byte.

    Args:
        model: The `ModelProto`.
        names: The keys of the constants that are asked for.
    """
    name_of = import_onnx().TensorProto.DataType.Name
    told = {each.key: each.tensor for each in constants(model) if each.key in names}
    return {key: name_of(tensor.data_type) for key, tensor in told.items() if packed_format(tensor)}


def comes_back(tensor: Any) -> bool:
    """Whether a tensor's values give all its bits: those of fewer than eight may have others behind the last."""
    told = packed_format(tensor)
    return told is None or is_plainly_packed(told, tensor)


def is_coded(tensor: Any) -> bool:
    """Whether a `TensorProto` leaves the graph: of some size and a coded number format, it comes back bit for bit."""
    if n_values(tensor) < MIN_VALUES or tensor.data_type not in coded_types():
        return False
    packed = packed_format(tensor)
    if packed is not None:
        return packed_bytes(packed, n_values(tensor)) > MAX_BYTES_IN_GRAPH and is_plainly_packed(packed, tensor)
    dtype = import_onnx().helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return dtype.kind not in "iub" or n_values(tensor) * dtype.itemsize > MAX_BYTES_IN_GRAPH


def n_values(tensor: Any) -> int:
    """How many values a `TensorProto` states."""
    return math.prod(tensor.dims)


def constant_array(name: str, tensor: Any) -> Array | FloatBits:
    """The values of a `TensorProto`.

    Raises:
        BitstreamError: If they do not fit its type and shape.
    """
    onnx = import_onnx()
    with as_damage(f"tensor {shown(repr(name))} is damaged"):
        number_format = _BITS_FORMATS.get(onnx.TensorProto.DataType.Name(tensor.data_type))
        if number_format is not None:
            return _float_bits(tensor, number_format)
        packed = packed_format(tensor)
        if packed is not None:
            return unpacked_array(packed, tensor)
        return as_array(name, onnx.numpy_helper.to_array(tensor))


def _float_bits(tensor: Any, number_format: str) -> FloatBits:
    """A tensor of bfloat16 or float8; releases of onnx before 1.19 give other types for them."""
    dtype = np.dtype(BITS_DTYPES[number_format])
    if tensor.raw_data:
        stored = np.frombuffer(tensor.raw_data, dtype.newbyteorder("<"))
    else:
        stored = np.array(tensor.int32_data, np.uint32)
    return FloatBits(stored.astype(dtype).reshape(tuple(tensor.dims)), number_format)


def element_type(name: str, tensor: Any) -> np.dtype[Any]:
    """The number format that a `TensorProto` states.

    Raises:
        BitstreamError: If it is none of ONNX.
    """
    try:
        found: np.dtype[Any] = np.dtype(import_onnx().helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError):
        raise BitstreamError(f"tensor {name!r} has the data type {tensor.data_type}, which is none of ONNX") from None
    return found


_DATA_FIELDS: Sequence[str] = (
    "raw_data",
    "float_data",
    "int32_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "string_data",
)


def clear(tensor: Any) -> None:
    """Takes the values out of a `TensorProto`, which keeps its name, type and shape."""
    for field in _DATA_FIELDS:
        tensor.ClearField(field)


def has_data(tensor: Any) -> bool:
    """Whether a `TensorProto` has values in it."""
    return any(len(getattr(tensor, field)) for field in _DATA_FIELDS)


def fill(name: str, tensor: Any, array: Array | FloatBits) -> None:
    """Puts values into a `TensorProto` that has none.

    Raises:
        BitstreamError: If its type is none of ONNX, or type or shape are others than the array's.
    """
    plain = plain_array(array)
    found = array.number_format if isinstance(array, FloatBits) else plain.dtype.name
    element_type(name, tensor)  # a type that is none of ONNX is damage
    own = import_onnx().TensorProto.DataType.Name(tensor.data_type)
    packed = PACKED_FORMATS.get(own)
    expected = {"FLOAT": "float32", "DOUBLE": "float64", **_BITS_FORMATS}.get(own, own.lower())
    expected = packed.number_format if packed else expected
    if shape_of(array) != tuple(tensor.dims) or found != expected:
        got = f"{found} {shape_of(array)}, the graph has {expected} {tuple(tensor.dims)}"
        raise BitstreamError(f"tensor {name!r} is {got}", field="topology_data")
    if packed:
        tensor.raw_data = packed_array(name, packed, array)
        return
    tensor.raw_data = np.ascontiguousarray(plain, dtype=plain.dtype.newbyteorder("<")).tobytes()
