"""ONNX models with steps by what noise does to their outputs: given and synthetic inputs, budgets, and hostile ones."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vvc_nnr.bitstream.graph import Graph
from vvc_nnr.compress import compress, decompress, decompress_onnx
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.network_file import onnx_network
from vvc_nnr.options import CompressOptions
from vvc_nnr.quantize.snr import snr_db as weight_snr_db
from vvc_nnr.sensitivity import compress_sensitive
from vvc_nnr.sensitivity.compress_sensitive import SensitiveNetwork, compress_by_sensitivity
from vvc_nnr.sensitivity.noise import Sensitivity, measured_sensitivities

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
FLOAT, INT64 = 1, 7
THREAD = CompressOptions(n_threads=1)


def weights(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


def model_of(nodes: list[Any], inputs: list[Any], arrays: dict[str, Any], outputs: tuple[str, ...] = ("y",)) -> Any:
    helper = onnx.helper
    graph = helper.make_graph(
        nodes,
        "g",
        inputs,
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, inputs.split(), [output], **attributes)


def declared(name: str, kind: int, shape: list[Any]) -> Any:
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def branches() -> Any:
    """Two equal branches, one of them multiplied by 1e-3 afterwards, and one that is multiplied by zero."""
    arrays = {
        "first": weights(1, 24, 64),
        "loud": weights(2, 64, 64),
        "quiet": weights(3, 64, 64),
        "dead": weights(4, 64, 64),
        "last": weights(5, 64, 10),
        "small": np.float32(1e-3),
        "zero": np.float32(0),
    }
    nodes = [
        node("MatMul", "x first", "a"),
        node("Relu", "a", "r"),
        node("MatMul", "r loud", "l"),
        node("MatMul", "r quiet", "q"),
        node("Mul", "q small", "s"),
        node("MatMul", "r dead", "d"),
        node("Mul", "d zero", "z"),
        node("Sum", "l s z", "sum"),
        node("MatMul", "sum last", "y"),
    ]
    return model_of(nodes, [declared("x", FLOAT, ["n", 24])], arrays)


def inputs_of(seed: int, n_batches: int = 3) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(16, 24)).astype(np.float32)} for _ in range(n_batches)]


def made(model: Any, inputs: Any, options: CompressOptions = THREAD) -> SensitiveNetwork:
    network = onnx_network(model)
    assert network.graph is not None
    return compress_by_sensitivity(network, inputs, options, graph=Graph(network.graph))


def snr_db(model: Any, data: bytes, batches: list[Any]) -> float:
    """Of the outputs of the coded model, run by itself."""

    def run(each: Any) -> Any:
        return runtime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"])

    before, after = run(model), run(decompress_onnx(data))
    pairs = [(before.run(None, batch)[0], after.run(None, batch)[0]) for batch in batches]
    return 10 * np.log10(sum(np.square(x).sum() for x, _ in pairs) / sum(np.square(x - y).sum() for x, y in pairs))


def test_a_branch_that_is_scaled_down_gets_fewer_bits() -> None:
    found = made(branches(), inputs_of(1))
    ratio = found.sensitivities["quiet"].per_mse / found.sensitivities["loud"].per_mse
    assert ratio == pytest.approx(1e-6, rel=0.5)
    assert found.unreached == ("dead",)
    assert found.method == "sensitivity"
    assert found.output_snr_db > found.usual_snr_db + 2
    held_out = inputs_of(2)
    data = compress(branches(), sensitivity=inputs_of(1), n_threads=1)
    assert data == found.coded.data
    usual = compress(branches(), n_threads=1)
    assert len(data) <= 1.001 * len(usual)
    assert snr_db(branches(), data, held_out) > snr_db(branches(), usual, held_out) + 2


def test_the_usual_file_is_kept_where_it_is_the_better_one_on_given_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    def reversed_ones(*arguments: Any) -> dict[str, Sensitivity]:
        found = measured_sensitivities(*arguments)
        return {name: replace(each, per_mse=each.per_mse and 1 / each.per_mse) for name, each in found.items()}

    monkeypatch.setattr(compress_sensitive, "measured_sensitivities", reversed_ones)
    found = made(branches(), inputs_of(1))
    assert found.method == "spread"
    assert found.coded.data == compress(branches(), n_threads=1)
    assert found.output_snr_db == found.usual_snr_db
    assert made(branches(), "synthetic").method == "sensitivity"


def test_nothing_is_destroyed_that_inputs_hardly_reach() -> None:
    found = made(branches(), inputs_of(1))
    assert not found.coded.weak_db
    arrays, decoded = onnx_network(branches()).arrays, decompress(found.coded.data)
    least_db = min(weight_snr_db(np.asarray(array), decoded[name]) for name, array in arrays.items())
    assert 10 <= least_db < 13


@pytest.mark.parametrize("options", [{"max_bytes": 9_000}, {"bits_per_weight": 5.0}, {"quality": 30.0}])
def test_budgets_are_kept(options: dict[str, Any]) -> None:
    usual = compress(branches(), n_threads=1, **options)
    found = made(branches(), inputs_of(1), CompressOptions(n_threads=1, **options))
    assert len(found.coded.data) <= (options.get("max_bytes") or len(usual))
    assert len(found.coded.data) > 0.97 * len(usual)
    assert found.output_snr_db > found.usual_snr_db + 1


def test_synthetic_inputs_are_the_same_every_time_and_tell_the_same() -> None:
    found, again = (made(branches(), "synthetic") for _ in range(2))
    assert found.is_synthetic
    assert found.coded.data == again.coded.data
    assert snr_db(branches(), found.coded.data, inputs_of(2)) > snr_db(branches(), compress(branches()), inputs_of(2))


def test_weights_in_branches_and_constant_nodes_are_measured() -> None:
    value = onnx.numpy_helper.from_array(weights(2, 24, 24))
    inner = [
        onnx.helper.make_graph(
            [node("MatMul", f"x {name}", f"{name}_y")],
            name,
            [],
            [declared(f"{name}_y", FLOAT, None)],
            [onnx.numpy_helper.from_array(weights(seed, 24, 24), name)],
        )
        for seed, name in ((5, "then"), (6, "else"))
    ]
    nodes = [
        onnx.helper.make_node("Constant", [], ["held"], value=value),
        node("ReduceMean", "x", "mean", keepdims=0),
        node("Greater", "mean far", "is_far"),
        node("If", "is_far", "i", then_branch=inner[0], else_branch=inner[1]),
        node("MatMul", "i held", "y"),
    ]
    model = model_of(nodes, [declared("x", FLOAT, ["n", 24])], {"far": np.float32(1e9)})
    found = made(model, inputs_of(1)).sensitivities
    assert found["held"].per_mse > 0
    assert found["else"].per_mse > 0
    assert found["then"].per_mse == 0


def tokens(n_rows: int = 40, more: tuple[Any, ...] = (), shift: int = 0) -> Any:
    """A table, of which integers choose rows, and a layer."""
    nodes = [
        node("Add", "ids shift", "shifted") if shift else node("Identity", "ids", "shifted"),
        node("Gather", "table shifted", "e"),
        node("MatMul", "e w", "p"),
        node("Softmax", "p", "y"),
    ]
    arrays = {"table": weights(1, n_rows, 16), "w": weights(2, 16, 8), "shift": np.int64(shift)}
    return model_of(nodes, [declared("ids", INT64, ["n", "t"]), *more], arrays)


def test_synthetic_integers_stay_within_their_table() -> None:
    found = made(tokens(), "synthetic")
    assert found.sensitivities["table"].per_mse > 0
    assert found.n_batches > 1


def test_sizes_that_a_model_leaves_open_are_found() -> None:
    nodes = [node("Reshape", "x shape", "f"), node("MatMul", "f w", "y")]
    arrays = {"w": weights(1, 100 * 4, 8), "shape": np.array([-1, 400])}
    model = model_of(nodes, [declared("x", FLOAT, ["n", "time", 4])], arrays)
    assert made(model, "synthetic").sensitivities["w"].per_mse > 0


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: tokens(shift=1000), "no synthetic inputs were found that the model runs on; its inputs are 'ids'"),
        (lambda: tokens(more=(declared("text", 8, [1]),)), "input 'text' is of the kind tensor\\(string\\)"),
    ],
)
def test_models_that_no_synthetic_input_fits_are_refused(model: Any, message: str) -> None:
    with pytest.raises((InputError, UnsupportedError), match=message):
        compress(model(), sensitivity="synthetic")


X = inputs_of(1)[0]["x"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([{"z": X}], "batch 0: lacks 'x' and has 'z'; the model's inputs are 'x'"),
        ([{"z" * 140: X}], f"batch 0: lacks 'x' and has '{'z' * 140}'; the model's inputs are 'x'"),
        ([{"x": X}, {"x": X, "y": X}], "batch 1: has 'y'"),
        ([X[:, :5]], "input 'x' has the shape 16 x 5; must be n x 24"),
        ([X[0]], "input 'x' has the shape 24; must be n x 24"),
        ([X.astype(np.int64)], "input 'x' is int64; must be float32"),
        ([np.where(X > 1, np.nan, X)], "NaN or infinite"),
        ([X[:0]], "is empty"),
        ([], "an empty list; must be a list of batches"),
        (7, "got int; must be a list of batches"),
        ([{"x": "text"}], "input 'x': a str is no array"),
        ("nothing.npz", "nothing.npz"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compress(branches(), sensitivity=inputs)


def test_npz_files_hold_one_batch_or_several(tmp_path: Path) -> None:
    batches = inputs_of(1)
    np.savez(tmp_path / "one.npz", x=batches[0]["x"])
    np.savez(tmp_path / "all.npz", x=np.stack([batch["x"] for batch in batches]))
    assert made(branches(), tmp_path / "one.npz").n_batches == 1
    assert made(branches(), str(tmp_path / "all.npz")).coded.data == made(branches(), batches).coded.data
    (tmp_path / "damaged.npz").write_bytes((tmp_path / "one.npz").read_bytes()[:-40])
    with pytest.raises(BitstreamError, match=r"damaged\.npz"):
        made(branches(), tmp_path / "damaged.npz")


def test_a_model_that_fails_on_inputs_is_refused() -> None:
    with pytest.raises(InputError, match=r"sensitivity: the model cannot be run on batch 1: .*Gather"):
        compress(tokens(), sensitivity=[np.ones((1, 4), np.int64), np.full((1, 4), 99)])


def test_outputs_that_are_not_finite_or_random_are_refused() -> None:
    x = [declared("x", FLOAT, ["n", 24])]
    divided = model_of([node("MatMul", "x w", "p"), node("Log", "p", "y")], x, {"w": weights(1, 24, 24)})
    with pytest.raises(InputError, match="output 'y' has NaN or infinite values on batch 0"):
        compress(divided, sensitivity=[X])
    noisy = [node("MatMul", "x w", "p"), node("RandomNormalLike", "p", "r"), node("Add", "p r", "y")]
    with pytest.raises(InputError, match="output 'y' is another at each run"):
        compress(model_of(noisy, x, {"w": weights(1, 24, 24)}), sensitivity=[X])


def test_what_has_no_graph_or_no_steps_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no graph to run, only tensors: give the torch module itself"):
        compress({"w": weights(1, 24, 24)}, sensitivity="synthetic")
    with pytest.raises(InputError, match="sensitivity: has no effect with qp"):
        compress(branches(), sensitivity=[X], qp=-30)
    with pytest.raises(InputError, match="sensitivity: has no effect with evaluate"):
        compress(branches(), sensitivity=[X], evaluate=lambda _: 1.0, max_drop=0.1)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"needs the package onnxruntime .*pip install 'vvc-nnr\[onnxruntime\]'"):
        compress(branches(), sensitivity=[X])


def test_the_command_line_tells_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, inputs, coded = (tmp_path / name for name in ("model.onnx", "inputs.npz", "small.nnc"))
    onnx.save(branches(), source)
    np.savez(inputs, x=X)
    words = ["compress", str(source), "-o", str(coded), "--threads", "1"]
    assert main([*words, "--sensitivity", str(inputs), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["sensitivity"]
    assert told["method"] == "sensitivity"
    assert told["inputs"] == "given"
    assert told["n_batches"] == 1
    assert told["output_snr_db"] > told["usual_output_snr_db"]
    assert told["tensors"]["dead"]["sensitivity"] == 0
    assert told["tensors"]["loud"]["is_linear"]
    assert decompress(coded.read_bytes()).keys() == {"first", "loud", "quiet", "dead", "last"}
    assert main([*words, "--sensitivity", "synthetic"]) == 0
    text = capsys.readouterr().out
    assert "output SNR on 4 batches of synthetic inputs: " in text
    assert "note: 1 tensor is reached by no input, and got its usual step: dead" in text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sensitivity", "none.npz"], "none.npz"),
        (["--sensitivity", "synthetic", "--qp", "-30"], "sensitivity: has no effect with"),
        (["--sensitivity", "synthetic", "--method", "uniform8"], "--sensitivity: only for --method nnc"),
        (["--sensitivity", "synthetic", "--calibrate", "."], "--sensitivity: only without --calibrate"),
    ],
)
def test_the_command_line_refuses_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    onnx.save(branches(), tmp_path / "model.onnx")
    coded = tmp_path / ("small.safetensors" if "uniform8" in more else "small.nnc")
    assert main(["compress", str(tmp_path / "model.onnx"), "-o", str(coded), *more]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
    assert not coded.exists()
