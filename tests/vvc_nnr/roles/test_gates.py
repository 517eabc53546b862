"""Recurrent layers: the values that make the new state are found, and set the step of the weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from vvc_nnr.compress import compress, decompress, inspect
from vvc_nnr.model.onnx import take_apart
from vvc_nnr.quantize.quality import MAX_LESS_DB, less_spread_db
from vvc_nnr.quantize.snr import snr_db
from vvc_nnr.roles.gates import Candidate, candidate_of_operator, candidates_by_name

N_INPUTS, N_STATES = 6, 5


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell])
def test_without_its_candidate_a_torch_layer_has_no_new_state(kind: type[nn.Module]) -> None:
    torch.manual_seed(1)
    layer = kind(N_INPUTS, N_STATES, bias=False)
    found = candidates_by_name({name: tuple(value.shape) for name, value in layer.state_dict().items()})
    assert found.keys() == layer.state_dict().keys()
    n_parts = next(iter(found.values())).n_parts
    for place in range(n_parts):
        state = {name: value.clone() for name, value in layer.state_dict().items()}
        for name, value in state.items():
            Candidate(0, n_parts, place).of(value.numpy())[:] = 0
            assert found[name].axis == 0
        changed = kind(N_INPUTS, N_STATES, bias=False)
        changed.load_state_dict(state)
        with torch.no_grad():
            output = changed(torch.ones(3, N_INPUTS))
        while isinstance(output, tuple):
            output = output[0]
        assert bool((output == 0).all()) == all(place == each.place for each in found.values())


def recurrent_model(op_type: str, n_parts: int, zeroed: int | None = None) -> onnx.ModelProto:
    rng = np.random.default_rng(2)
    weights = {
        "w": rng.normal(size=(1, n_parts * N_STATES, N_INPUTS)),
        "r": rng.normal(size=(1, n_parts * N_STATES, 5)),
    }
    for values in weights.values():
        if zeroed is not None:
            Candidate(1, n_parts, zeroed).of(values)[:] = 0
    node = onnx.helper.make_node(op_type, ["x", "w", "r"], ["y"], hidden_size=N_STATES)
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4, 2, N_INPUTS])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(("op_type", "n_parts"), [("LSTM", 4), ("GRU", 3)])
def test_without_its_candidate_an_operator_has_no_new_state(op_type: str, n_parts: int) -> None:
    roles = take_apart(recurrent_model(op_type, n_parts), 1).roles
    for place in range(n_parts):
        model = recurrent_model(op_type, n_parts, place).SerializeToString()
        runner = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        (output,) = runner.run(["y"], {"x": np.ones((4, 2, N_INPUTS), np.float32)})
        assert (not output.any()) == (roles["w"].candidate == Candidate(1, n_parts, place))
        assert (not output.any()) == (roles["r"].candidate == Candidate(1, n_parts, place, "w"))


def test_candidates_are_of_whole_recurrent_layers_only() -> None:
    assert candidates_by_name({"rnn.weight_ih_l0": (5, 6), "rnn.weight_hh_l0": (5, 5)}) == {}
    assert candidates_by_name({"rnn.weight_ih_l0": (20, 6)}) == {}
    assert candidates_by_name({"lstm.weight_ih_l0": (20, 6), "lstm.weight_hh_l0": (20, 3)}) == {}
    keras = {"a/lstm_cell/kernel:0": (6, 20), "a/lstm_cell/recurrent_kernel:0": (5, 20), "a/dense/kernel:0": (5, 20)}
    kernel, recurrent = list(keras)[:2]
    assert candidates_by_name(keras) == {kernel: Candidate(1, 4, 2), recurrent: Candidate(1, 4, 2, kernel)}
    numbered = {
        "layers/bidirectional/forward_layer/cell/vars/0": (6, 15),
        "layers/bidirectional/forward_layer/cell/vars/1": (5, 15),
        "layers/bidirectional/forward_layer/cell/vars/2": (2, 15),
        "layers/rnn/cell/cells/lstm_cell_1/vars/0": (6, 20),
        "layers/rnn/cell/cells/lstm_cell_1/vars/1": (5, 20),
        "layers/simple_rnn/cell/vars/0": (6, 5),
        "layers/simple_rnn/cell/vars/1": (5, 5),
        "layers/dense/vars/0": (6, 15),
        "layers/dense/vars/1": (5, 15),
        "layers/parcell/vars/0": (6, 15),
        "layers/parcell/vars/1": (5, 15),
    }
    gru, of_gru, _, lstm, of_lstm, *_ = numbered
    assert candidates_by_name(numbered) == {
        gru: Candidate(1, 3, 2),
        of_gru: Candidate(1, 3, 2, gru),
        lstm: Candidate(1, 4, 2),
        of_lstm: Candidate(1, 4, 2, lstm),
    }
    assert candidate_of_operator("RNN", (1, 5, 6)) is None
    assert candidate_of_operator("GRU", (1, 10, 6)) is None


def test_a_part_of_zeros_and_a_tiny_one_move_no_step_far() -> None:
    values = np.random.default_rng(3).normal(size=(12, 40)).astype(np.float32)
    assert less_spread_db(values, np.zeros((3, 40), np.float32)) == 0
    assert less_spread_db(values, values[:3] / 1000) == MAX_LESS_DB
    assert less_spread_db(values / 1000, values[:3]) == -MAX_LESS_DB


def test_a_small_candidate_keeps_its_quality() -> None:
    rng = np.random.default_rng(4)
    network = {
        "gru.weight_ih_l0": rng.normal(0, 0.1, (192, 64)).astype(np.float32),
        "gru.weight_hh_l0": rng.normal(0, 0.1, (192, 64)).astype(np.float32),
        "out.weight": rng.normal(0, 0.1, (256, 64)).astype(np.float32),
    }
    network["gru.weight_ih_l0"][128:] *= 0.4
    decoded = decompress(compress(network, quality=25))
    candidates_db = [snr_db(network[name][128:], decoded[name][128:]) for name in list(network)[:2]]
    assert candidates_db[0] > candidates_db[1] - 1.5


def test_weights_of_the_state_have_no_finer_step_than_those_of_the_input_and_are_no_last_layer() -> None:
    rng = np.random.default_rng(5)
    network = {
        "first.weight": rng.normal(0, 0.1, (256, 64)).astype(np.float32),
        "gru.weight_ih_l0": rng.normal(0, 0.1, (96, 256)).astype(np.float32),
        "gru.weight_hh_l0": rng.normal(0, 0.02, (96, 32)).astype(np.float32),
    }
    steps = {tensor.name: tensor.step for tensor in inspect(compress(network, quality=25)).tensors}
    assert steps["gru.weight_hh_l0"] == steps["gru.weight_ih_l0"] < steps["first.weight"]
    changed = network | {"gru.weight_hh_l0": 50 * network["gru.weight_hh_l0"]}
    steps = {tensor.name: tensor.step for tensor in inspect(compress(changed, quality=25)).tensors}
    assert steps["gru.weight_hh_l0"] > steps["gru.weight_ih_l0"]


def test_weights_of_the_state_keep_what_each_tensor_does() -> None:
    rng = np.random.default_rng(6)
    network = {
        "gru.weight_ih_l0": rng.normal(0, 1, (96, 32)).astype(np.float32),
        "gru.weight_hh_l0": rng.normal(0, 0.001, (96, 32)).astype(np.float32),
        "out.weight": rng.normal(0, 0.1, (32, 32)).astype(np.float32),
    }
    name = "gru.weight_hh_l0"
    assert snr_db(network[name], decompress(compress(network))[name]) > 13
