from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from vvc_nnr.errors import InputError, UnsupportedError
from vvc_nnr.filters.complexity import complexity
from vvc_nnr.filters.inference.runner import Runner
from vvc_nnr.filters.networks.foreign import declared_layout
from vvc_nnr.filters.networks.layout import parse_layout
from vvc_nnr.filters.networks.onnx_gradients import differentiable
from vvc_nnr.filters.networks.onnx_network import GraphInput, OnnxNetwork, planes_place
from vvc_nnr.model.onnx import take_apart

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
WEIGHT = np.linspace(-1, 1, 18, dtype=np.float32).reshape(2, 1, 3, 3)


def network(name="a.b.weight", op="Conv", inputs=1):
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    given = [helper.make_tensor_value_info(f"x{i}", kind, [1, 1, "h", "w"]) for i in range(inputs)]
    output = helper.make_tensor_value_info("y", kind, None)
    weight = onnx.numpy_helper.from_array(WEIGHT, name)
    node = helper.make_node(op, ["x0", name], ["y"], pads=[1, 1, 1, 1])
    model = helper.make_model(
        helper.make_graph([node], "g", given, [output], [weight]), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    apart = take_apart(model, 0)
    return OnnxNetwork(apart.graph, apart.arrays)


def test_its_weights_are_a_modules_and_its_graph_runs():
    made, x = network(), torch.rand(1, 1, 6, 7)
    assert list(made.state_dict()) == ["a.b.weight"]
    assert made.n_parameters == WEIGHT.size
    expected = torch.nn.functional.conv2d(x, torch.from_numpy(WEIGHT), padding=1)
    assert torch.allclose(made(x), expected, atol=1e-6)
    other = copy.deepcopy(made)
    with torch.no_grad():
        other.get_parameter("a.b.weight").mul_(2)
    assert torch.allclose(other(x), 2 * expected, atol=1e-6)
    assert torch.allclose(made(x), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["training", "a..b", "forward", "graph.weight.", "_run", ".x"])
def test_names_that_no_module_can_have_are_refused(name):
    with pytest.raises(UnsupportedError, match="cannot be a module's"):
        network(name)


def test_a_graph_that_cannot_be_run_is_refused():
    with pytest.raises(UnsupportedError, match="ONNX Runtime cannot run the model"):
        network(op="NoSuchOperator")


def test_another_number_of_inputs_is_told():
    with pytest.raises(InputError, match="has 2 inputs, the layout gives it 1"):
        network(inputs=2)(torch.rand(1, 1, 4, 4))


def test_a_graph_of_float16_is_told_that():
    helper, half = onnx.helper, onnx.TensorProto.FLOAT16
    planes = [helper.make_tensor_value_info(name, half, ["n", 1, "h", "w"]) for name in ("luma", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["luma"], ["y"])], "g", planes[:1], planes[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(InputError, match=r"its graph takes float16 \(its input luma\), and must take float32"):
        Runner(OnnxNetwork(model.SerializeToString(), {}), layout="planes=y")


def with_qp(qp_shape=("n",), planes="planes", qp="qp", *, qp_first=True):
    """Luma plus the QP, of a graph whose first input may be the QP."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    given = [
        helper.make_tensor_value_info(planes, kind, ["n", 1, "h", "w"]),
        helper.make_tensor_value_info(qp, kind, qp_shape),
    ]
    nodes = [
        helper.make_node("Conv", [planes, "weight"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", [qp, "shape"], ["q"]),
        helper.make_node("Add", ["h", "q"], ["y"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(WEIGHT[:1], "weight"),
        onnx.numpy_helper.from_array(np.array([-1, 1, 1, 1]), "shape"),
    ]
    output = helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph(nodes, "g", given[:: -1 if qp_first else 1], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    apart = take_apart(model, 0)
    return OnnxNetwork(apart.graph, apart.arrays)


SCALAR = parse_layout("planes=y,qp=scalar,qp-scale=63")


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_the_qp_may_be_the_first_input(random_frame, backend):
    pytest.importorskip(backend)
    frame = random_frame(32, 24)
    expected = Runner(with_qp(qp_first=False), layout=SCALAR, backend="torch").filter_frame(frame, 37)
    found = Runner(with_qp(), layout=SCALAR, backend=backend).filter_frame(frame, 37)
    assert np.abs(found.planes[0].astype(int) - expected.planes[0]).max() <= (backend != "torch")


@pytest.mark.parametrize("qp_shape", [("n",), (), (1,), ("n", 1), (1, 1, 1, 1)])
def test_gradients_and_complexity_take_the_same_order(qp_shape):
    network, x, qp = with_qp(qp_shape), torch.rand(1, 1, 6, 7), torch.tensor([0.5])
    expected = torch.nn.functional.conv2d(x, torch.from_numpy(WEIGHT[:1]), padding=1) + 0.5
    assert torch.allclose(network(x, qp), expected, atol=1e-6)
    assert torch.allclose(differentiable(network, x, qp)(x, qp), expected, atol=1e-5)
    assert complexity(network, SCALAR).kmac_per_luma_sample == 9 / 1000


def test_several_pictures_take_a_qp_each():
    x = torch.rand(3, 1, 6, 7)
    assert torch.allclose(
        with_qp()(x, torch.arange(3.0)) - with_qp()(x, torch.zeros(3)),
        torch.arange(3.0)[:, None, None, None],
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"a": ("n",), "b": ("n", 6, "h", "w")}, 1),
        ({"a": ("n", 1, 1, 1), "b": ("n", 6, "h", "w")}, 1),
        ({"a": ("n", "c", "h", "w"), "planes": ("n", "c", "h", "w")}, 1),
        ({"qp": ("n", "c", "h", "w"), "x": ("n", "c", "h", "w")}, 1),
        ({"x": ()}, 0),
    ],
)
def test_the_planes_go_into_the_input_whose_shape_or_name_is_theirs(shapes, expected):
    assert planes_place([GraphInput(*each) for each in shapes.items()], 6) == expected


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"a": (1, "h", "w")}, r"no input .* takes planes \(N, 6, H, W\): it takes a \[1, 'h', 'w'\]"),
        ({"a": ("n", 4, "h", "w"), "b": ("n",)}, r"no input .* it takes a \['n', 4, 'h', 'w'\], b \['n'\]"),
        ({"a": ("n", "c", "h", "w"), "b": ("n", 6, "h", "w")}, "2 inputs .* could take planes .*; call them 'planes'"),
    ],
)
def test_planes_that_no_input_or_several_could_take_are_refused(shapes, message):
    with pytest.raises(InputError, match=message):
        planes_place([GraphInput(*each) for each in shapes.items()], 6)


@pytest.mark.parametrize(
    ("made", "layout", "message"),
    [
        (
            with_qp,
            "planes=y",
            r"m.onnx: the ONNX model has 2 inputs \(qp \['n'\], planes .*\), the layout .* gives it 1",
        ),
        (network, "planes=y,qp=scalar", r"m.onnx: the ONNX model has 1 input \(x0 .*\), the layout .* gives it 2"),
        (with_qp, "planes=yuv444,qp=scalar", r"m.onnx: no input of the ONNX model takes planes \(N, 3, H, W\)"),
    ],
)
def test_a_layout_that_does_not_fit_the_graphs_inputs_is_told_with_the_model(made, layout, message):
    with pytest.raises(InputError, match=message):
        declared_layout(made(), layout, where="m.onnx")
