"""External data of an ONNX model: values of its tensors that lie in files beside it, read into the model."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vvc_nnr.errors import BitstreamError, InputError, shown


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
