"""Batch norms folded into the convolutions before them, in a module that keeps its architecture.

The norm stays where it is but does no more than add its shift: scale 1, mean 0, variance 1. So the folded module has
the same names and shapes, loads wherever the original did, and computes the same; its norms cost hardly a byte.

    y = gamma * (w * x + b - mean) / sqrt(var + eps) + beta = (w' * x) / sqrt(1 + eps) + beta'

Which can be folded with equal outputs is told by a trace of the module. A norm stays where anything but its layer and
itself could see the change:

* the layer's output has another user, or layer or norm runs more than once;
* a parameter or statistic of theirs is held by another module, shares memory, or is read by the module's own code;
* a forward hook, a parametrisation, a class or a forward pass of one's own stands between parameters and output;
* the norm has no scale and shift, or normalises by each batch;
* the norm's channels are not the layer's outputs. Those of a linear layer are if its output has two dimensions, as
  behind a flattening, or between norms of different widths: of three, a norm takes the middle one.
"""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vvc_nnr.errors import InputError
from vvc_nnr.model.torch import copied_module, import_torch, is_module, is_tensor

CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")
LAYERS = (*CONVOLUTIONS, "Linear")
# In evaluation mode it is a batch norm of inputs of any dimensions.
ANY_DIMENSIONS = "SyncBatchNorm"
NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", ANY_DIMENSIONS)
# Modules and functions whose output has the shape of their first input, but for its last size.
_SAME_SHAPE = (
    "Linear", "BatchNorm1d", "Identity", "Dropout", "AlphaDropout", "ReLU", "ReLU6", "LeakyReLU", "PReLU", "ELU",
    "SELU", "GELU", "SiLU", "Mish", "Sigmoid", "Tanh", "Softplus", "Hardswish", "Hardtanh", "relu", "relu_", "relu6",
    "leaky_relu", "elu", "gelu", "silu", "mish", "sigmoid", "tanh", "dropout",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NormPairs:
    """What a trace tells.

    Attributes:
        pairs: Names of layers and of the norms that can be folded into them, in the order in which they run.
        kept: Names of all other norms that directly follow a layer, and why they stay.
    """

    pairs: tuple[tuple[str, str], ...]
    kept: Mapping[str, str]


def find_norm_pairs(module: Any) -> NormPairs:
    """The norms that directly follow a layer in every trace of a module in evaluation mode.

    Inputs of convolutions are taken to have their batch dimension.

    Raises:
        InputError: If the module cannot be traced: its path depends on what flows through it.
    """
    import_torch()
    first, *others = (_traced(module, defaults) for defaults in _ways_to_call(module))
    always = set(first.candidates).intersection(*(other.candidates for other in others))
    owners = memory_owners(module)
    pairs, kept = [], {}
    for layer, norm in first.candidates:
        reasons = (trace.reason_to_keep(layer, norm, owners) for trace in (first, *others))
        is_always = (layer, norm) in always
        reason = next(filter(None, reasons), None) if is_always else "it does not always directly follow its layer"
        if reason is None:
            pairs.append((layer, norm))
        else:
            kept[norm] = reason
    return NormPairs(tuple(pairs), kept)


def memory_owners(module: Any) -> Counter[int]:
    """In how many places of a module the tensors of one memory are held."""
    return Counter(_memory(tensor) for part in module.modules() for tensor in _tensors(part))


def fault_of_pair(layer: Any, norm: Any, owners: Counter[int]) -> str | None:
    """Why a norm cannot be folded into a layer, but for what a trace tells; None if it can.

    Args:
        layer: The layer.
        norm: The norm.
        owners: The `memory_owners` of the module that both are parts of.
    """
    if not (is_one_of(layer, LAYERS) and is_one_of(norm, NORMS)):
        return "parametrised, or of a class that may compute otherwise"
    kind = type(layer).__name__
    if type(norm).__name__ != ANY_DIMENSIONS and type(norm).__name__[-2:] != ("1d" if kind == "Linear" else kind[-2:]):
        return f"a {type(norm).__name__} takes other dimensions than a {kind} gives"
    n_out = layer.out_features if kind == "Linear" else layer.out_channels
    if norm.running_mean is None or norm.running_var is None:
        return "the norm has no statistics"
    if norm.num_features != n_out:
        return f"the norm has not the layer's {n_out} channels"
    if norm.weight is None or norm.bias is None:
        return "a norm without scale and shift has no place for the shift"
    if any(part._forward_hooks or part._forward_pre_hooks for part in (layer, norm)):
        return "one of them has a hook, as of spectral or weight norm"
    if any("forward" in vars(part) or not is_tensor(part._parameters.get("weight")) for part in (layer, norm)):
        return "one of them does not compute with parameters of its own as torch does"
    is_shared = any(owners[_memory(tensor)] > 1 for tensor in (*_tensors(layer), *_tensors(norm)))
    return "they share a parameter or statistic" if is_shared else None


def is_one_of(part: Any, kinds: tuple[str, ...]) -> bool:
    """Whether a module is of one of these classes of torch itself; classes derived from them may compute otherwise."""
    nn = import_torch().nn
    return any(type(part) is getattr(nn, kind) for kind in kinds)


@dataclass(frozen=True, slots=True, eq=False)
class _Trace:
    """One trace of a module.

    Attributes:
        module: The module.
        nodes: The graph.
        n_runs: Module to how often the trace runs it, also inside of others, by identity.
        read: Memory of tensors that the module's own code uses.
        flat: Names of nodes whose output has two dimensions.
    """

    module: Any
    nodes: list[Any]
    n_runs: Counter[int]
    read: set[int]
    flat: set[str]

    @property
    def candidates(self) -> Iterator[tuple[str, str]]:
        """Layers and the norms that directly follow them."""
        for node in self.nodes:
            before: Any = node.args[0] if node.args else None
            if node.op == "call_module" and getattr(before, "op", "") == "call_module":
                parts = self.module.get_submodule(before.target), self.module.get_submodule(node.target)
                if isinstance(parts[0], _classes(LAYERS)) and isinstance(parts[1], _classes(NORMS)):
                    yield before.target, node.target

    def reason_to_keep(self, layer_name: str, norm_name: str, owners: Counter[int]) -> str | None:
        """Why a norm cannot be folded into the layer before it, None if it can."""
        layer, norm = self.module.get_submodule(layer_name), self.module.get_submodule(norm_name)
        if self.n_runs[id(layer)] != 1 or self.n_runs[id(norm)] != 1:
            return "layer or norm runs more than once"
        node = next(node for node in self.nodes if node.op == "call_module" and node.target == layer_name)
        if len(node.users) != 1:
            return "the layer's output has other users"
        fault = fault_of_pair(layer, norm, owners)
        if fault:
            return fault
        if any(_memory(tensor) in self.read for part in (layer, norm) for tensor in _tensors(part)):
            return "the module's own code uses a parameter or statistic of them"
        if is_one_of(layer, ("Linear",)) and node.name not in self.flat:
            return "its input may have more than two dimensions (if it never has: name the pair)"
        return None


def _classes(kinds: tuple[str, ...]) -> tuple[type, ...]:
    nn = import_torch().nn
    return tuple(getattr(nn, kind) for kind in kinds)


def _ways_to_call(module: Any) -> list[dict[str, Any]]:
    """Values of arguments that a trace fixes: none, and those that have defaults."""
    parameters = inspect.signature(module.forward).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    return [{}, defaults] if defaults else [{}]


def _traced(module: Any, fixed: Mapping[str, Any]) -> _Trace:
    import torch
    from torch import fx
    from torch.overrides import TorchFunctionMode

    read: set[int] = set()

    class Watch(TorchFunctionMode):
        """Notes the tensors, other than stand-ins, that functions of torch get."""

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if not isinstance(result, torch.dtype | torch.device | torch.Size | torch.layout):
                fx.node.map_aggregate((args, kwargs or {}), note)
            return result

    def note(value: Any) -> Any:
        if is_tensor(value):
            read.add(_memory(value))
        return value

    try:
        with Watch():
            nodes = list(fx.Tracer().trace(module, dict(fixed) or None).nodes)
    except Exception as error:  # whatever the module's own code raises on stand-ins of tensors
        raise InputError(f"the module cannot be traced ({error}): name the pairs of layers and norms") from error
    by_name = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    read.update(_memory(by_name[node.target]) for node in nodes if node.op == "get_attr" and node.target in by_name)
    called = [node.target for node in nodes if node.op == "call_module"]
    n_runs = Counter(id(part) for name in called for part in module.get_submodule(name).modules())
    return _Trace(module, nodes, n_runs, read, _flat_nodes(module, nodes))


def _tensors(part: Any) -> list[Any]:
    """Parameters and buffers of a module, and tensors in its attributes."""
    held = [*part._parameters.values(), *part._buffers.values(), *vars(part).values()]
    return [value for value in held if is_tensor(value)]


def _memory(tensor: Any) -> int:
    """Where a tensor's values lie; views of one memory have the same place."""
    try:
        return int(tensor.untyped_storage().data_ptr()) or id(tensor)
    except (NotImplementedError, RuntimeError):  # kinds of tensors without memory of their own
        return id(tensor)


def _flat_nodes(module: Any, nodes: list[Any]) -> set[str]:
    """Nodes whose output surely has two dimensions.

    What follows a flattening without a change of shape has two. And of outputs that share all sizes but the last, and
    have three dimensions, all one-dimensional norms have the width of the middle one: different widths tell of two.
    """
    source: dict[str, str] = {}
    flat: set[str] = set()
    widths: dict[str, set[int]] = {}
    for node in nodes:
        part = module.get_submodule(node.target) if node.op == "call_module" else None
        before: Any = node.args[0] if node.args else None
        keeps_shape = _kind(node, part) in _SAME_SHAPE and hasattr(before, "op")
        source[node.name] = source[before.name] if keeps_shape else node.name
        if _flattens(node, part):
            flat.add(node.name)
        if part is not None and is_one_of(part, ("BatchNorm1d",)):
            widths.setdefault(source[node.name], set()).add(part.num_features)
    flat.update(name for name, found in widths.items() if len(found) > 1)
    return {name for name, origin in source.items() if origin in flat}


def _kind(node: Any, part: Any) -> str:
    """The class of a node's module of torch, or the name of its function or method."""
    if part is not None:
        return type(part).__name__ if type(part).__module__.startswith("torch.nn.modules.") else ""
    target = node.target if node.op in ("call_function", "call_method") else ""
    is_foreign = not str(getattr(target, "__module__", None) or "torch").startswith("torch")
    return target if isinstance(target, str) else "" if is_foreign else str(getattr(target, "__name__", ""))


def _flattens(node: Any, part: Any) -> bool:
    """Whether a node's output has two dimensions whatever its input has."""
    kind = _kind(node, part)
    if part is not None:
        return kind == "Flatten" and (part.start_dim, part.end_dim) == (1, -1)
    if kind == "flatten":
        ends = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | dict(node.kwargs)
        return ends in ({"start_dim": 1}, {"start_dim": 1, "end_dim": -1})
    if kind in ("view", "reshape"):
        sizes = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], tuple | list) else node.args[1:]
        return len(sizes) == 2 and not node.kwargs and all(not isinstance(size, tuple | list) for size in sizes)
    return False


