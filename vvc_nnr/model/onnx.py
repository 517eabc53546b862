"""ONNX models: their constant tensors by name, and the graph that is left without them.

Constants are initialisers and the values of Constant nodes, both of the main graph. Those of a number format that is
coded here and of some size leave the graph; it keeps their names, types and shapes, and gets them back when it is read.
Other constants (axes, scales, texts, those of branches, loops and functions) stay in the graph, bit for bit; those in
files beside it are read into it. Texts are UTF-8 by the format; the reader of protocol buffers does not look, so it is
checked here.
"""

from __future__ import annotations

import importlib
import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vvc_nnr.bitstream.graph import MANIFEST_KEY
from vvc_nnr.bitstream.number_formats import Array, Bfloat16Bits, NamedArrays, itemsize_of, shape_of
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError, shown
from vvc_nnr.files import AtomicFile, naming, read_bytes
from vvc_nnr.model.torch import as_array
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.roles.by_onnx_node import operator_roles
from vvc_nnr.roles.roles import TensorRole


def load_external_data(path: Path | str, model: Any) -> int:
    """Reads external data of all tensors of a `ModelProto`, in branches, loops and functions too; its size in bytes.

    Args:
        path: The model's file, beside which the data lies.
        model: The model, changed in place.

    Raises:
        InputError: If a file is missing, outside the model's folder, or smaller than a tensor says.
        BitstreamError: If the values do not fit a tensor's type and shape.
    """
    external = importlib.import_module("onnx").TensorProto.EXTERNAL
    return sum(_loaded(path, name, tensor) for name, tensor in every_tensor(model) if tensor.data_location == external)


def every_tensor(model: Any) -> Iterator[tuple[str, Any]]:
    """Name and `TensorProto` of everything in a model."""
    yield from _tensors_of_graph(model.graph)
    for training in model.training_info:
        yield from _tensors_of_graph(training.initialization)
        yield from _tensors_of_graph(training.algorithm)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)
        yield from _tensors_of_attributes(function.attribute_proto, function.name)


def _tensors_of_graph(graph: Any) -> Iterator[tuple[str, Any]]:
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for sparse in graph.sparse_initializer:
        yield from _tensors_of_sparse(sparse, sparse.values.name)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Any) -> Iterator[tuple[str, Any]]:
    for node in nodes:
        yield from _tensors_of_attributes(node.attribute, next(iter(node.output), node.name))


def _tensors_of_attributes(attributes: Any, name: str) -> Iterator[tuple[str, Any]]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield name, attribute.t
        if attribute.HasField("g"):
            yield from _tensors_of_graph(attribute.g)
        if attribute.HasField("sparse_tensor"):
            yield from _tensors_of_sparse(attribute.sparse_tensor, name)
        yield from ((name, tensor) for tensor in attribute.tensors)
        for sparse in attribute.sparse_tensors:
            yield from _tensors_of_sparse(sparse, name)
        for graph in attribute.graphs:
            yield from _tensors_of_graph(graph)


def _tensors_of_sparse(sparse: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, sparse.values
    yield name, sparse.indices


def _loaded(path: Path | str, name: str, tensor: Any) -> int:
    """Reads the external data of a tensor; its size in bytes."""
    helper = importlib.import_module("onnx.external_data_helper")
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # keys that onnx does not know
            helper.load_external_data_for_tensor(tensor, str(Path(path).parent))
    except Exception as error:  # a missing file, a path out of the folder, a size beyond the file's
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: tensor {name!r} is in the file {shown(repr(location))}, "
            f"which cannot be read ({reason}): put it beside"
        ) from error
    tensor.ClearField("external_data")
    tensor.data_location = importlib.import_module("onnx").TensorProto.DEFAULT
    try:
        importlib.import_module("onnx.numpy_helper").to_array(tensor)
    except Exception as error:  # whatever numpy says of data that does not fit type and shape
        raise BitstreamError(f"tensor {name!r} is damaged: {error}") from error
    return len(tensor.raw_data)


