"""Batch norms folded into the convolutions before them, in a module that keeps its architecture.

The norm stays where it is but does no more than add its shift: scale 1, mean 0, variance 1. So the folded module has
the same names and shapes, loads wherever the original did, and computes the same; its norms cost hardly a byte.

    y = gamma * (w * x + b - mean) / sqrt(var + eps) + beta = (w' * x) / sqrt(1 + eps) + beta'
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from vvc_nnr.errors import InputError
from vvc_nnr.folding.norm_pairs import LAYERS, NORMS, fault_of_pair, find_norm_pairs, memory_owners
from vvc_nnr.model.torch import copied_module, import_torch, is_module

_SHOWN = 5
_log = logging.getLogger(__name__)


def fold_batch_norms(module: Any, pairs: Iterable[tuple[str, str]] | None = None) -> Any:
    """A copy of a module whose batch norms are folded as far as they directly follow a convolution or linear layer.

    Those that cannot be folded with equal outputs stay as they are, and a logged warning names them
    (`vvc_nnr.folding.norm_pairs` tells when).

    Args:
        module: A torch module, in evaluation mode as it computes in evaluation mode; or an ONNX `ModelProto`, whose
            folded norms leave its graph (`vvc_nnr.folding.onnx_norms` tells more).
        pairs: Names of layers and of the norms that alone use their outputs, one of two dimensions for linear layers;
            None: found by tracing the module. A graph tells them itself.

    Raises:
        InputError: If it is neither, cannot be traced, a pair cannot be folded, or norms follow layers but none can.
        UnsupportedError: If the module cannot be copied.
        BitstreamError: If a tensor of the `ModelProto` is damaged.
    """
    from vvc_nnr.model.onnx import is_model_proto

    if is_model_proto(module):
        return _folded_onnx(module, pairs)
    if not is_module(module):
        raise InputError(f"fold_batch_norms: must be a torch module or ModelProto, got {type(module).__name__}")
    folded = copied_module(module).eval()
    if pairs is None:
        _fold_found(folded)
        return folded
    for layer_name, norm_name in pairs:
        layer, norm = _part(folded, layer_name, LAYERS), _part(folded, norm_name, NORMS)
        fault = fault_of_pair(layer, norm, memory_owners(folded)) or _fold(layer, norm)
        if fault:
            raise InputError(f"fold_batch_norms: {layer_name}, {norm_name}: {fault}")
    return folded


def _fold_found(module: Any) -> None:
    """Folds in place what a trace finds, and tells what stays."""
    found = find_norm_pairs(module)
    kept = dict(found.kept)
    for layer_name, norm_name in found.pairs:
        fault = _fold(module.get_submodule(layer_name), module.get_submodule(norm_name))
        if fault:
            kept[norm_name] = fault
    if kept and len(kept) == len(found.kept) + len(found.pairs):
        raise InputError(f"fold_batch_norms: no batch norm can be folded: {_listed(kept)}")
    if kept:
        _log.warning("%d batch norms stay as they are: %s", len(kept), _listed(kept))


def _listed(kept: Mapping[str, str]) -> str:
    told = [f"{name!r}: {reason}" for name, reason in list(kept.items())[:_SHOWN]]
    return "; ".join([*told, "..."] if len(kept) > _SHOWN else told)


def _folded_onnx(model: Any, pairs: Iterable[tuple[str, str]] | None) -> Any:
    if pairs is not None:
        raise InputError("fold_batch_norms: pairs are for torch modules, an ONNX graph tells them itself")
    from vvc_nnr.folding.onnx_norms import fold_onnx

    return fold_onnx(model)


def _part(module: Any, name: str, kinds: tuple[str, ...]) -> Any:
    try:
        part = module.get_submodule(name)
    except AttributeError:
        raise InputError(f"fold_batch_norms: the module has no part {name!r}") from None
    if type(part).__name__ not in kinds:
        raise InputError(f"fold_batch_norms: {name!r} is a {type(part).__name__}; must be one of {', '.join(kinds)}")
    return part


def _fold(layer: Any, norm: Any) -> str | None:
    """Folds in place; why not, if a value would not be finite."""
    torch = import_torch()
    with torch.no_grad():
        gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        before = 0 if layer.bias is None else layer.bias.double()
        shift = ((before - norm.running_mean.double()) * gain + norm.bias.double()).to(norm.bias.dtype)
        weight = layer.weight.double() * _over_outputs(gain * (1 + norm.eps) ** 0.5, layer)
        weight = weight.to(layer.weight.dtype)
        if not (bool(torch.isfinite(weight).all()) and bool(torch.isfinite(shift).all())):
            return "a folded value would not be finite"
        layer.weight.copy_(weight)
        norm.bias.copy_(shift)
        if layer.bias is not None:
            layer.bias.zero_()
        norm.weight.fill_(1)
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
    return None


def _over_outputs(gain: Any, layer: Any) -> Any:
    """A factor for each output, in the shape of the layer's weight."""
    n_dimensions = layer.weight.ndim
    if "Transpose" not in type(layer).__name__:
        return gain.view(-1, *[1] * (n_dimensions - 1))
    n_in = layer.weight.shape[0]
    by_group = gain.view(layer.groups, 1, -1).expand(-1, n_in // layer.groups, -1)
    return by_group.reshape(n_in, -1, *[1] * (n_dimensions - 2))
