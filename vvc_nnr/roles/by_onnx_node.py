"""Roles of an ONNX model's constants: which input of which operator they are.

Operators that only hand a tensor on, in another shape, order or float format, are followed to the next one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vvc_nnr.bitstream.number_formats import NamedArrays, number_format_of, shape_of
from vvc_nnr.roles.by_name import by_values
from vvc_nnr.roles.roles import Role, TensorRole

_NORM = (None, Role.NORM_SCALE, Role.NORM_SHIFT)
_RECURRENT = (None, Role.WEIGHT, Role.WEIGHT, Role.BIAS)
# Of `TensorProto.DataType`: FLOAT, FLOAT16, DOUBLE, BFLOAT16; INT64.
_FLOAT_TYPES = (1, 10, 11, 16)
_INT64 = 7
# Of a shape.
_MAX_SIDES = 16
# Operator to the roles of its inputs in order.
_INPUTS: dict[str, tuple[Role | None, ...]] = {
    "Conv": (None, Role.WEIGHT, Role.BIAS),
    "ConvTranspose": (None, Role.WEIGHT, Role.BIAS),
    "Gemm": (Role.WEIGHT, Role.WEIGHT, Role.BIAS),
    "MatMul": (Role.WEIGHT, Role.WEIGHT),
    "Einsum": (Role.WEIGHT, Role.WEIGHT, Role.WEIGHT),
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


_CARRIERS = frozenset({"Identity", "Transpose", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
# What vectors are for is open there once they were carried: frequencies and positions among others.
_ARITHMETIC = frozenset({"Gemm", "MatMul", "Einsum", "Gather", "Add", "Sub", "Mul", "Div"})


@dataclass(frozen=True, slots=True)
class _Carried:
    """A constant as an operator gets it.

    Args:
        name: The constant's.
        shape: Its shape there, as far as the number of its sides beyond 1 counts.
        is_changed: Whether more than `Identity` stands between.
    """

    name: str
    shape: tuple[int, ...]
    is_changed: bool = False


def operator_roles(graph: Any, arrays: NamedArrays) -> dict[str, TensorRole]:
    """The role of every constant by the first operator that uses it, a variance by any; floats of others are exact.

    Args:
        graph: A `GraphProto`.
        arrays: Its constants.
    """
    uses: dict[str, TensorRole] = {}
    for node, place, carried in _uses(graph, arrays):
        roles = _INPUTS.get(node.op_type, ())
        role = roles[place] if place < len(roles) else None
        use = TensorRole(_by_shape(role or Role.CONSTANT, node.op_type, carried), f"input {place} of {node.op_type}")
        if carried.name not in uses or use.role is Role.VARIANCE:
            uses[carried.name] = use
    return {name: _told(name, uses.get(name), arrays) for name in arrays}


def _uses(graph: Any, arrays: NamedArrays) -> Iterator[tuple[Any, int, _Carried]]:
    """Each node, the place of a constant among its inputs, and the constant; nodes that hand one on are left out."""
    integers = _integers(graph)
    carried = {name: _Carried(name, shape_of(array)) for name, array in arrays.items()}
    for node in graph.node:
        is_carrier = node.op_type in _CARRIERS and _keeps_floats(node)
        for place, name in enumerate(node.input):
            if name in carried and not (is_carrier and place == 0):
                yield node, place, carried[name]
        if is_carrier and node.input and node.output and node.input[0] in carried:
            target = integers.get(node.input[1]) if node.op_type == "Reshape" and len(node.input) > 1 else None
            carried[node.output[0]] = _handed_on(node.op_type, carried[node.input[0]], target)


def _keeps_floats(node: Any) -> bool:
    """Whether it is no cast to another kind of number."""
    return node.op_type != "Cast" or any(each.name == "to" and each.i in _FLOAT_TYPES for each in node.attribute)


def _handed_on(op_type: str, carried: _Carried, target: tuple[int, ...] | None) -> _Carried:
    shape = carried.shape if target is None else _reshaped(carried.shape, target)
    return _Carried(carried.name, shape, carried.is_changed or op_type != "Identity")


def _reshaped(shape: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that `Reshape` makes; 0 keeps a side, -1 takes what is left."""
    sides = [shape[place] if side == 0 and place < len(shape) else side for place, side in enumerate(target)]
    known = math.prod(side for side in sides if side > 0)
    return tuple(math.prod(shape) // known if side < 0 else side for side in sides)


def _integers(graph: Any) -> Mapping[str, tuple[int, ...]]:
    """The few 64-bit integers that stand in the graph, such as shapes."""
    tensors = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            tensors += [(node.output[0], each.t) for each in node.attribute if each.name == "value"]
    few = (
        (name, tensor)
        for name, tensor in tensors
        if tensor.data_type == _INT64 and max(tensor.dims, default=1) <= _MAX_SIDES
    )
    return {name: values for name, tensor in few if (values := _int64_values(tensor))}


def _int64_values(tensor: Any) -> tuple[int, ...]:
    n_values = min(len(tensor.raw_data) // 8, _MAX_SIDES)
    return tuple(np.frombuffer(tensor.raw_data, "<i8", n_values).tolist() or tensor.int64_data[:_MAX_SIDES])


def _by_shape(role: Role, op_type: str, carried: _Carried) -> Role:
    """The role, but for vectors where the operator is one for matrices."""
    if sum(side > 1 for side in carried.shape) > 1:
        return role
    if op_type == "Einsum" or (carried.is_changed and op_type in _ARITHMETIC):
        return Role.CONSTANT
    return Role.BIAS if role is Role.WEIGHT and "Conv" not in op_type else role


def _told(name: str, use: TensorRole | None, arrays: NamedArrays) -> TensorRole:
    if not number_format_of(name, arrays[name]).startswith(("float", "bfloat")):
        return TensorRole(Role.CONSTANT, "integers")
    return TensorRole(Role.CONSTANT, "no operator") if use is None else by_values(use, arrays[name])
