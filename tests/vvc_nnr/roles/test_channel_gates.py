"""Gates of channels in ONNX graphs: their weights are found, no others, and get a coarser step."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import helper

from vvc_nnr.coding.own_steps import GATE_DB, measured_spreads
from vvc_nnr.model.onnx import take_apart
from vvc_nnr.options import CompressOptions
from vvc_nnr.roles.channel_gates import channel_gate_outputs
from vvc_nnr.roles.roles import RULES, Role, Rule, strictest_rule

N_CHANNELS, N_SQUEEZED = 32, 16
SHAPES = {"first": (N_CHANNELS, 3, 3, 3), "squeeze": (N_SQUEEZED, N_CHANNELS, 1, 1)}
SHAPES |= {"excite": (N_CHANNELS, N_SQUEEZED, 1, 1), "last": (4, N_CHANNELS, 1, 1)}
SMALL = {"three": 3.0, "zero": 0.0, "six": 6.0}
GATES = {"squeeze", "excite"}

USUAL = """GlobalAveragePool x > m; Conv m squeeze > s; Relu s > a; Conv a excite > e; HardSigmoid e > g; Mul x g > y"""
OF_KERAS = """Transpose x > t; ReduceMean t > m; Transpose m > c; Conv c squeeze > s; Sigmoid s > b; Mul b s > a;
    Conv a excite > e; Sigmoid e > g; Mul g x > y"""
IN_FULL = """GlobalAveragePool x > m; Conv m squeeze > s; Relu s > a; Conv a excite > e; Add e three > f;
    Clip f zero six > h; Div h six > g; Mul x g > y"""
OF_OTHER = """GlobalAveragePool image > m; Conv m squeeze > s; Relu s > a; Conv a excite > e; Sigmoid e > g;
    Mul x g > y"""
NO_SIGMOID = """GlobalAveragePool x > m; Conv m squeeze > s; Relu s > a; Conv a excite > g; Mul x g > y"""
SWISH = """Conv x squeeze > s; Conv s excite > e; Sigmoid e > g; Mul e g > y"""
SHARED = f"""{USUAL}; Conv y squeeze > s2; Conv s2 excite > y2"""


def model_of(text: str) -> onnx.ModelProto:
    """A convolution, what a text says, `OPERATOR inputs > output`, and another convolution of its last output."""
    nodes = [helper.make_node("Conv", ["image", "first"], ["x"], pads=[1, 1, 1, 1])]
    for line in text.split(";"):
        (op_type, *inputs), output = (half.split() for half in line.split(">"))
        nodes.append(helper.make_node(op_type, inputs, output))
    nodes.append(helper.make_node("Conv", [*nodes[-1].output, "last"], ["out"]))
    rng = np.random.default_rng(4)
    arrays = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    arrays |= {name: np.array(value) for name, value in SMALL.items()}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("text", "gates"),
    [
        *((text, GATES) for text in (USUAL, OF_KERAS, IN_FULL)),
        *((text, set()) for text in (OF_OTHER, NO_SIGMOID, SWISH, SHARED)),
    ],
)
def test_weights_that_make_gates_of_channels_and_nothing_else(text: str, gates: set[str]) -> None:
    roles = take_apart(model_of(text), 1).roles
    assert {name for name, told in roles.items() if told.is_gate} == gates


def test_gates_keep_less_than_other_weights_at_their_place() -> None:
    taken = [take_apart(model_of(text), 1) for text in (USUAL, NO_SIGMOID)]
    gates, others = (
        measured_spreads(
            {name: each.arrays[name] for name in SHAPES},
            {name: Rule("qp", is_gate=told.is_gate) for name, told in each.roles.items() if name in SHAPES},
            CompressOptions(),
        ).offsets_db
        for each in taken
    )
    less_db = {name: others[name] - gates[name] for name in SHAPES}
    assert less_db == pytest.approx({name: GATE_DB if name in GATES else 0.0 for name in SHAPES})
    assert math.isfinite(sum(gates.values()))


def test_a_weight_with_copies_is_a_gate_where_all_are() -> None:
    gate, other = Rule("qp", is_gate=True), RULES[Role.WEIGHT]
    assert strictest_rule([gate, gate]).is_gate
    assert not strictest_rule([gate, other]).is_gate


def test_circles_and_nodes_without_inputs_are_no_gates() -> None:
    circle = """Identity b > a; Identity a > b; Mul a b > y; ReduceMean > p; Sigmoid p > q; Mul q x > z;
        Sigmoid > r; Mul r x > w; Add c d > c; Mul c x > v; Reshape > k; GlobalAveragePool k > n; Sigmoid n > o;
        Mul k o > u"""
    assert channel_gate_outputs(model_of(circle).graph) <= {"n", "o"}
