"""Roles of an ONNX model's constants: which input of which operator they are.

Operators that only hand a tensor on, in another shape, order, part or float format, are followed to the next one, also
into and out of branches, loops and functions.

A matrix that is added to an output of the model, whole or by rows that are looked up, with no weight behind is an
offset of that output: what it loses no weight evens out, as of the bias of a last layer. A small one is a bias.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from vvc_nnr.bitstream.number_formats import NamedArrays, is_float, number_format_of, shape_of
from vvc_nnr.roles.by_name import by_values, looks_trained
from vvc_nnr.roles.channel_gates import channel_gate_outputs
from vvc_nnr.roles.gates import Candidate, candidate_of_operator
from vvc_nnr.roles.roles import Role, TensorRole
from vvc_nnr.roles.spelt_cells import N_PARTS, SpeltWeight, spelt_weights

_NORM = (None, Role.NORM_SCALE, Role.NORM_SHIFT)
_RECURRENT = (None, Role.WEIGHT, Role.WEIGHT, Role.BIAS)
# Places of the two weights among those inputs.
_OF_INPUT, _OF_STATE = 1, 2
_CONV = (None, Role.WEIGHT, Role.BIAS)
_SCALE = Role.QUANTISATION_SCALE
# Two quantised tensors with their scales and zero points, then those of the result.
_TWO_QUANTISED = (None, _SCALE, None, None, _SCALE, None, _SCALE)
_ONE_QUANTISED = (None, _SCALE, None, _SCALE)
_GEMM = (Role.WEIGHT, Role.WEIGHT, Role.BIAS)
# Of `TensorProto.DataType`: FLOAT, FLOAT16, DOUBLE, BFLOAT16; INT64.
_FLOAT_TYPES = (1, 10, 11, 16)
_INT64 = 7
# Of a shape.
_MAX_SIDES = 16
# Operator to the roles of its inputs in order; those behind the last are constants.
_INPUTS: dict[str, tuple[Role | None, ...]] = {
    "Conv": _CONV,
    "ConvTranspose": _CONV,
    "DeformConv": (None, Role.WEIGHT, None, Role.BIAS),
    "Gemm": _GEMM,
    "MatMul": (Role.WEIGHT, Role.WEIGHT),
    "Einsum": (Role.WEIGHT, Role.WEIGHT, Role.WEIGHT),
    "BatchNormalization": (*_NORM, Role.MEAN, Role.VARIANCE),
    "InstanceNormalization": _NORM,
    "LayerNormalization": _NORM,
    "GroupNormalization": _NORM,
    "RMSNormalization": _NORM,
    "LSTM": (*_RECURRENT, None, None, None, Role.BIAS),
    "GRU": _RECURRENT,
    "RNN": _RECURRENT,
    "Gather": (Role.WEIGHT, None),
    "GatherND": (Role.WEIGHT, None),
    "GatherElements": (Role.WEIGHT, None),
    "PRelu": (None, Role.NORM_SCALE),
    "Add": (Role.BIAS, Role.BIAS),
    "Sub": (Role.BIAS, Role.BIAS),
    "Mul": (Role.NORM_SCALE, Role.NORM_SCALE),
    "Div": (Role.NORM_SCALE, Role.DIVISOR),
    # On quantised tensors; those of ONNX Runtime are of domain com.microsoft.
    "QuantizeLinear": (None, _SCALE),
    "DequantizeLinear": (None, _SCALE),
    "QLinearConv": _TWO_QUANTISED,
    "QLinearMatMul": _TWO_QUANTISED,
    "QLinearAdd": _TWO_QUANTISED,
    "QLinearMul": _TWO_QUANTISED,
    "QLinearConcat": (_SCALE, None, None) * 8,
    "QLinearSigmoid": _ONE_QUANTISED,
    "QLinearLeakyRelu": _ONE_QUANTISED,
    "QLinearSoftmax": _ONE_QUANTISED,
    "QLinearAveragePool": _ONE_QUANTISED,
    "QLinearGlobalAveragePool": _ONE_QUANTISED,
    "QGemm": (*_TWO_QUANTISED[:6], None, _SCALE),
    "QAttention": (None, None, Role.BIAS, _SCALE, _SCALE),
    "DynamicQuantizeMatMul": (None, None, _SCALE, None, Role.BIAS),
    "DynamicQuantizeLSTM": (None, None, None, Role.BIAS, None, None, None, Role.BIAS, _SCALE, None, _SCALE),
    "MatMulIntegerToFloat": (None, None, _SCALE, _SCALE, None, None, Role.BIAS),
    "MatMulNBits": (None, None, _SCALE),
    "GatherBlockQuantized": (None, None, _SCALE),
    "QEmbedLayerNormalization": (*[None] * 8, *[_SCALE] * 5),
    # Fused by ONNX Runtime, domain com.microsoft.
    "FusedConv": _CONV,
    "NhwcConv": _CONV,
    "NhwcFusedConv": _CONV,
    "FusedMatMul": (Role.WEIGHT, Role.WEIGHT),
    "TransposeMatMul": (Role.WEIGHT, Role.WEIGHT),
    "GemmFastGelu": _GEMM,
    "GemmFloat8": _GEMM,
    "FusedGemm": _GEMM,
    "Attention": _CONV,
    "PackedAttention": _CONV,
    "LongformerAttention": (None, Role.WEIGHT, Role.BIAS, None, Role.WEIGHT, Role.BIAS),
    "DecoderAttention": (None, None, Role.WEIGHT, Role.WEIGHT, Role.BIAS),
    "MultiHeadAttention": (None, None, None, Role.BIAS),
    "DecoderMaskedMultiHeadAttention": (*([None] * 10), Role.BIAS),
    "EmbedLayerNormalization": (None, None, *([Role.WEIGHT] * 3), Role.NORM_SCALE, Role.NORM_SHIFT),
    "SkipLayerNormalization": (None, None, Role.NORM_SCALE, Role.NORM_SHIFT, Role.BIAS),
    "SkipGroupNorm": (None, Role.NORM_SCALE, Role.NORM_SHIFT, None, Role.BIAS),
    "GroupNorm": _NORM,
    "SimplifiedLayerNormalization": _NORM,
    "SkipSimplifiedLayerNormalization": (None, None, Role.NORM_SCALE, Role.BIAS),
    "BiasGelu": (None, Role.BIAS),
    "BiasAdd": (None, Role.BIAS),
    "BiasSplitGelu": (None, Role.BIAS),
    "BiasSoftmax": (None, Role.BIAS),
    "BiasDropout": (None, Role.BIAS),
    "FastGelu": (None, Role.BIAS),
    "GatedRelativePositionBias": (None, Role.BIAS, Role.WEIGHT, Role.BIAS, Role.NORM_SCALE),
    "MoE": (None, None, Role.WEIGHT, Role.BIAS, Role.WEIGHT, Role.BIAS, Role.WEIGHT, Role.BIAS),
}
# Of more than one axis these are weights where they look trained: embeddings that are added, masks of weights.
_SOFT = (Role.BIAS, Role.NORM_SCALE)

# Their first input comes out again, as it is or in part.
_CARRIERS = frozenset({
    *("Identity", "Transpose", "Cast", "CastLike", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"),
    *("Slice", "Split", "SplitToSequence", "Expand", "Tile", "Pad"),
})  # fmt: skip
# All their inputs come out again.
_JOINERS = frozenset({"Concat", "ConcatFromSequence", "SequenceConstruct"})
# A matrix that meets a constant in them, such as its scale, comes out as a matrix.
_SCALERS = frozenset({"Mul", "Div", "Add", "Sub"})
# What vectors are for is open there once they were carried: frequencies and positions among others.
_ARITHMETIC = frozenset({"Gemm", "MatMul", "Einsum", "Gather", "Add", "Sub", "Mul", "Div"})
# Biases and scales of channels they have all the same.
_CHANNEL_ARITHMETIC = frozenset({"Add", "Sub", "Mul"})
# What goes through them meets no weight that would even errors out.
_ELEMENTWISE = frozenset({
    *("Add", "Sub", "Mul", "Div", "Neg", "Where", "Clip", "Sigmoid", "Tanh", "Relu", "LeakyRelu", "HardSigmoid"),
    *("Softplus", "Exp", "Softmax", "LogSoftmax"),
})  # fmt: skip
_LOOK_UPS = frozenset({"Gather", "GatherND", "GatherElements"})
# Of a model's float values: a bias has about three bits a value more than a weight has, of five or so.
_OFFSET_SHARE = 1e-3
_STANDARD_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


@dataclass(frozen=True, slots=True)
class _Carried:
    """A constant as an operator gets it.

    Args:
        name: The constant's, among all of the model.
        shape: Its shape there, as far as the number of its sides beyond 1 counts.
        is_changed: Whether more than `Identity` stands between.
    """

    name: str
    shape: tuple[int, ...]
    is_changed: bool = False

    @property
    def is_matrix(self) -> bool:
        """Whether it has more than one side beyond 1."""
        return sum(side > 1 for side in self.shape) > 1

    @property
    def is_of_channels(self) -> bool:
        """Whether it has a value for each channel of a picture or sound, (1, n, 1) or (1, n, 1, 1)."""
        return len(self.shape) > 2 and self.shape[1] == math.prod(self.shape) > 1


GraphPath: TypeAlias = tuple[int, ...]
"""Where a graph is in a model: of the main one nothing, of others node, attribute and graph on the way to it."""
MAIN_GRAPH: GraphPath = ()


def path_of_function(place: int) -> GraphPath:
    """The path of the nodes of a model's function."""
    return (-1 - place,)


