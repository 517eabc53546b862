"""Batch norms of an ONNX model folded into the layers before them.

The graph travels with its tensors, so the norms leave it, and their four tensors with them:

    y = gamma * (w * x + b - mean) / sqrt(var + eps) + beta = (gain * w) * x + (gain * (b - mean) + beta)

Left as they are: norms in training mode; those of branches, loops and functions; those whose layer's output or weight
something else uses; those with a tensor that is computed, or that a caller may replace; and those whose folded values
are not finite in their number format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vvc_nnr.bitstream.number_formats import Array, Bfloat16Bits
from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.folding.onnx_editing import DEFAULT_DOMAINS, EditedGraph, Values, attribute_of, edited
from vvc_nnr.model.onnx import OnnxModel, import_onnx, put_together, take_apart
from vvc_nnr.model.onnx_texts import check_texts

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


def fold_arrays(graph: bytes, arrays: Mapping[str, Array | Bfloat16Bits], n_bytes: int) -> OnnxModel:
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
