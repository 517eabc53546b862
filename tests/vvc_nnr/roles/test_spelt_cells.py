"""LSTM cells that an ONNX graph spells out in the body of a Loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import vvc_nnr
from vvc_nnr.network_file import onnx_network
from vvc_nnr.roles.gates import Candidate

N_STATE, N_INPUT = 4, 3


def model(**changed: list[str]) -> Any:
    """A model of one LSTM as tf2onnx writes it; nodes of its body by their outputs, of which some are changed."""
    body = {
        "of_state": ["MatMul", "h", "u"],
        "of_input": ["MatMul", "x", "w"],
        "sum": ["Add", "of_input", "of_state"],
        "all": ["Add", "sum", "b"],
        "parts": ["Split", "all"],
        "candidate": ["Tanh", "part2"],
        "open": ["Sigmoid", "part3"],
        "forget": ["Sigmoid", "part1"],
        "kept": ["Mul", "forget", "c"],
        "let in": ["Sigmoid", "part0"],
        "new": ["Mul", "let in", "candidate"],
        "c_new": ["Add", "kept", "new"],
        "squashed": ["Tanh", "c_new"],
        "h_new": ["Mul", "open", "squashed"],
        "h_next": ["Identity", "h_new"],
        "go on": ["Identity", "condition"],
    } | changed
    nodes = [
        helper.make_node(
            *(kind, given, [f"part{n}" for n in range(4)] if name == "parts" else [name]),
            **({"axis": 1} if kind == "Split" else {}),
        )
        for name, (kind, *given) in body.items()
    ]

    def value(name: str, *shape: int, kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    random = np.random.default_rng(0)
    shapes = {"u": (N_STATE, 4 * N_STATE), "w": (N_INPUT, 4 * N_STATE), "b": (4 * N_STATE,), "zeros": (1, N_STATE)}
    constants = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    given = [value("step", kind=TensorProto.INT64), value("condition", kind=TensorProto.BOOL)]
    states = [value("h", 1, N_STATE), value("c", 1, N_STATE)]
    results = [value("go on", kind=TensorProto.BOOL), value("h_next", 1, N_STATE), value("c_new", 1, N_STATE)]
    loop = helper.make_node(
        *("Loop", ["", "", "zeros", "zeros"], ["last", "cell"]),
        body=helper.make_graph(nodes, "body", given + states, results),
    )
    graph = helper.make_graph([loop], "g", [value("x", 1, N_INPUT)], [value("last", 1, N_STATE)], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)])


def candidates(made: Any) -> dict[str, Candidate | None]:
    return {name: each.candidate for name, each in onnx_network(made).roles.items() if name in ("u", "w")}


def test_a_cell_in_a_loop_is_told() -> None:
    made = model()
    onnx.checker.check_model(made)
    assert candidates(made) == {"u": Candidate(1, 4, 2, "w"), "w": Candidate(1, 4, 2)}
    assert vvc_nnr.decompress(vvc_nnr.compress(made)).keys() >= {"u", "w"}
    other = model(candidate=["Tanh", "part3"], open=["Sigmoid", "part2"])
    assert candidates(other) == {"u": Candidate(1, 4, 3, "w"), "w": Candidate(1, 4, 3)}


NO_CELL = {
    "the state is not handed on": {"h_next": ["Identity", "h"]},
    "nor the cell": {"kept": ["Mul", "forget", "h"]},
    "no product with the state": {"of_state": ["MatMul", "c", "u"]},
    "one gate is used twice": {"h_new": ["Mul", "forget", "squashed"]},
    "two candidates": {"let in": ["Tanh", "part0"]},
    "the sum is a product": {"all": ["Mul", "sum", "b"]},
    "no sum of the cell": {"c_new": ["Sub", "kept", "new"]},
    "a circle": {"sum": ["Add", "all", "sum"]},
    "nothing given": {"candidate": ["Tanh"], "of_state": ["MatMul"], "parts": ["Split"]},
}


@pytest.mark.parametrize("changed", NO_CELL.values(), ids=NO_CELL)
def test_what_is_no_such_cell_has_no_candidate(changed: dict[str, list[str]]) -> None:
    assert not any(candidates(model(**changed)).values())