_SHOWN = 5
_log = logging.getLogger(__name__)


def fold_batch_norms(module: Any, pairs: Iterable[tuple[str, str]] | None = None) -> Any:
    """A copy of a module whose batch norms are folded as far as they directly follow a convolution or linear layer.

    Those that cannot be folded with equal outputs stay as they are, and a logged warning names them
    (docs/roles.md tells when).

    Args:
        module: A torch module, in evaluation mode as it computes in evaluation mode; or an ONNX `ModelProto`, whose
            folded norms leave its graph (`vvc_nnr.model.onnx_norms` tells more).
        pairs: Names of layers and of the norms that alone use their outputs, one of two dimensions for linear layers;
            None: found by tracing the module. A graph tells them itself.

    Raises:
        InputError: If it is neither, cannot be traced, a pair cannot be folded, or norms follow layers but none can.
        UnsupportedError: If the module cannot be copied.
        BitstreamError: If a tensor of the `ModelProto` is damaged.
    """
    from vvc_nnr.model.onnx_proto import is_model_proto

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
    known = {*found.kept, *(norm for _, norm in found.pairs)}
    kept = dict(found.kept) | {name: reason for name, reason in _other_norms(module) if name not in known}
    n_norms = len(kept) + len(found.pairs)
    for layer_name, norm_name in found.pairs:
        fault = _fold(module.get_submodule(layer_name), module.get_submodule(norm_name))
        if fault:
            kept[norm_name] = fault
    if kept and len(kept) == n_norms:
        raise InputError(f"fold_batch_norms: no batch norm can be folded: {_listed(kept)}")
    if kept:
        _log.warning("%d batch norms stay as they are: %s", len(kept), _listed(kept))


def _other_norms(module: Any) -> Iterator[tuple[str, str]]:
    """Names of all parts that normalise by statistics of their own, and why those that follow no layer stay."""
    for name, part in module.named_modules():
        if is_tensor(getattr(part, "running_mean", None)):
            kind = type(part).__name__
            yield name, "it does not directly follow a layer" if is_one_of(part, NORMS) else f"a {kind} is not folded"


def _listed(kept: Mapping[str, str]) -> str:
    told = [f"{name!r}: {reason}" for name, reason in list(kept.items())[:_SHOWN]]
    return "; ".join([*told, "..."] if len(kept) > _SHOWN else told)


def _folded_onnx(model: Any, pairs: Iterable[tuple[str, str]] | None) -> Any:
    if pairs is not None:
        raise InputError("fold_batch_norms: pairs are for torch modules, an ONNX graph tells them itself")
    from vvc_nnr.model.onnx_norms import fold_onnx

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
