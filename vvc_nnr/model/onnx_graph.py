"""The graph of a coded ONNX model, serialised, without the tensors that left it: what is in it, and what it lacks."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError, shown, shown_names
from vvc_nnr.model.onnx_constants import (
    MIN_VALUES,
    clear,
    coded_types,
    comes_back,
    constant_array,
    constants,
    has_data,
    keys_of_constants,
    n_values,
    packed_constants,
)
from vvc_nnr.model.onnx_proto import every_tensor, import_onnx, parsed, serialised
from vvc_nnr.roles.by_name import named_roles
from vvc_nnr.roles.by_onnx_node import operator_roles
from vvc_nnr.roles.roles import TensorRole


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
        model = parsed(graph)
    except (BitstreamError, InputError):
        return {}
    names = {constant.key for constant in constants(model)}
    own = {name: array for name, array in arrays.items() if name in names}
    by_operator = operator_roles(model, own, keys_of_constants(model))
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
        model = parsed(graph)
    except (BitstreamError, InputError):
        return {}
    check_only_tensors_matter(graph)
    known = coded_types()
    return {
        each.key: constant_array(each.key, each.tensor)
        for each in constants(model)
        if each.key not in taken and each.tensor.data_type in known and has_data(each.tensor)
    }


def packed_types(graph: bytes, names: Container[str]) -> dict[str, str]:
    """The types in ONNX, such as "INT4", of the tensors whose values are packed in the file, several in a byte.

    Args:
        graph: The model without its tensors.
        names: Of those that were taken out.

    Raises:
        InputError: If the package onnx is not installed.
    """
    return packed_constants(parsed(graph), names)


def keeps_constants(graph: bytes) -> bool:
    """Whether a graph has constants of its own, as small ones are; False of one that cannot be read."""
    try:
        model = parsed(graph)
    except (BitstreamError, InputError):
        return False
    return any(has_data(each.tensor) for each in constants(model))


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
    model, known, arrays = parsed(graph), coded_types(), dict(taken)
    for constant in constants(model):
        tensor = constant.tensor
        is_own = constant.key not in taken and tensor.data_type in known and has_data(tensor)
        if is_own and comes_back(tensor):
            arrays[constant.key] = constant_array(constant.key, constant.tensor)
            clear(constant.tensor)
    return serialised(model), arrays


def difference_of_graphs(base: bytes, new: bytes) -> str:
    """What the graphs of two models differ in, such as an operator; "" if in nothing that is computed.

    Descriptions do not count: what made the model and when, texts for people, metadata.

    Args:
        base: A model without its tensors, as `without_constants` gives it.
        new: The other one.
    """
    models = [parsed(graph) for graph in (base, new)]
    for model in models:
        for name in ("producer_name", "producer_version", "model_version", "doc_string", "metadata_props"):
            model.ClearField(name)
        for graph in (model.graph, *model.functions):
            graph.ClearField("doc_string")
    for nodes in zip(*(model.graph.node for model in models), strict=False):
        for node in nodes:
            node.ClearField("doc_string")
        if nodes[0] != nodes[1]:
            kinds = " and ".join(dict.fromkeys(f"{node.op_type} {shown(node.name, 200)}".strip() for node in nodes))
            return f"the operator {kinds}"
    counts = [len(model.graph.node) for model in models]
    if counts[0] != counts[1]:
        return f"the number of operators, {counts[0]} and {counts[1]}"
    kept = [{name: tensor for name, tensor in every_tensor(model) if has_data(tensor)} for model in models]
    names = [name for name in {**kept[0], **kept[1]} if kept[0].get(name) != kept[1].get(name)]
    if names:
        return f"the constant {shown(names[0], 200)!r}, which no tensor of a network can be"
    return "" if models[0] == models[1] else "inputs, outputs, functions or versions"


def graph_metadata(graph: bytes) -> dict[str, str]:
    """The texts of a model's metadata by key (`metadata_props`).

    Args:
        graph: The model, serialised, with or without its tensors; one that is no ONNX model, or cannot be read since
            the package onnx is not installed, has none.
    """
    try:
        model = parsed(graph)
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
    model = parsed(graph)
    kept = [entry for entry in model.metadata_props if entry.key not in new]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    for key, text in new.items():
        model.metadata_props.add(key=key, value=text)
    return serialised(model)


def text_constants(graph: bytes) -> list[str]:
    """Names of the constants of text in a graph, which no tensor of a network can be.

    Args:
        graph: The model without the tensors that left it, serialised; one that is no ONNX model, or cannot be read
            since the package onnx is not installed, has none.
    """
    try:
        model = parsed(graph)
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
        model = parsed(graph)
    except (BitstreamError, InputError):
        return
    text, known = import_onnx().TensorProto.STRING, coded_types()
    found = {each.name: each.tensor.data_type for each in constants(model)}
    kept = [
        name
        for name, tensor in every_tensor(model)
        if has_data(tensor)
        and tensor.data_type != text
        # Others than constants are sparse ones, and single values such as that of ConstantOfShape.
        and (found[name] not in known if name in found else n_values(tensor) >= MIN_VALUES)
    ]
    if kept:
        names = shown_names(map(repr, kept), 3)
        raise UnsupportedError(
            f"{len(kept)} of its constants ({names}) stay in the graph of the ONNX model (sparse values, other number "
            "formats) and would be lost without it: write .nnc, or .onnx from .nnc"
        )
