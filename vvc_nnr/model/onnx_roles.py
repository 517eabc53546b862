"""Roles of an ONNX model's constants: which input of which operator they are."""

from __future__ import annotations

from typing import Any

from vvc_nnr.model.role_names import by_values
from vvc_nnr.model.roles import Role, TensorRole
from vvc_nnr.number_formats import NamedArrays, format_of, shape_of

_NORM = (None, Role.NORM_SCALE, Role.NORM_SHIFT)
_RECURRENT = (None, Role.WEIGHT, Role.WEIGHT, Role.BIAS)
# Operator to the roles of its inputs in order.
_INPUTS: dict[str, tuple[Role | None, ...]] = {
    "Conv": (None, Role.WEIGHT, Role.BIAS),
    "ConvTranspose": (None, Role.WEIGHT, Role.BIAS),
    "Gemm": (Role.WEIGHT, Role.WEIGHT, Role.BIAS),
    "MatMul": (Role.WEIGHT, Role.WEIGHT),
    "BatchNormalization": (*_NORM, Role.MEAN, Role.VARIANCE),
    "InstanceNormalization": _NORM,
    "LayerNormalization": _NORM,
    "GroupNormalization": _NORM,
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "RNN": _RECURRENT,
    "Gather": (Role.WEIGHT, None),
    "PRelu": (None, Role.NORM_SCALE),
    "Add": (Role.BIAS, Role.BIAS),
    "Sub": (Role.BIAS, Role.BIAS),
    "Mul": (Role.NORM_SCALE, Role.NORM_SCALE),
    "Div": (Role.NORM_SCALE, Role.NORM_SCALE),
}


def operator_roles(graph: Any, arrays: NamedArrays) -> dict[str, TensorRole]:
    """The role of every constant by the first operator that uses it; floats that none of these uses are exact.

    Args:
        graph: A `GraphProto`.
        arrays: Its constants.
    """
    uses: dict[str, TensorRole] = {}
    for node in graph.node:
        roles = _INPUTS.get(node.op_type, ())
        for place, name in enumerate(node.input):
            role = roles[place] if place < len(roles) else None
            if name in arrays and name not in uses:
                uses[name] = TensorRole(role or Role.CONSTANT, f"input {place} of {node.op_type}")
    return {name: _told(name, uses.get(name), arrays) for name in arrays}


def _told(name: str, use: TensorRole | None, arrays: NamedArrays) -> TensorRole:
    array = arrays[name]
    if not format_of(name, array).startswith(("float", "bfloat")):
        return TensorRole(Role.CONSTANT, "integers")
    if use is None:
        return TensorRole(Role.CONSTANT, "no operator")
    is_vector = sum(side > 1 for side in shape_of(array)) <= 1
    if use.role is Role.WEIGHT and is_vector and "Conv" not in use.reason:
        return TensorRole(Role.BIAS, use.reason)
    return by_values(use, array)
