"""LSTM cells that an ONNX graph spells out in the body of a Loop, as tf2onnx writes those of Keras.

Such a body is an LSTM for certain where a sum of two products with weights is split into four, of which three go
through a sigmoid and one through a tanh, the new cell is one gate times the cell before and another times that tanh,
the new state the third gate times the tanh of the new cell, both are handed on to the next step, and the state before
is what one of the two weights multiplies:

    state ─▶ MatMul ─▶ Add ─▶ Add ─▶ Split ─▶ Sigmoid x 3, Tanh ─▶ cell' = f cell + i tanh, state' = o tanh(cell')
    input ─▶ MatMul ──┘  bias ─┘
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

N_PARTS = 4
# Additions between the products and where the sum is split.
_MAX_ADDITIONS = 6


@dataclass(frozen=True, slots=True)
class SpeltWeight:
    """What a product with a weight is in a cell.

    Attributes:
        place: Of the candidate among the four parts of the weight's columns.
        input_product: What the product with the input's weight gives, of that with the state's; "": it is that one.
    """

    place: int
    input_product: str = ""


def spelt_weights(graph: Any) -> dict[str, SpeltWeight]:
    """The products with weights of LSTM cells in all Loops of a graph, by the names of what they give.

    Args:
        graph: A `GraphProto`.
    """
    bodies = list(_bodies(graph))
    counts = Counter(name for each in (graph, *bodies) for node in each.node for name in node.output)
    found = {name: told for body in bodies for name, told in _cells(body)}
    return {name: told for name, told in found.items() if counts[name] == 1}


def _bodies(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            for each in inner:
                if node.op_type == "Loop":
                    yield each
                yield from _bodies(each)


def _cells(body: Any) -> Iterator[tuple[str, SpeltWeight]]:
    nodes = [node for node in body.node if node.input and node.output]
    makers = {name: node for node in nodes for name in node.output if name}
    users: dict[str, list[Any]] = {}
    for node in nodes:
        for name in set(node.input):
            users.setdefault(name, []).append(node)
    # The first input is a counter; the first output, as the second input, whether to go on.
    given = zip(body.input[2:], body.output[1:], strict=False)
    before = {_plain(after.name, makers): name.name for name, after in given}
    for node in nodes:
        candidate = _candidate(node, users, before, makers)
        if candidate is None:
            continue
        place, state = candidate
        products = _products(node.input[0], makers)
        of_state = [each.output[0] for each in products if _plain(each.input[0], makers) == state]
        of_input = [each.output[0] for each in products if _plain(each.input[0], makers) != state]
        if len(of_state) == len(of_input) == 1:
            yield of_input[0], SpeltWeight(place)
            yield of_state[0], SpeltWeight(place, of_input[0])


def _candidate(
    split: Any, users: dict[str, list[Any]], before: dict[str, str], makers: dict[str, Any]
) -> tuple[int, str] | None:
    """Where the candidate is among what is split, and the name of the state before; None if it is no LSTM."""
    axes = [each.i for each in split.attribute if each.name == "axis"]
    is_equal = len(split.input) == 1 and not any(len(set(each.ints)) > 1 for each in split.attribute)
    if split.op_type != "Split" or len(split.output) != N_PARTS or not is_equal or axes not in ([1], [-1]):
        return None
    parts = [users.get(name, []) for name in split.output]
    kinds = [each[0].op_type if len(each) == 1 else "" for each in parts]
    if sorted(kinds) != ["Sigmoid"] * 3 + ["Tanh"]:
        return None
    place = kinds.index("Tanh")
    candidate = parts[place][0].output[0]
    gates = {each[0].output[0] for at, each in enumerate(parts) if at != place}
    written = _only(candidate, "Mul", users)
    cell = written and _only(written.output[0], "Add", users)
    kept = [makers.get(name) for name in cell.input if name != written.output[0]] if cell else []
    squashed = [each for each in users.get(cell.output[0], []) if each.op_type == "Tanh"] if cell else []
    if len(kept) != 1 or kept[0] is None or len(squashed) != 1:
        return None
    state = _only(squashed[0].output[0], "Mul", users)
    if state is None or state.output[0] not in before:
        return None
    used = {
        _gate_of(written, candidate, gates),
        _gate_of(kept[0], before.get(cell.output[0], ""), gates),
        _gate_of(state, squashed[0].output[0], gates),
    }
    return (place, before[state.output[0]]) if used == gates else None


def _only(name: str, op_type: str, users: dict[str, list[Any]]) -> Any:
    """The node that alone uses what a name stands for, if it is of that type; None if it is not."""
    nodes = users.get(name, [])
    return nodes[0] if len(nodes) == 1 and nodes[0].op_type == op_type else None


def _gate_of(product: Any, other: str, gates: set[str]) -> str | None:
    """The gate that a product has beside another factor; None if it is no such product."""
    factors = list(product.input)
    if product.op_type != "Mul" or len(factors) != 2 or not other or other not in factors:
        return None
    factors.remove(other)
    return factors[0] if factors[0] in gates else None


def _products(name: str, makers: dict[str, Any]) -> list[Any]:
    """The products with weights that are summed up in what a name stands for."""
    found, names = [], [name]
    for _ in range(2 * _MAX_ADDITIONS):
        node = makers.get(names.pop()) if names else None
        if node is not None and node.op_type == "MatMul":
            found.append(node)
        elif node is not None and node.op_type == "Add":
            names.extend(node.input)
    return [] if names else found


def _plain(name: str, makers: dict[str, Any]) -> str:
    """What a name stands for before it was handed on as it is."""
    for _ in range(_MAX_ADDITIONS):
        node = makers.get(name)
        if node is None or node.op_type != "Identity":
            break
        name = node.input[0]
    return name
