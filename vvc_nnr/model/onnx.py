"""ONNX models: their constant tensors by name, and the graph that is left without them.

Constants are initialisers and the values of Constant nodes, of the main graph, of branches and loops, and of functions.
Those of a number format that is coded here and of some size leave the graph; it keeps their names, types and shapes,
and gets them back when it is read, those of fewer than eight bits packed as they were. Other
constants (axes, scales, texts, sparse ones) stay in the graph, bit for bit; those in files beside it are read into it.
Texts are UTF-8 by the format; the reader of protocol buffers does not look, so it is checked here.

Constants of different graphs may have one name. The main graph's have theirs as tensors too; of others a name that is
taken gets "'" at its end, once or more, in the order of the graphs.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from vvc_nnr.bitstream.number_formats import (
    BITS_DTYPES,
    Array,
    FloatBits,
    NamedArrays,
    itemsize_of,
    plain_array,
    shape_of,
)
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError, as_damage, shown, shown_name
from vvc_nnr.files import (
    HEAD_BYTES,
    check_no_pointer,
    check_regular_file,
    naming,
    open_input,
    read_bytes,
    remaining_bytes,
    write_file,
)
from vvc_nnr.model.onnx_packed import (
    PACKED_FORMATS,
    PackedFormat,
    is_plainly_packed,
    packed_array,
    packed_bytes,
    unpacked_array,
)
from vvc_nnr.model.torch import as_array
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.roles.by_onnx_node import MAIN_GRAPH, GraphPath, graphs_of_node, operator_roles, path_of_function
from vvc_nnr.roles.roles import TensorRole


def load_external_data(path: Path | str, model: Any) -> int:
    """Reads external data of all tensors of a `ModelProto`, in branches, loops and functions too; its size in bytes.

    Args:
        path: The model's file, beside which the data lies.
        model: The model, changed in place.

    Raises:
        InputError: If a file is missing, outside the model's folder, or smaller than a tensor says. A link that lies in
            the folder is followed, wherever it leads.
        BitstreamError: If a place in a file is none, or the values do not fit a tensor's type and shape.
    """
    external = importlib.import_module("onnx").TensorProto.EXTERNAL
    return sum(_loaded(path, name, tensor) for name, tensor in every_tensor(model) if tensor.data_location == external)


def check_all_is_there(model: Any) -> None:
    """Raises InputError if values of a `ModelProto` lie in files beside it."""
    external = import_onnx().TensorProto.EXTERNAL
    name = next((name for name, tensor in every_tensor(model) if tensor.data_location == external), None)
    if name is not None:
        raise InputError(f"tensor {name!r} has its values in another file: load them before, as onnx.load does")


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
    tensor.raw_data = _external_bytes(Path(path), name, {entry.key: entry.value for entry in tensor.external_data})
    tensor.ClearField("external_data")
    tensor.data_location = importlib.import_module("onnx").TensorProto.DEFAULT
    with as_damage(f"tensor {shown(repr(name))} is damaged"):
        importlib.import_module("onnx.numpy_helper").to_array(tensor)
    return len(tensor.raw_data)


def _external_bytes(path: Path, name: str, told: Mapping[str, str]) -> bytes:
    """The bytes of a tensor in another file.

    Args:
        path: The model's file.
        name: The tensor's name.
        told: What the model says of their place: "location", "offset", "length".
    """
    location = told.get("location", "")
    where = f"tensor {name!r} is in the file {shown(repr(location))}, which cannot be read"
    parts = PureWindowsPath(location).parts  # both kinds of separators
    if not parts or ".." in parts or Path(location).is_absolute() or PureWindowsPath(location).anchor:
        raise InputError(
            f"{path}: {where}: it must be named by its path below the model's folder, without '..': "
            "save the model anew with its data beside it"
        )
    start, length = (_place_in_file(name, key, told[key]) if key in told else None for key in ("offset", "length"))
    file = path.parent / location
    try:
        check_regular_file(file)
        with open_input(file) as opened:
            check_no_pointer(opened.read(HEAD_BYTES))
            opened.seek(0)
            n_bytes, start = remaining_bytes(opened), start or 0
            end = start + length if length is not None else max(start, n_bytes)
            if end > n_bytes:
                raise InputError(
                    f"it has {n_bytes} bytes, and the tensor's are from {start} to {end}: it is cut off or another "
                    "file; copy it again"
                )
            opened.seek(start)
            return opened.read(end - start)
    except (InputError, BitstreamError) as error:
        reason = str(error).removeprefix(f"{shown_name(str(file))}: ")
        is_missing = not os.path.lexists(file)
        raise type(error)(f"{path}: {where}: {reason}{'; put it there' if is_missing else ''}") from error


def _place_in_file(name: str, key: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < _MAX_DIGITS):
        raise BitstreamError(
            f"tensor {name!r}: {key} {shown(repr(value))} must be a number of bytes", field="external_data"
        )
    return int(value)


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


# Of an offset in a file: 64 bits take 20.
_MAX_DIGITS = 20
# Smaller constants stay in the graph: a data unit of their own would take more. So do integers of no more bytes, such
# as zero points, which a graph repeats in next to nothing.
MIN_VALUES, MAX_BYTES_IN_GRAPH = 8, 64
# Of a serialised protocol buffer.
_MAX_FILE_BYTES = (1 << 31) - 1
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
        n_bytes -= _n_spared_bytes(_parsed(graph), arrays)
    if n_bytes > _MAX_FILE_BYTES:
        raise UnsupportedError(
            f"{path}: graph and tensors take {n_bytes} bytes, an ONNX file at most {_MAX_FILE_BYTES} (2 GiB): "
            "write .safetensors or .pt"
        )
    data = _serialised(put_together(graph, arrays))
    return write_file(path, data)


def _n_spared_bytes(model: Any, arrays: NamedArrays) -> int:
    """What a model's file has less than its arrays, since values of fewer than eight bits are packed in it."""
    counts = {name: math.prod(shape_of(arrays[name])) for name in arrays}
    told = _packed_types(model, arrays)
    return sum(counts[name] - packed_bytes(PACKED_FORMATS[kind], counts[name]) for name, kind in told.items())


