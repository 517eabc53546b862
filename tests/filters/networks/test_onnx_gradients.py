"""Graphs of ONNX as operations of torch: the same samples as ONNX Runtime's, with gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from vvc_nnr.errors import UnsupportedError
from vvc_nnr.filters.networks import onnx_gradients
from vvc_nnr.filters.networks.onnx_gradients import OPERATORS, DifferentiableOnnx, differentiable
from vvc_nnr.filters.networks.onnx_network import OnnxNetwork
from vvc_nnr.model.onnx import take_apart

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
FLOAT = onnx.TensorProto.FLOAT
RNG = np.random.default_rng(0)


def values(*shape):
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def ints(*numbers):
    return np.array(numbers, np.int64)


def network(nodes, constants=(), n_inputs=1, shape=("n", 4, "h", "w"), opset=20):
    """A network of nodes (operator, inputs, attributes) one after the other; "" among inputs is what came before."""
    made, before = [], "x0"
    for place, (operator, inputs, attributes) in enumerate(nodes):
        names = [before if name == "" else name for name in inputs]
        outputs = [f"y{place}", *(f"y{place}_{number}" for number in range(attributes.pop("n_more", 0)))]
        made.append(onnx.helper.make_node(operator, names, outputs, **attributes))
        before = outputs[0]
    given = [onnx.helper.make_tensor_value_info(f"x{i}", FLOAT, shape if not i else ["n"]) for i in range(n_inputs)]
    output = onnx.helper.make_tensor_value_info(before, FLOAT, None)
    kept = [onnx.numpy_helper.from_array(value, name) for name, value in dict(constants).items()]
    graph = onnx.helper.make_graph(made, "g", given, [output], kept)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    model.ir_version = 9
    apart = take_apart(model, 0)
    return OnnxNetwork(apart.graph, apart.arrays)


CASES = {
    "uneven pads": ([("Conv", ["", "a", "b"], {"pads": [0, 1, 2, 1]})], {"a": values(8, 4, 3, 3), "b": values(8)}),
    "groups": ([("Conv", ["", "a"], {"group": 2, "dilations": [2, 1], "strides": [1, 2]})], {"a": values(8, 2, 3, 3)}),
    "transposed": (
        [("ConvTranspose", ["", "a"], {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]})],
        {"a": values(4, 8, 3, 3)},
    ),
    "norm": (
        [("BatchNormalization", ["", "a", "b", "c", "d"], {"epsilon": 1e-3})],
        {"a": values(4), "b": values(4), "c": values(4), "d": 1 + values(4) ** 2},
    ),
    "shuffles": (
        [("SpaceToDepth", [""], {"blocksize": 2}), ("DepthToSpace", [""], {"blocksize": 2, "mode": "CRD"})],
        {},
    ),
    "shuffle by columns": ([("DepthToSpace", [""], {"blocksize": 2})], {}),
    "activations": (
        [
            ("PRelu", ["", "a"], {}),
            *(
                (name, [""], {})
                for name in ("LeakyRelu", "Elu", "HardSwish", "HardSigmoid", "Gelu", "Tanh", "Softplus")
            ),
        ],
        {"a": values(4, 1, 1)},
    ),
    "functions": ([(name, [""], {}) for name in ("Exp", "Sqrt", "Neg", "Erf", "Sigmoid", "Relu", "Identity")], {}),
    "parts": (
        [
            ("Split", ["", "s"], {"axis": 1, "n_more": 1}),
            ("Concat", ["", "y0_0", "x0"], {"axis": 1}),
            ("Slice", ["", "one", "end", "axes"], {}),
        ],
        {"s": ints(1, 3), "one": ints(1, 1), "end": ints(-1, 2**62), "axes": ints(1, 3)},
    ),
    "shapes": (
        [
            ("Transpose", [""], {"perm": [0, 2, 3, 1]}),
            ("Unsqueeze", ["", "one"], {}),
            ("Reshape", ["", "to"], {}),
        ],
        {"one": ints(1), "to": ints(0, 1, -1, 16)},
    ),
    "pads": (
        [
            ("Pad", ["", "p", "c"], {}),
            ("Pad", ["", "p"], {"mode": "reflect"}),
            ("Pad", ["", "p"], {"mode": "edge"}),
        ],
        {"p": ints(0, 0, 1, 2, 0, 0, 2, 1), "c": np.float32(0.5)},
    ),
    "means": ([("ReduceMean", ["", "axes"], {"keepdims": 1}), ("Add", ["", "x0"], {})], {"axes": ints(2, 3)}),
    "attention": ([("GlobalAveragePool", [""], {}), ("Mul", ["", "x0"], {}), ("Sub", ["", "x0"], {})], {}),
    "limits": (
        [("Clip", ["", "low", "high"], {}), ("Div", ["", "high"], {})],
        {"low": np.float32(0.2), "high": np.float32(0.7)},
    ),
    "one limit": ([("Clip", ["", "", "high"], {})], {"high": np.float32(0.7)}),
    "choices": (
        [
            ("Abs", [""], {}),
            ("Max", ["", "low"], {}),
            ("Min", ["", "high", "x0"], {}),
            ("Pow", ["", "high"], {}),
            ("Equal", ["", "y0"], {}),
            ("Where", ["", "y3", "x0"], {}),
        ],
        {"low": np.float32(0.2), "high": np.float32(0.7)},
    ),
    "pools": (
        [
            ("MaxPool", [""], {"kernel_shape": [3, 3], "strides": [1, 2], "pads": [1, 1, 1, 1]}),
            ("AveragePool", [""], {"kernel_shape": [2, 2], "pads": [1, 0, 1, 0], "count_include_pad": 1}),
            ("AveragePool", [""], {"kernel_shape": [2, 2], "pads": [0, 1, 0, 1]}),
        ],
        {},
    ),
    "filled up to multiples of 4 and cut": (
        [
            ("Shape", ["x0"], {"start": 2}),
            ("Neg", [""], {}),
            ("Mod", ["", "four"], {}),
            ("ConstantOfShape", ["six"], {"value": onnx.numpy_helper.from_array(ints(0))}),
            ("Concat", ["y3", "y2"], {"axis": 0}),
            ("Reshape", ["", "pairs"], {"allowzero": 1}),
            ("Slice", ["", "last", "first", "zero", "last"], {}),
            ("Slice", ["", "last", "first", "zero", "last"], {}),
            ("Reshape", ["", "last"], {}),
            ("Pad", ["x0", ""], {"mode": "edge"}),
            ("Slice", ["", "zeros", "y0", "sides"], {}),
        ],
        {
            "four": ints(4),
            "six": ints(6),
            "pairs": ints(4, 2),
            "last": ints(-1),
            "first": ints(-(2**63)),
            "zero": ints(0),
            "zeros": ints(0, 0),
            "sides": ints(2, 3),
        },
    ),
    "numbers from shapes": (
        [
            ("Shape", ["x0"], {}),
            ("Gather", ["", "places"], {"axis": 0}),
            ("Div", ["", "minus"], {}),
            ("Cast", [""], {"to": FLOAT}),
            ("Div", ["", "seven"], {}),
            ("Floor", [""], {}),
            ("Ceil", [""], {}),
            ("Cast", [""], {"to": onnx.TensorProto.INT64}),
            ("Squeeze", ["", "zero"], {}),
            ("Gather", ["x0", "back"], {"axis": 3}),
            ("Mul", ["", "y6"], {}),
        ],
        {"places": ints(-1)[None], "minus": ints(-3), "seven": np.float32(0.3), "zero": ints(0), "back": ints(-1, 0)},
    ),
    "remainders of numbers": (
        [("Mod", ["", "high"], {"fmod": 1}), ("ConstantOfShape", ["one"], {}), ("Add", ["", "y0"], {})],
        {"high": np.float32(0.3), "one": ints(1)},
    ),
    "planes of one value": (
        [
            ("Shape", ["x0"], {"start": 2, "end": 4}),
            ("Concat", ["ones", ""], {"axis": 0}),
            ("Expand", ["half", ""], {}),
            ("Squeeze", [""], {}),
            ("Add", ["", "x0"], {}),
        ],
        {"ones": ints(1, 1), "half": values(1, 1, 1)},
    ),
    "resized by a factor": (
        [
            (
                "Resize",
                ["", "none", "factors"],
                {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            ),
            ("Resize", ["", "none", "sides"], {"axes": [2, 3]}),
        ],
        {"none": values(0), "factors": np.array([1, 1, 2, 1.5], np.float32), "sides": np.array([2, 2], np.float32)},
    ),
    "resized to a size": (
        [
            ("Shape", ["x0"], {}),
            ("Resize", ["x0", "none", "none", "larger"], {"mode": "linear"}),
            ("Resize", ["", "none", "none", "smaller"], {"mode": "cubic"}),
            ("Resize", ["", "none", "none", "sides"], {"mode": "linear", "axes": [-2, -1]}),
            (
                "Resize",
                ["", "none", "none", "y0"],
                {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
            ),
        ],
        {"none": values(0), "larger": ints(2, 4, 9, 13), "smaller": ints(2, 4, 5, 7), "sides": ints(6, 9)},
    ),
    "products": ([("MatMul", ["", "a"], {}), ("Add", ["", "b"], {})], {"a": values(8, 8), "b": values(8)}),
}
CASES["one limit"][0][0][1][1:] = ["none", "high"]
CASES["one limit"][1]["none"] = np.float32(-1e9)


@pytest.mark.parametrize("name", CASES)
def test_operators_compute_what_onnx_runtime_does(name):
    nodes, constants = CASES[name]
    made = network([(operator, inputs, dict(how)) for operator, inputs, how in nodes], constants)
    x = torch.from_numpy(np.abs(values(2, 4, 6, 8)))
    found = differentiable(made, x)
    assert isinstance(found, DifferentiableOnnx)
    assert torch.allclose(found(x), made(x), atol=1e-5)
    assert list(found.state_dict()) == list(made.state_dict())


def test_every_operator_is_tried():
    tried = {operator for nodes, _ in CASES.values() for operator, _, _ in nodes}
    assert OPERATORS.keys() - tried == {"Gemm"}


def test_a_product_of_matrices_with_what_is_added():
    constants = {"a": values(8, 4), "b": values(8)}
    nodes = [("Gemm", ["", "a", "b"], {"transB": 1, "alpha": 0.5, "beta": 2.0})]
    made = network(nodes, constants, shape=("n", 4))
    x = torch.rand(3, 4)
    assert torch.allclose(differentiable(made, x)(x), made(x), atol=1e-5)


def test_gradients_are_those_of_the_samples():
    made = network([("Conv", ["", "a", "b"], {}), ("Tanh", [""], {})], {"a": values(8, 4, 3, 3), "b": values(8)})
    x = torch.rand(1, 4, 5, 5)
    found = differentiable(made, x)
    (gradient,) = torch.autograd.grad(found(x).sum(), [found.get_parameter("b")])
    for place in (0, 5):
        sides = []
        for by in (-0.01, 0.01):
            with torch.no_grad():
                made.get_parameter("b")[place] += by
                sides.append(float(made(x).sum()))
                made.get_parameter("b")[place] -= by
        assert float(gradient[place]) == pytest.approx((sides[1] - sides[0]) / 0.02, rel=0.01)


def test_a_graph_for_one_picture_takes_several(monkeypatch):
    made = network(
        [("Conv", ["", "a"], {}), ("Reshape", ["", "to"], {})],
        {"a": values(8, 4, 3, 3), "to": ints(1, 8, 16)},
        shape=(1, 4, 6, 6),
    )
    x = torch.rand(3, 4, 6, 6)
    found = differentiable(made, x[:1])
    assert torch.allclose(found(x), torch.cat([made(each[None]) for each in x]), atol=1e-5)


class FilledUp(torch.nn.Module):
    """Fills the picture up to multiples of 4, halves it twice, and comes back by a shuffle and by Resize."""

    def __init__(self):
        super().__init__()
        self.down, self.middle = torch.nn.Conv2d(1, 16, 4, stride=4), torch.nn.Conv2d(16, 16, 3, padding=1)
        self.last = torch.nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x):
        height, width = x.shape[-2:]
        filled = functional.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
        features = functional.leaky_relu(self.middle(self.down(filled)))
        shuffled = functional.pixel_shuffle(features, 4)[..., :height, :width]
        resized = functional.interpolate(features[:, :1], size=x.shape[-2:], mode="bilinear", align_corners=False)
        return x + self.last(torch.cat([shuffled, resized], 1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_export_of_dynamic_axes_computes_its_sides(tmp_path):
    module, path = FilledUp(), tmp_path / "m.onnx"
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    torch.onnx.export(
        module, (torch.rand(1, 1, 22, 26),), path, dynamo=False, input_names=["x"], dynamic_axes=axes, opset_version=17
    )
    apart = take_apart(onnx.load(path), 0)
    made = OnnxNetwork(apart.graph, apart.arrays)
    assert {"Shape", "Mod", "ConstantOfShape", "Cast", "Resize"} <= {
        node.op_type for node in onnx.load(path).graph.node
    }
    found = differentiable(made, torch.rand(2, 1, 22, 26))
    for sides in ((16, 20), (17, 19)):
        x = torch.rand(2, 1, *sides)
        given = found(x)
        assert torch.allclose(given, module(x), atol=1e-5)
        names = ("down.weight", "middle.bias", "last.weight")
        gradients, wanted = (
            torch.autograd.grad(output.sum(), [net.get_parameter(name) for name in names])
            for net, output in ((found, given), (module, module(x)))
        )
        assert all(torch.allclose(*pair, rtol=1e-4, atol=1e-4) for pair in zip(gradients, wanted, strict=True))


@pytest.mark.parametrize(
    "attributes",
    [
        {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "ceil"},
        {"mode": "linear", "antialias": 1},
    ],
)
def test_resizing_that_torch_has_not_is_refused(attributes):
    made = network([("Resize", ["", "none", "f"], attributes)], {"none": values(0), "f": np.float32([1, 1, 2, 2])})
    with pytest.raises(UnsupportedError, match=r"torch does not run the operators .*: Resize by (linear|nearest), "):
        differentiable(made, torch.rand(1, 4, 6, 8))


def test_operators_that_are_not_known_are_named():
    with pytest.raises(
        UnsupportedError, match="through the operators Celu, Mish of this ONNX model; known are Abs, Add, "
    ):
        differentiable(network([("Celu", [""], {}), ("Mish", [""], {})]), torch.rand(1, 4, 6, 8))


def test_what_gives_other_samples_is_refused(monkeypatch):
    made, x = network([("Relu", [""], {})]), torch.randn(1, 4, 6, 8)
    monkeypatch.setattr(onnx_gradients, "OPERATORS", {**OPERATORS, "Relu": lambda given, _: given[0]})
    with pytest.raises(UnsupportedError, match="give other samples in torch than in ONNX Runtime"):
        differentiable(made, x)
    made = network([("Conv", ["", "a"], {"auto_pad": "SAME_UPPER"})], {"a": values(8, 4, 3, 3)})
    with pytest.raises(UnsupportedError, match=r"torch does not run the operators of this ONNX model: auto_pad"):
        differentiable(made, x)


def test_torch_modules_are_themselves():
    module = torch.nn.Conv2d(1, 1, 1)
    assert differentiable(module, torch.rand(1, 1, 4, 4)) is module