def graphs_of_node(node: Any, path: GraphPath) -> Iterator[tuple[GraphPath, Any]]:
    """The branches and bodies that a node has, with their paths; its own is given."""
    for place, attribute in enumerate(node.attribute):
        graphs = [attribute.g] if attribute.HasField("g") else attribute.graphs
        yield from (((*path, place, number), graph) for number, graph in enumerate(graphs))


_Scope: TypeAlias = dict[str, tuple[_Carried, ...]]
"""The constants behind each name that is known at a place of a graph."""
_Use: TypeAlias = tuple[Any, int, _Carried]
"""A node, the place of a constant among its inputs, and the constant."""


def operator_roles(
    model: Any, arrays: NamedArrays, keys: Mapping[GraphPath, Mapping[str, str]]
) -> dict[str, TensorRole]:
    """The role of every constant by the first operator that uses it, a divisor or variance by any; in order of use.

    Floats that no known operator uses are weights if they look trained and an operator of another domain has them,
    else exact.

    Args:
        model: A `ModelProto`.
        arrays: Its constants by names of their own.
        keys: Name of each constant among `arrays` by the path of its graph and its name there.
    """
    walk = _Walk(arrays, keys, model.functions)
    ends, few = _ends(model.graph), _OFFSET_SHARE * _n_floats(arrays)
    gates, cells = channel_gate_outputs(model.graph), spelt_weights(model.graph)
    by_product: dict[str, str] = {}
    uses: dict[str, TensorRole] = {}
    layer, input_weight = None, ""
    for node, place, carried in walk.graph(model.graph, MAIN_GRAPH, {}):
        use = _use(node, place, carried, arrays)
        is_few = use.role is Role.WEIGHT and math.prod(shape_of(arrays[carried.name])) <= few
        if is_few and _is_offset(node, ends):
            use = TensorRole(Role.BIAS, f"{use.reason.partition(',')[0]}, added to an output")
        if use.candidate and place == _OF_INPUT:
            layer, input_weight = node, carried.name
        elif use.candidate and place == _OF_STATE and layer is node:
            use = replace(use, candidate=replace(use.candidate, input_weight=input_weight))
        elif (cell := _in_cell(use, node, place, carried, cells)) and carried.name not in uses:
            use = replace(use, candidate=Candidate(1, N_PARTS, cell.place, cell.input_product))
            by_product[node.output[0]] = carried.name
        is_gate = use.role is Role.WEIGHT and not gates.isdisjoint(node.output)
        known = uses.get(carried.name)
        if known is not None:
            is_gate = is_gate and known.is_gate
            use = use if use.role in (Role.VARIANCE, Role.DIVISOR) else known
        uses[carried.name] = replace(use, is_gate=is_gate)
    for name in by_product.values():  # the state's weight may come before the input's
        told = uses[name].candidate
        if told is not None and told.input_weight:
            other = replace(told, input_weight=by_product.get(told.input_weight, ""))
            uses[name] = replace(uses[name], candidate=other)
    return {
        name: _told(name, uses.get(name), arrays) for name in (*uses, *(name for name in arrays if name not in uses))
    }


