"""Roles from the types of a torch module's parts, which are surer than names.

Types are told by the names of their classes and base classes, so that no package has to be imported for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vvc_nnr.bitstream.number_formats import Array, FloatBits, NamedArrays, is_float, number_format_of, shape_of
from vvc_nnr.roles.by_name import by_values, entropy_role, float8_scales, named_roles, normed_roles
from vvc_nnr.roles.roles import Role, TensorRole

_NORMS = frozenset({"_NormBase", "_BatchNorm", "LayerNorm", "GroupNorm", "RMSNorm", "LayerNorm2d", "FrozenBatchNorm2d"})
_LINEAR = frozenset(
    {"_ConvNd", "Linear", "Embedding", "EmbeddingBag", "Bilinear", "RNNBase", "RNNCellBase", "MultiheadAttention"}
)
_BY_OWN_NAME = {
    "running_mean": Role.MEAN,
    "running_var": Role.VARIANCE,
    "num_batches_tracked": Role.COUNTER,
    "weight": Role.NORM_SCALE,
    "bias": Role.NORM_SHIFT,
}


def module_roles(module: Any, arrays: NamedArrays) -> dict[str, TensorRole]:
    """The role of every tensor of a torch module's state dict; where types say nothing, names do.

    Args:
        module: The module.
        arrays: Its state dict as arrays.
    """
    told, by_structure = dict(_told_by_types(module)), normed_roles(arrays).keys() | float8_scales(arrays)
    roles = {
        name: by_values(told[name](shape_of(array)), array) if name in told and name not in by_structure else guess
        for (name, array), guess in zip(arrays.items(), named_roles(arrays).values(), strict=True)
    }
    return {name: _checked(name, role, arrays[name]) for name, role in roles.items()}


def _checked(name: str, role: TensorRole, array: Array | FloatBits) -> TensorRole:
    """The role, but for those that the number format or the name decides."""
    if role.role is Role.ENTROPY_TABLE:
        return TensorRole(entropy_role(name, array), role.reason)
    return (
        role
        if is_float(number_format_of(name, array)) or role.role is Role.COUNTER
        else TensorRole(Role.CONSTANT, "integers")
    )


class _Told:
    """A role that may depend on a shape."""

    __slots__ = ("of_vector", "reason", "role")

    def __init__(self, role: Role, kind: str, of_vector: Role | None = None) -> None:
        self.role, self.of_vector, self.reason = role, of_vector or role, f"module {kind}"

    def __call__(self, shape: tuple[int, ...]) -> TensorRole:
        return TensorRole(self.role if len(shape) > 1 else self.of_vector, self.reason)


def _told_by_types(module: Any) -> Iterator[tuple[str, _Told]]:
    """Name and role of the tensors whose module's type is known, and of all buffers."""
    entropy_models: list[str] = []
    for prefix, part in module.named_modules():
        kind, bases = type(part).__name__, {base.__name__ for base in type(part).__mro__}
        if "EntropyModel" in bases:
            entropy_models.append(prefix)
        buffers = {name for name, _ in part.named_buffers(recurse=False)}
        for own in (*(name for name, _ in part.named_parameters(recurse=False)), *buffers):
            name = f"{prefix}.{own}" if prefix else own
            if any(prefix == model or prefix.startswith(f"{model}.") for model in entropy_models):
                yield name, _Told(Role.ENTROPY_TABLE, "EntropyModel")
            elif bases & _NORMS and own in _BY_OWN_NAME:
                yield name, _Told(_BY_OWN_NAME[own], kind)
            elif "GDN" in bases and own in ("beta", "gamma"):
                yield name, _Told(Role.GDN, kind)
            elif own in buffers and own not in _BY_OWN_NAME:
                yield name, _Told(Role.CONSTANT, f"{kind}, a buffer")
            elif bases & _LINEAR and own not in buffers:
                # a bias may have a row for each of several conditions
                yield name, _Told(Role.BIAS if own == "bias" else Role.WEIGHT, kind, of_vector=Role.BIAS)
