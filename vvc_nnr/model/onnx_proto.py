"""A `ModelProto` of ONNX from bytes and back, with all that lies in other files.

Texts are UTF-8 by the format; the reader of protocol buffers does not look, so it is checked here.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError, as_damage, shown, shown_name
from vvc_nnr.files import HEAD_BYTES, check_no_pointer, check_regular_file, open_input, remaining_bytes


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


def parsed(data: bytes) -> Any:
    """The `ModelProto` of its bytes.

    Raises:
        InputError: If the package onnx is not installed.
        BitstreamError: If they are none, or have texts that are no UTF-8.
    """
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


def serialised(model: Any) -> bytes:
    """The bytes of a `ModelProto`; raises UnsupportedError beyond 2 GiB."""
    try:
        data: bytes = model.SerializeToString()
    except Exception as error:  # protobuf's own kinds, by the version of it
        raise UnsupportedError(f"the model is too large for a file of ONNX (2 GiB): {error}") from error
    return data


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


def _loaded(path: Path | str, name: str, tensor: Any) -> int:
    """Reads the external data of a tensor; its size in bytes."""
    tensor.raw_data = _external_bytes(Path(path), name, {entry.key: entry.value for entry in tensor.external_data})
    tensor.ClearField("external_data")
    tensor.data_location = importlib.import_module("onnx").TensorProto.DEFAULT
    with as_damage(f"tensor {shown(repr(name))} is damaged"):
        importlib.import_module("onnx.numpy_helper").to_array(tensor)
    return len(tensor.raw_data)


# Of an offset in a file: 64 bits take 20.
_MAX_DIGITS = 20


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
