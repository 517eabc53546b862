"""ONNX models: their constant tensors by name, and the graph that is left without them.

Constants of a number format that is coded here and of some size leave the graph; it keeps their names, types and
shapes, and gets them back when it is read, those of fewer than eight bits packed as they were. Other constants (axes,
scales, texts, sparse ones) stay in the graph, bit for bit; those in files beside it are read into it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vvc_nnr.bitstream.number_formats import Array, FloatBits, NamedArrays, itemsize_of, shape_of
from vvc_nnr.errors import BitstreamError, UnsupportedError, shown
from vvc_nnr.files import naming, read_bytes, write_file
from vvc_nnr.model.onnx_constants import (
    clear,
    constant_array,
    constants,
    fill,
    has_data,
    is_coded,
    keys_of_constants,
    packed_constants,
)
from vvc_nnr.model.onnx_packed import PACKED_FORMATS, packed_bytes
from vvc_nnr.model.onnx_proto import every_tensor, import_onnx, load_external_data, parsed, serialised
from vvc_nnr.roles.by_onnx_node import operator_roles
from vvc_nnr.roles.roles import TensorRole

# Of a serialised protocol buffer.
_MAX_FILE_BYTES = (1 << 31) - 1


@dataclass(frozen=True, slots=True, eq=False)
class OnnxModel:
    """An ONNX model taken apart.

    Attributes:
        arrays: The constants that left the graph, by name.
        graph: The model without them, serialised.
        roles: What they are by the operators that use them.
        n_bytes: Size of the file, with its external data.
    """

    arrays: NamedArrays
    graph: bytes
    roles: Mapping[str, TensorRole]
    n_bytes: int


def read_onnx(path: Path | str) -> OnnxModel:
    """An `.onnx` file taken apart; external data is looked for beside it.

    Raises:
        InputError: If the file or its external data is missing, or the package onnx is not installed.
        BitstreamError: If it is damaged.
        UnsupportedError: If two constants have one name, or those that stay in the graph are beyond 2 GiB.
    """
    with naming(path):
        return parse_onnx(path, read_bytes(path))


def parse_onnx(path: Path | str, data: bytes) -> OnnxModel:
    """The model in the bytes of such a file; raises as `read_onnx` does.

    Args:
        path: The file, beside which external data is looked for.
        data: Its bytes.
    """
    model = parsed(data)
    return take_apart(model, len(data) + load_external_data(path, model))


def write_onnx(path: Path | str, graph: bytes, arrays: NamedArrays) -> int:
    """Writes graph and tensors as one `.onnx` file, all of it or nothing, and returns its size in bytes.

    Raises:
        InputError: If the package onnx is not installed, or the file cannot be written.
        BitstreamError: If the tensors do not fit the graph.
        UnsupportedError: If they are beyond 2 GiB together, the limit of such a file.
    """
    n_bytes = len(graph) + sum(itemsize_of(array) * math.prod(shape_of(array)) for array in arrays.values())
    if n_bytes > _MAX_FILE_BYTES:
        n_bytes -= _n_spared_bytes(parsed(graph), arrays)
    if n_bytes > _MAX_FILE_BYTES:
        raise UnsupportedError(
            f"{path}: graph and tensors take {n_bytes} bytes, an ONNX file at most {_MAX_FILE_BYTES} (2 GiB): "
            "write .safetensors or .pt"
        )
    data = serialised(put_together(graph, arrays))
    return write_file(path, data)


def _n_spared_bytes(model: Any, arrays: NamedArrays) -> int:
    """What a model's file has less than its arrays, since values of fewer than eight bits are packed in it."""
    counts = {name: math.prod(shape_of(arrays[name])) for name in arrays}
    told = packed_constants(model, arrays)
    return sum(counts[name] - packed_bytes(PACKED_FORMATS[kind], counts[name]) for name, kind in told.items())


def take_apart(model: Any, n_bytes: int) -> OnnxModel:
    """The constants and the graph of a `ModelProto`, which is emptied by it.

    Raises:
        BitstreamError: If a constant has other values than its type and shape say.
        UnsupportedError: If two constants have one name, or those that stay in the graph are beyond 2 GiB.
    """
    arrays: NamedArrays = {}
    for constant in constants(model):
        if is_coded(constant.tensor):
            arrays[constant.key] = constant_array(constant.key, constant.tensor)
            clear(constant.tensor)
    return OnnxModel(arrays, serialised(model), operator_roles(model, arrays, keys_of_constants(model)), n_bytes)


def put_together(graph: bytes, arrays: Mapping[str, Array | FloatBits]) -> Any:
    """The `ModelProto` of a graph and its constants.

    Raises:
        InputError: If the package onnx is not installed.
        BitstreamError: If the graph is damaged, has values in other files, or a constant of another type or shape.
    """
    model = parsed(graph)
    external = import_onnx().TensorProto.EXTERNAL
    for name, tensor in every_tensor(model):
        if tensor.data_location == external:
            message = f"the graph has the values of {shown(repr(name), 200)} in another file"
            raise BitstreamError(message, field="topology_data")
    for constant in constants(model):
        if constant.key in arrays and not has_data(constant.tensor):
            fill(constant.key, constant.tensor, arrays[constant.key])
    return model
