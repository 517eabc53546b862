"""Batch norms folded into the convolutions before them, in a module that keeps its architecture.

The norm stays where it is but does no more than add its shift: scale 1, mean 0, variance 1. So the folded module has
the same names and shapes, loads wherever the original did, and computes the same; its norms cost hardly a byte.

    y = gamma * (w * x + b - mean) / sqrt(var + eps) + beta = (w' * x) / sqrt(1 + eps) + beta'
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from vvc_nnr.errors import InputError
from vvc_nnr.model.torch import import_torch, is_module

_CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Linear")
_NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")


def fold_batch_norms(module: Any, pairs: Iterable[tuple[str, str]] | None = None) -> Any:
    """A copy of a module whose batch norms are folded as far as they directly follow a convolution or linear layer.

    Args:
        module: A torch module, in evaluation mode as it computes in evaluation mode; or an ONNX `ModelProto`, whose
            folded norms leave its graph (`vvc_nnr.model.onnx_folding` tells more).
        pairs: Names of layers and of the norms that alone use their outputs; None: found by tracing the module. A
            graph tells them itself.

    Raises:
        InputError: If it is neither, cannot be traced, or a pair is none of a layer and its norm.
        BitstreamError: If a tensor of the `ModelProto` is damaged.
    """
    from vvc_nnr.model.onnx import is_model_proto

    if is_model_proto(module):
        return _folded_onnx(module, pairs)
    if not is_module(module):
        raise InputError(f"fold_batch_norms: a torch module or ModelProto is wanted, got {type(module).__name__}")
    folded = copy.deepcopy(module).eval()
    for layer_name, norm_name in traced_pairs(folded) if pairs is None else pairs:
        _fold(_part(folded, layer_name, _CONVOLUTIONS), _part(folded, norm_name, _NORMS), f"{layer_name}, {norm_name}")
    return folded


def traced_pairs(module: Any) -> list[tuple[str, str]]:
    """Names of layers and of the batch norms that alone use their outputs.

    Raises:
        InputError: If the module cannot be traced: its path depends on what flows through it.
    """
    import_torch()
    from torch import fx

    try:
        nodes = fx.symbolic_trace(module).graph.nodes
    except Exception as error:  # whatever the module's own code raises on stand-ins of tensors
        raise InputError(f"the module cannot be traced ({error}): name the pairs of layers and norms") from error
    called = [node for node in nodes if node.op == "call_module"]
    n_calls = {node.target: sum(other.target == node.target for other in called) for node in called}
    pairs = []
    for node in called:
        before: Any = node.args[0] if node.args else None
        if getattr(before, "op", "") != "call_module" or len(before.users) != 1:
            continue
        kinds = type(module.get_submodule(before.target)).__name__, type(module.get_submodule(node.target)).__name__
        if kinds[0] in _CONVOLUTIONS and kinds[1] in _NORMS and n_calls[before.target] == n_calls[node.target] == 1:
            pairs.append((before.target, node.target))
    return pairs


def _folded_onnx(model: Any, pairs: Iterable[tuple[str, str]] | None) -> Any:
    if pairs is not None:
        raise InputError("fold_batch_norms: pairs are for torch modules, an ONNX graph tells them itself")
    from vvc_nnr.model.onnx_folding import fold_onnx

    return fold_onnx(model)


def _part(module: Any, name: str, kinds: tuple[str, ...]) -> Any:
    try:
        part = module.get_submodule(name)
    except AttributeError:
        raise InputError(f"fold_batch_norms: the module has no part {name!r}") from None
    if type(part).__name__ not in kinds:
        raise InputError(f"fold_batch_norms: {name!r} is a {type(part).__name__}, one of {', '.join(kinds)} is wanted")
    return part


def _fold(layer: Any, norm: Any, names: str) -> None:
    torch = import_torch()
    is_transposed = "Transpose" in type(layer).__name__
    n_out = layer.weight.shape[1] * layer.groups if is_transposed else layer.weight.shape[0]
    if norm.running_var is None or norm.running_var.numel() != n_out:
        raise InputError(f"fold_batch_norms: {names}: the norm has not the layer's {n_out} channels, or no statistics")
    if not norm.affine:
        raise InputError(f"fold_batch_norms: {names}: a norm without scale and shift has no place for the shift")
    with torch.no_grad():
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        before = 0 if layer.bias is None else layer.bias
        norm.bias.copy_((before - norm.running_mean) * gain + norm.bias)
        layer.weight.mul_(_over_outputs(gain * (1 + norm.eps) ** 0.5, layer, is_transposed))
        if layer.bias is not None:
            layer.bias.zero_()
        norm.weight.fill_(1)
        norm.running_mean.zero_()
        norm.running_var.fill_(1)


def _over_outputs(gain: Any, layer: Any, is_transposed: bool) -> Any:
    """A factor for each output, in the shape of the layer's weight."""
    n_dimensions = layer.weight.ndim
    if not is_transposed:
        return gain.view(-1, *[1] * (n_dimensions - 1))
    n_in = layer.weight.shape[0]
    by_group = gain.view(layer.groups, 1, -1).expand(-1, n_in // layer.groups, -1)
    return by_group.reshape(n_in, -1, *[1] * (n_dimensions - 2))