# Of `FieldDescriptor`: the types of a text and of a message.
_TYPE_TEXT, _TYPE_MESSAGE = 9, 11


def check_texts(model: Any) -> None:
    """Raises BitstreamError, which names the field, if a text of a `ModelProto` or anything in it is no UTF-8."""
    for place, text in _texts(model, ""):
        if not isinstance(text, str):
            raise BitstreamError(f"the text {shown(repr(text))} is no UTF-8", field=place)


def _texts(message: Any, place: str) -> Iterator[tuple[str, object]]:
    """Where each text of a message is, such as "graph.node[3].name", and the text: bytes if it is no UTF-8."""
    for field, value in message.ListFields():
        if field.type not in (_TYPE_TEXT, _TYPE_MESSAGE):
            continue
        is_one = isinstance(value, str | bytes) or hasattr(value, "ListFields")
        for number, each in enumerate([value] if is_one else value):
            here = f"{place}{field.name}" + ("" if is_one else f"[{number}]")
            if field.type == _TYPE_TEXT:
                yield here, each
            else:
                yield from _texts(each, f"{here}.")


# Smaller constants stay in the graph: a data unit of their own would take more.
MIN_VALUES = 8
# Of a serialised protocol buffer.
_MAX_FILE_BYTES = (1 << 31) - 1
# Number formats that are coded, by their names in ONNX.
_FORMATS = (
    *("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"),
    *("FLOAT16", "BFLOAT16", "FLOAT", "DOUBLE"),
)


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
        data = read_bytes(path)
        model = _parsed(data)
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
        raise UnsupportedError(
            f"{path}: graph and tensors take {n_bytes} bytes, an ONNX file at most {_MAX_FILE_BYTES} (2 GiB): "
            "write .safetensors or .pt"
        )
    data = _serialised(put_together(graph, arrays))
    with AtomicFile(path) as file:
        file.write(data)
    return len(data)


def take_apart(model: Any, n_bytes: int) -> OnnxModel:
    """The constants and the graph of a `ModelProto`, which is emptied by it.

    Raises:
        BitstreamError: If a constant has other values than its type and shape say.
        UnsupportedError: If two constants have one name, or those that stay in the graph are beyond 2 GiB.
    """
    arrays: NamedArrays = {}
    for name, tensor in constants(model):
        if not _is_coded(tensor):
            continue
        if name in arrays:
            raise UnsupportedError(f"two constants are called {name!r}")
        arrays[name] = constant_array(name, tensor)
        _clear(tensor)
    return OnnxModel(arrays, _serialised(model), operator_roles(model.graph, arrays), n_bytes)


def graph_roles(graph: bytes, arrays: NamedArrays) -> dict[str, TensorRole]:
    """The roles of the tensors of a coded network by the operators of its graph; of those that it lacks by their names.

    Args:
        graph: The model without its tensors, serialised.
        arrays: The tensors.

    Returns:
        Name to role; empty if the graph is no ONNX model or the package onnx is not installed, which tensors alone do
        without.
    """
    try:
        model = _parsed(graph)
    except (BitstreamError, InputError):
        return {}
    names = {name for name, _ in constants(model)}
    told = operator_roles(model.graph, {name: array for name, array in arrays.items() if name in names})
    return named_roles(arrays) | told


def check_only_tensors_matter(graph: bytes) -> None:
    """Checks that a graph holds no weights itself, so that its network is all there without it.

    Args:
        graph: The model without the tensors that left it, serialised; one that is no ONNX model, or cannot be read
            since the package onnx is not installed, is not checked.

    Raises:
        UnsupportedError: If it has numbers of some size in it: constants of branches, loops and functions, sparse
            ones, and those of number formats that are not coded.
    """
    try:
        model = _parsed(graph)
    except (BitstreamError, InputError):
        return
    text = import_onnx().TensorProto.STRING
    kept = [
        name
        for name, tensor in every_tensor(model)
        if _has_data(tensor) and tensor.data_type != text and _n_values(tensor) >= MIN_VALUES
    ]
    if kept:
        names = ", ".join(shown(repr(name), 60) for name in kept[:3])
        raise UnsupportedError(
            f"{len(kept)} of its constants ({names}) stay in the graph of the ONNX model (branches, loops, functions, "
            "sparse values, other number formats) and would be lost without it: write .nnc, or .onnx from .nnc"
        )