def packed_types(graph: bytes, names: Container[str]) -> dict[str, str]:
    """The types in ONNX, such as "INT4", of the tensors whose values are packed in the file, several in a byte.

    Args:
        graph: The model without its tensors.
        names: Of those that were taken out.

    Raises:
        InputError: If the package onnx is not installed.
    """
    return _packed_types(_parsed(graph), names)


def _packed_types(model: Any, names: Container[str]) -> dict[str, str]:
    name_of = import_onnx().TensorProto.DataType.Name
    told = {each.key: each.tensor for each in constants(model) if each.key in names}
    return {key: name_of(tensor.data_type) for key, tensor in told.items() if _packed_format(tensor)}


def take_apart(model: Any, n_bytes: int) -> OnnxModel:
    """The constants and the graph of a `ModelProto`, which is emptied by it.

    Raises:
        BitstreamError: If a constant has other values than its type and shape say.
        UnsupportedError: If two constants have one name, or those that stay in the graph are beyond 2 GiB.
    """
    arrays: NamedArrays = {}
    for constant in constants(model):
        if _is_coded(constant.tensor):
            arrays[constant.key] = constant_array(constant.key, constant.tensor)
            _clear(constant.tensor)
    return OnnxModel(arrays, _serialised(model), operator_roles(model, arrays, _keys(model)), n_bytes)


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
    names = {constant.key for constant in constants(model)}
    own = {name: array for name, array in arrays.items() if name in names}
    by_operator = operator_roles(model, own, _keys(model))
    return by_operator | {name: told for name, told in named_roles(arrays).items() if name not in by_operator}


def graph_constants(graph: bytes, taken: Mapping[str, Any]) -> NamedArrays:
    """The constants that a graph has kept, such as small ones, so that a network can go without it.

    Args:
        graph: The model without the tensors that left it, serialised; one that is no ONNX model, or cannot be read
            since the package onnx is not installed, has none.
        taken: The tensors that left it, by name.

    Raises:
        UnsupportedError: If there are numbers among them that cannot be coded.
        BitstreamError: If one is damaged.
    """
    try:
        model = _parsed(graph)
    except (BitstreamError, InputError):
        return {}
    check_only_tensors_matter(graph)
    known = _known_types()
    return {
        each.key: constant_array(each.key, each.tensor)
        for each in constants(model)
        if each.key not in taken and each.tensor.data_type in known and _has_data(each.tensor)
    }