def _in_cell(
    use: TensorRole, node: Any, place: int, carried: _Carried, cells: Mapping[str, SpeltWeight]
) -> SpeltWeight | None:
    """What a weight is in a cell that is spelt out; None if it is in none."""
    is_weight = use.role is Role.WEIGHT and not carried.is_changed and node.op_type == "MatMul" and place == 1
    fits = len(carried.shape) == 2 and carried.shape[1] % N_PARTS == 0
    return cells.get(node.output[0]) if is_weight and fits else None


def _use(node: Any, place: int, carried: _Carried, arrays: NamedArrays) -> TensorRole:
    """The role that an input of an operator gives a constant."""
    roles = _INPUTS.get(node.op_type, ())
    role = roles[place] if place < len(roles) else None
    reason = f"input {place} of {node.op_type}"
    is_open = role is None and node.domain not in _STANDARD_DOMAINS
    if carried.is_matrix and (role in _SOFT or is_open) and looks_trained(arrays[carried.name]):
        return TensorRole(Role.WEIGHT, f"{reason}, a trained matrix")
    is_weight = role is Role.WEIGHT and not carried.is_changed
    candidate = candidate_of_operator(node.op_type, carried.shape) if is_weight else None
    return TensorRole(_by_shape(role or Role.CONSTANT, node.op_type, carried), reason, candidate)