def put_together(graph: bytes, arrays: Mapping[str, Array | Bfloat16Bits]) -> Any:
    """The `ModelProto` of a graph and its constants.

    Raises:
        InputError: If the package onnx is not installed.
        BitstreamError: If the graph is damaged, or a constant has another type or shape there.
    """
    model = _parsed(graph)
    own = [entry for entry in model.metadata_props if entry.key == MANIFEST_KEY]
    for entry in own:
        model.metadata_props.remove(entry)
    for name, tensor in constants(model):
        if name in arrays and not _has_data(tensor):
            _fill(name, tensor, arrays[name])
    return model


def is_model_proto(model: Any) -> bool:
    """Whether something is an ONNX `ModelProto`; whoever has one has imported onnx."""
    onnx = sys.modules.get("onnx")
    return onnx is not None and isinstance(model, onnx.ModelProto)


def import_onnx() -> Any:
    """The package onnx.

    Raises:
        InputError: If it is not installed.
    """
    try:
        return importlib.import_module("onnx")
    except ImportError:
        raise InputError("ONNX files need the package onnx: pip install onnx") from None


def _parsed(data: bytes) -> Any:
    onnx = import_onnx()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's own kinds, by the version of it
        raise BitstreamError(f"no ONNX model: {error}") from error
    if not model.HasField("graph"):
        raise BitstreamError("no ONNX model: it has no graph")
    check_texts(model)
    return model


def _serialised(model: Any) -> bytes:
    try:
        data: bytes = model.SerializeToString()
    except Exception as error:  # protobuf's own kinds, by the version of it
        raise UnsupportedError(f"the model is too large for a file of ONNX (2 GiB): {error}") from error
    return data


def constants(model: Any) -> Iterator[tuple[str, Any]]:
    """Name and `TensorProto` of the main graph's constants."""
    for tensor in model.graph.initializer:
        yield tensor.name, tensor
    for node in model.graph.node:
        if node.op_type == "Constant" and len(node.output) == 1:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.HasField("t"):
                    yield node.output[0], attribute.t


def _is_coded(tensor: Any) -> bool:
    onnx = import_onnx()
    known = {onnx.TensorProto.DataType.Value(name) for name in _FORMATS}
    return _n_values(tensor) >= MIN_VALUES and tensor.data_type in known


def _n_values(tensor: Any) -> int:
    return math.prod(tensor.dims)


def constant_array(name: str, tensor: Any) -> Array | Bfloat16Bits:
    """The values of a `TensorProto`.

    Raises:
        BitstreamError: If they do not fit its type and shape.
    """
    try:
        return as_array(name, import_onnx().numpy_helper.to_array(tensor))
    except InputError:
        raise
    except Exception as error:  # whatever numpy says of data that does not fit
        raise BitstreamError(f"tensor {name!r} is damaged: {error}") from error


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


def _clear(tensor: Any) -> None:
    for field in _DATA_FIELDS:
        tensor.ClearField(field)


def _has_data(tensor: Any) -> bool:
    return any(len(getattr(tensor, field)) for field in _DATA_FIELDS)


def _fill(name: str, tensor: Any, array: Array | Bfloat16Bits) -> None:
    plain = array.bits if isinstance(array, Bfloat16Bits) else array
    found = "bfloat16" if isinstance(array, Bfloat16Bits) else plain.dtype.name
    wanted = element_type(name, tensor).name
    if shape_of(array) != tuple(tensor.dims) or found != wanted:
        got = f"{found} {shape_of(array)}, the graph has {wanted} {tuple(tensor.dims)}"
        raise BitstreamError(f"tensor {name!r} is {got}", field="topology_data")
    tensor.raw_data = np.ascontiguousarray(plain, dtype=plain.dtype.newbyteorder("<")).tobytes()
