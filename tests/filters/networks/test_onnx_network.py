from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from vvc_nnr.errors import InputError, UnsupportedError
from vvc_nnr.filters.networks.onnx_network import OnnxNetwork
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