def keeps_constants(graph: bytes) -> bool:
    """Whether a graph has constants of its own, as small ones are; False of one that cannot be read."""
    try:
        model = _parsed(graph)
    except (BitstreamError, InputError):
        return False
    return any(_has_data(each.tensor) for each in constants(model))


def without_constants(graph: bytes, taken: NamedArrays) -> tuple[bytes, NamedArrays]:
    """A graph without the constants that it has kept, such as small ones, and these behind the tensors that left it.

    Args:
        graph: The model without the tensors that left it, serialised.
        taken: Those tensors, by name.

    Returns:
        The graph, which `put_together` fills again, and all tensors of number formats that are coded.

    Raises:
        BitstreamError: If the graph or a constant is damaged.
        InputError: If the package onnx is not installed.
    """
    model, known, arrays = _parsed(graph), _known_types(), dict(taken)
    for constant in constants(model):
        tensor = constant.tensor
        is_own = constant.key not in taken and tensor.data_type in known and _has_data(tensor)
        if is_own and _comes_back(tensor):
            arrays[constant.key] = constant_array(constant.key, constant.tensor)
            _clear(constant.tensor)
    return _serialised(model), arrays


def difference_of_graphs(base: bytes, new: bytes) -> str:
    """What the graphs of two models differ in, such as an operator; "" if in nothing that is computed.

    Descriptions do not count: what made the model and when, texts for people, metadata.

    Args:
        base: A model without its tensors, as `without_constants` gives it.
        new: The other one.
    """
    models = [_parsed(graph) for graph in (base, new)]
    for model in models:
        for name in ("producer_name", "producer_version", "model_version", "doc_string", "metadata_props"):
            model.ClearField(name)
        for graph in (model.graph, *model.functions):
            graph.ClearField("doc_string")
    for nodes in zip(*(model.graph.node for model in models), strict=False):
        for node in nodes:
            node.ClearField("doc_string")
        if nodes[0] != nodes[1]:
            kinds = " and ".join(dict.fromkeys(f"{node.op_type} {shown(node.name, 60)}".strip() for node in nodes))
            return f"the operator {kinds}"
    counts = [len(model.graph.node) for model in models]
    if counts[0] != counts[1]:
        return f"the number of operators, {counts[0]} and {counts[1]}"
    kept = [{name: tensor for name, tensor in every_tensor(model) if _has_data(tensor)} for model in models]
    names = [name for name in {**kept[0], **kept[1]} if kept[0].get(name) != kept[1].get(name)]
    if names:
        return f"the constant {shown(names[0], 60)!r}, which no tensor of a network can be"
    return "" if models[0] == models[1] else "inputs, outputs, functions or versions"


def graph_metadata(graph: bytes) -> dict[str, str]:
    """The texts of a model's metadata by key (`metadata_props`).

    Args:
        graph: The model, serialised, with or without its tensors; one that is no ONNX model, or cannot be read since
            the package onnx is not installed, has none.
    """
    try:
        model = _parsed(graph)
    except (BitstreamError, InputError):
        return {}
    return {entry.key: entry.value for entry in model.metadata_props}


def with_metadata(graph: bytes, metadata: Mapping[str, str]) -> bytes:
    """The graph with texts among its metadata; those that it has stay where they are.

    Raises:
        InputError: If the package onnx is not installed.
        BitstreamError: If it is no ONNX model.
    """
    own = graph_metadata(graph)
    new = {key: text for key, text in metadata.items() if own.get(key) != text}
    if not new:
        return graph
    model = _parsed(graph)
    kept = [entry for entry in model.metadata_props if entry.key not in new]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    for key, text in new.items():
        model.metadata_props.add(key=key, value=text)
    return _serialised(model)


def text_constants(graph: bytes) -> list[str]:
    """Names of the constants of text in a graph, which no tensor of a network can be.

    Args:
        graph: The model without the tensors that left it, serialised; one that is no ONNX model, or cannot be read
            since the package onnx is not installed, has none.
    """
    try:
        model = _parsed(graph)
    except (BitstreamError, InputError):
        return []
    text = import_onnx().TensorProto.STRING
    return [each.key for each in constants(model) if each.tensor.data_type == text]