@dataclass(frozen=True, slots=True)
class _Ends:
    """What comes to the outputs of a graph with no weight behind.

    Args:
        names: All such names, of the main graph.
        added: Those on whose way something is added to them.
    """

    names: frozenset[str]
    added: frozenset[str]


def _ends(graph: Any) -> _Ends:
    """What comes to the outputs of a graph; its nodes are in the order in which they run."""
    names, added = {each.name for each in graph.output}, set[str]()
    for node in reversed(graph.node):
        if not names.intersection(node.output):
            continue
        if node.op_type in _ELEMENTWISE or node.op_type in _JOINERS:
            inputs = node.input[1:] if node.op_type == "Where" else node.input
        else:
            inputs = node.input[:1] if node.op_type in _CARRIERS else ()
        names.update(inputs)
        if node.op_type in ("Add", "Sub") or added.intersection(node.output):
            added.update(inputs)
    return _Ends(frozenset(names), frozenset(added))


def _is_offset(node: Any, ends: _Ends) -> bool:
    """Whether a matrix that a node looks rows up in, or adds, is added to an output."""
    if node.op_type in _LOOK_UPS:
        return not ends.added.isdisjoint(node.output)
    return node.op_type in ("Add", "Sub") and not ends.names.isdisjoint(node.output)


def _n_floats(arrays: NamedArrays) -> int:
    return sum(math.prod(shape_of(array)) for name, array in arrays.items() if is_float(number_format_of(name, array)))


