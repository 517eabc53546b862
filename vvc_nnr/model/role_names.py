"""Roles from what a bare state dict tells: names, shapes, number formats and values.

A name is the module's path, a dot, and the tensor's own name. What stands beside a tensor in the same module says most:
a running variance makes it a batch norm, a table of cumulated frequencies an entropy model.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from vvc_nnr.model.roles import Role, TensorRole
from vvc_nnr.number_formats import Array, Bfloat16Bits, NamedArrays, format_of, shape_of
from vvc_nnr.quantize.grid import has_whole_values

# Own names in an entropy model of CompressAI, older ones with numbers in place of lists.
_ENTROPY_MARKS = frozenset({"quantiles", "_quantized_cdf", "_cdf_length", "scale_table"})
# What its tables were made of: the weights of the small networks that are its cumulative distributions.
_ENTROPY_PARAMETER = re.compile(r"\.(_?(matrix|bias|factor)\d+|(matrices|biases|factors)\.\d+)$")
_COUNTERS = frozenset({"num_batches_tracked", "global_step", "step", "n_averaged"})
_VARIANCES = frozenset({"running_var", "moving_variance", "moving_var"})
_MEANS = frozenset({"running_mean", "moving_mean"})
_NORM = re.compile(r"(?i)(^|[._])(bn|gn|ln|in|norm|batch_?norm|layer_?norm|group_?norm)\d*([._]|$)|norm\d*$")
_CONSTANT = re.compile(
    r"(?i)(^|[._])(mask|attn_mask|bound|scale_bound|pedestal|anchors?|anchor_grid|strides?|grid|inv_freq|freqs?|"
    r"scale_table|mean|std|position_ids|relative_position_index|target|zero_point|window|kernel|filt|fir)$"
)


def named_roles(arrays: NamedArrays) -> dict[str, TensorRole]:
    """The role of every tensor of a state dict."""
    siblings: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for name, array in arrays.items():
        prefix, _, own = name.rpartition(".")
        siblings[prefix][own] = shape_of(array)
    entropy_models = tuple(prefix for prefix, own in siblings.items() if own.keys() & _ENTROPY_MARKS)
    return {name: _role(name, array, siblings, entropy_models) for name, array in arrays.items()}


def entropy_role(name: str, array: Array | Bfloat16Bits) -> Role:
    """The role of a tensor of an entropy model: a parameter of its distributions, or one of its tables."""
    is_float = format_of(name, array).startswith(("float", "bfloat"))
    return Role.ENTROPY_PARAMETER if is_float and _ENTROPY_PARAMETER.search(name) else Role.ENTROPY_TABLE


def by_values(role: TensorRole, array: Array | Bfloat16Bits) -> TensorRole:
    """The role, but for weights of whole and half numbers, which are none: positions, masks, fixed filters."""
    if role.role is Role.WEIGHT and has_whole_values(array):
        return TensorRole(Role.CONSTANT, "whole values")
    return role


def _role(
    name: str,
    array: Array | Bfloat16Bits,
    siblings: Mapping[str, Mapping[str, tuple[int, ...]]],
    entropy_models: tuple[str, ...],
) -> TensorRole:
    prefix, _, own = name.rpartition(".")
    if any(prefix == model or prefix.startswith(f"{model}.") for model in entropy_models if model):
        return TensorRole(entropy_role(name, array), "tensors beside it")
    if own in _COUNTERS and not shape_of(array):
        return TensorRole(Role.COUNTER, "name")
    if not format_of(name, array).startswith(("float", "bfloat")):
        return TensorRole(Role.CONSTANT, "integers")
    beside = siblings[prefix]
    if own in ("beta", "gamma") and _is_gdn(prefix, siblings):
        return TensorRole(Role.GDN, "tensors beside it")
    return by_values(_float_role(name, own, shape_of(array), beside), array)


def _is_gdn(prefix: str, siblings: Mapping[str, Mapping[str, tuple[int, ...]]]) -> bool:
    """Whether beta (N) and gamma (N, N) or (N, N, 1, 1), or what keeps them positive, stand side by side."""
    own = siblings[prefix]
    beta, gamma = own.get("beta", ()), own.get("gamma", ())
    is_square = len(beta) == 1 and len(gamma) > 1 and gamma[:2] == beta * 2
    return is_square or f"{prefix}.beta_reparam" in siblings


def _float_role(name: str, own: str, shape: tuple[int, ...], beside: Mapping[str, tuple[int, ...]]) -> TensorRole:
    """The role of a float tensor by its own name, its module's name and its number of dimensions."""
    if own in _VARIANCES:
        return TensorRole(Role.VARIANCE, "name")
    if own in _MEANS:
        return TensorRole(Role.MEAN, "name")
    if _CONSTANT.search(name):
        return TensorRole(Role.CONSTANT, "name")
    if not shape:
        return TensorRole(Role.CONSTANT, "scalar")
    if sum(side > 1 for side in shape) > 1 or (len(shape) > 1 and own.startswith("weight")):
        return TensorRole(Role.WEIGHT, "shape")
    return _vector_role(name, own, beside)


def _vector_role(name: str, own: str, beside: Mapping[str, tuple[int, ...]]) -> TensorRole:
    is_norm = bool(beside.keys() & (_VARIANCES | _MEANS)) or _NORM.search(name.rpartition(".")[0]) is not None
    if own in ("weight", "gamma", "scale"):
        return TensorRole(Role.NORM_SCALE, "tensors beside it" if is_norm else "shape")
    if is_norm or own == "beta":
        return TensorRole(Role.NORM_SHIFT, "tensors beside it" if is_norm else "name")
    return TensorRole(Role.BIAS, "name" if own.endswith("bias") else "shape")