def check_only_tensors_matter(graph: bytes) -> None:
    """Checks that a graph holds no weights itself, so that its network is all there without it.

    Args:
        graph: The model without the tensors that left it, serialised; one that is no ONNX model, or cannot be read
            since the package onnx is not installed, is not checked.

    Raises:
        UnsupportedError: If it has numbers in it that no tensor of a network can be: sparse constants, and those of
            number formats that are not coded.
    """
    try:
        model = _parsed(graph)
    except (BitstreamError, InputError):
        return
    text, known = import_onnx().TensorProto.STRING, _known_types()
    found = {each.name: each.tensor.data_type for each in constants(model)}
    kept = [
        name
        for name, tensor in every_tensor(model)
        if _has_data(tensor)
        and tensor.data_type != text
        # Others than constants are sparse ones, and single values such as that of ConstantOfShape.
        and (found[name] not in known if name in found else _n_values(tensor) >= MIN_VALUES)
    ]
    if kept:
        names = ", ".join(shown(repr(name), 60) for name in kept[:3])
        raise UnsupportedError(
            f"{len(kept)} of its constants ({names}) stay in the graph of the ONNX model (sparse values, other number "
            "formats) and would be lost without it: write .nnc, or .onnx from .nnc"
        )


def put_together(graph: bytes, arrays: Mapping[str, Array | FloatBits]) -> Any:
    """The `ModelProto` of a graph and its constants.

    Raises:
        InputError: If the package onnx is not installed.
        BitstreamError: If the graph is damaged, has values in other files, or a constant of another type or shape.
    """
    model = _parsed(graph)
    external = import_onnx().TensorProto.EXTERNAL
    for name, tensor in every_tensor(model):
        if tensor.data_location == external:
            message = f"the graph has the values of {shown(repr(name), 60)} in another file"
            raise BitstreamError(message, field="topology_data")
    for constant in constants(model):
        if constant.key in arrays and not _has_data(constant.tensor):
            _fill(constant.key, constant.tensor, arrays[constant.key])
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
    with as_damage("no ONNX model"):
        model.ParseFromString(data)
    if not data:
        raise BitstreamError("no ONNX model: the file is empty")
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


def _keys(model: Any) -> dict[GraphPath, dict[str, str]]:
    """The keys of all constants by path and name."""
    keys: dict[GraphPath, dict[str, str]] = {}
    for each in constants(model):
        keys.setdefault(each.path, {})[each.name] = each.key
    return keys


def _known_types() -> set[int]:
    """Types of the number formats that are coded; older releases of onnx lack FLOAT8E8M0, INT2 and others."""
    return {number for name, number in import_onnx().TensorProto.DataType.items() if name in _FORMATS}


def _packed_format(tensor: Any) -> PackedFormat | None:
    """The type of a tensor whose values take fewer than eight bits; None of others."""
    data_type = import_onnx().TensorProto.DataType
    return PACKED_FORMATS.get(data_type.Name(tensor.data_type)) if tensor.data_type in data_type.values() else None


def _comes_back(tensor: Any) -> bool:
    """Whether a tensor's values give all its bits: those of fewer than eight may have others behind the last."""
    told = _packed_format(tensor)
    return told is None or is_plainly_packed(told, tensor)


def _is_coded(tensor: Any) -> bool:
    if _n_values(tensor) < MIN_VALUES or tensor.data_type not in _known_types():
        return False
    packed = _packed_format(tensor)
    if packed is not None:
        return packed_bytes(packed, _n_values(tensor)) > MAX_BYTES_IN_GRAPH and is_plainly_packed(packed, tensor)
    dtype = import_onnx().helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return dtype.kind not in "iub" or _n_values(tensor) * dtype.itemsize > MAX_BYTES_IN_GRAPH


def _n_values(tensor: Any) -> int:
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
        packed = _packed_format(tensor)
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


def _clear(tensor: Any) -> None:
    for field in _DATA_FIELDS:
        tensor.ClearField(field)


def _has_data(tensor: Any) -> bool:
    return any(len(getattr(tensor, field)) for field in _DATA_FIELDS)


def _fill(name: str, tensor: Any, array: Array | FloatBits) -> None:
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