class _Walk:
    """A way through a model's graphs along its constants."""

    def __init__(
        self, arrays: NamedArrays, keys: Mapping[GraphPath, Mapping[str, str]], functions: Sequence[Any]
    ) -> None:
        self._arrays, self._keys = arrays, keys
        self._functions = {(each.domain, each.name): (place, each) for place, each in enumerate(functions)}
        self._calling: list[tuple[str, str]] = []

    def graph(self, graph: Any, path: GraphPath, scope: _Scope) -> Iterator[_Use]:
        """The uses in a graph and those in it; what its nodes hand on is put into the scope."""
        self._add_constants(path, scope)
        yield from self._nodes(graph.node, path, scope, _integers(graph.initializer, graph.node))

    def _add_constants(self, path: GraphPath, scope: _Scope) -> None:
        for name, key in self._keys.get(path, {}).items():
            if key in self._arrays:
                scope[name] = (_Carried(key, shape_of(self._arrays[key])),)

    def _nodes(
        self, nodes: Iterable[Any], path: GraphPath, scope: _Scope, integers: Mapping[str, tuple[int, ...]]
    ) -> Iterator[_Use]:
        for place, node in enumerate(nodes):
            inner = list(graphs_of_node(node, (*path, place)))
            function = (node.domain, node.op_type)
            if inner:
                yield from self._inside(node, inner, scope)
            elif function in self._functions and function not in self._calling:
                yield from self._call(node, function, scope)
            else:
                yield from _uses_of(node, scope, integers)
                scope.update(_results(node, scope, integers))

    def _inside(self, node: Any, graphs: list[tuple[GraphPath, Any]], scope: _Scope) -> Iterator[_Use]:
        """The uses in branches and bodies, which see all names around them; what comes out of them comes out."""
        for path, graph in graphs:
            own = dict(scope)
            given = zip((each.name for each in graph.input), node.input, strict=False)
            own.update({name: scope[outer] for name, outer in given if outer in scope})
            yield from self.graph(graph, path, own)
            results = graph.output[1:] if node.op_type == "Loop" else graph.output  # the first is whether to go on
            for name, result in zip(node.output, results, strict=False):
                if name and result.name in own:
                    scope[name] = (*scope.get(name, ()), *own[result.name])

    def _call(self, node: Any, which: tuple[str, str], scope: _Scope) -> Iterator[_Use]:
        """The uses in a function of the model's own."""
        place, function = self._functions[which]
        own = {name: scope[given] for name, given in zip(function.input, node.input, strict=False) if given in scope}
        path = path_of_function(place)
        self._add_constants(path, own)
        self._calling.append(which)
        yield from self._nodes(function.node, path, own, _integers((), function.node))
        self._calling.pop()
        scope.update({name: own[each] for name, each in zip(node.output, function.output, strict=False) if each in own})


def _uses_of(node: Any, scope: _Scope, integers: Mapping[str, tuple[int, ...]]) -> Iterator[_Use]:
    """The constants among a node's inputs, but for those that only come out again."""
    carried = {each for found in _results(node, scope, integers).values() for each in found}
    names = {each.name for each in carried}
    for place, name in enumerate(node.input):
        for each in scope.get(name, ()):
            if each.name not in names:
                yield node, place, each


def _results(node: Any, scope: _Scope, integers: Mapping[str, tuple[int, ...]]) -> _Scope:
    """The constants that come out of a node again."""
    given = [scope.get(name, ()) for name in node.input]
    if not given or not node.output:
        return {}
    found: tuple[_Carried, ...] = ()
    if node.op_type in _CARRIERS and _keeps_floats(node):
        target = integers.get(node.input[1]) if node.op_type == "Reshape" and len(node.input) > 1 else None
        found = tuple(_handed_on(node.op_type, each, target) for each in given[0])
    elif node.op_type in _JOINERS:
        found = tuple(replace(each, is_changed=True) for what in given for each in what)
    elif node.op_type in _SCALERS and len(given) == 2 and all(given):
        found = tuple(replace(each, is_changed=True) for each in given[0] + given[1] if each.is_matrix)
        found = found if len(found) == 1 else ()
    return {name: found for name in node.output if name} if found else {}


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


def _integers(initializers: Iterable[Any], nodes: Iterable[Any]) -> Mapping[str, tuple[int, ...]]:
    """The few 64-bit integers that stand in a graph, such as shapes."""
    tensors = [(tensor.name, tensor) for tensor in initializers]
    for node in nodes:
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
    if carried.is_matrix or (op_type in _CHANNEL_ARITHMETIC and carried.is_of_channels):
        return role
    if op_type == "Einsum" or (carried.is_changed and op_type in _ARITHMETIC):
        return Role.CONSTANT
    return Role.BIAS if role is Role.WEIGHT and "Conv" not in op_type else role


def _told(name: str, use: TensorRole | None, arrays: NamedArrays) -> TensorRole:
    if not is_float(number_format_of(name, arrays[name])):
        return TensorRole(Role.CONSTANT, "integers")
    return TensorRole(Role.CONSTANT, "no operator") if use is None else by_values(use, arrays[name])
