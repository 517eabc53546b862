"""Batch norms folded in ONNX models: onnxruntime gets the same results, and what cannot be folded is left as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vvc_nnr
from vvc_nnr.bitstream.graph import Graph
from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.coding.encoder import compress_arrays
from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.network_file import decoded_arrays, read_arrays, with_folded_norms, write_arrays

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
helper = onnx.helper

N_CHANNELS = 12
NORM = ("scale", "shift", "mean", "var")


def normal(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(0.1, 0.5, shape).astype(np.float32)


def norm_tensors(n_channels: int = N_CHANNELS) -> NamedArrays:
    values = normal(4, n_channels)
    return dict(zip(NORM, (*values[:3], np.abs(values[3]) + np.float32(0.1)), strict=True))


def norm_node(given: str = "c", output: str = "y", **attributes: Any) -> Any:
    return helper.make_node("BatchNormalization", [given, *NORM], [output], epsilon=1e-3, **attributes)


def model_of(
    nodes: list[Any],
    tensors: NamedArrays,
    shape: tuple[int, ...],
    *,
    opset: int = 17,
    ir_version: int = 8,
    outputs: tuple[str, ...] = ("y",),
    open_inputs: tuple[str, ...] = (),
) -> Any:
    """A model whose input is "x"; constants in `open_inputs` are inputs too, which callers can replace."""
    initializers = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    kind = initializers[0].data_type
    names = [each.name for each in initializers] if ir_version < 4 else open_inputs
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    inputs += [helper.make_tensor_value_info(each.name, kind, each.dims) for each in initializers if each.name in names]
    results = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", inputs, results, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    return onnx.shape_inference.infer_shapes(model)


def run(model: Any, dtype: Any = np.float32) -> Any:
    loaded = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = model.graph.input[0].type.tensor_type.shape.dim
    shape = tuple(each.dim_value for each in given)
    return loaded.run(None, {"x": np.random.default_rng(3).normal(size=shape).astype(dtype)})


def operators(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


def assert_folds(model: Any, n_folded: int = 1, tolerance: float = 1e-5, dtype: Any = np.float32) -> Any:
    """The folded model, after it was checked to compute the same."""
    before = model.SerializeToString()
    folded = vvc_nnr.fold_batch_norms(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(folded, full_check=True)
    assert operators(model).count("BatchNormalization") - operators(folded).count("BatchNormalization") == n_folded
    assert [each.name for each in folded.graph.output] == [each.name for each in model.graph.output]
    for old, new in zip(run(model, dtype), run(folded, dtype), strict=True):
        assert old.shape == new.shape
        assert np.abs(old.astype(np.float64) - new).max() <= tolerance * np.abs(old).max()
    return folded


@pytest.mark.parametrize("opset", [7, 8, 9, 13, 14, 15, 17, 21])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("n_groups", [1, 3])
def test_convolutions(n_groups: int, has_bias: bool, opset: int) -> None:
    tensors = {"w": normal(N_CHANNELS, 6 // n_groups, 3, 2)} | ({"b": normal(N_CHANNELS)} if has_bias else {})
    conv = helper.make_node("Conv", ["x", *tensors], ["c"], pads=[1, 0, 2, 1], strides=[2, 1], group=n_groups)
    folded = assert_folds(model_of([conv, norm_node()], tensors | norm_tensors(), (2, 6, 9, 8), opset=opset))
    assert operators(folded) == ["Conv"]
    assert [each.name for each in folded.graph.initializer] == (["w", "b"] if has_bias else ["w", "w.bias"])


@pytest.mark.parametrize("n_dimensions", [1, 2, 3])
@pytest.mark.parametrize("n_groups", [1, 2, 6])
def test_transposed_convolutions(n_groups: int, n_dimensions: int) -> None:
    tensors = {"w": normal(6, N_CHANNELS // n_groups, *[3] * n_dimensions)}
    layer = helper.make_node("ConvTranspose", ["x", "w"], ["c"], strides=[2] * n_dimensions, group=n_groups)
    assert_folds(model_of([layer, norm_node()], tensors | norm_tensors(), (2, 6, *[5] * n_dimensions)))


@pytest.mark.parametrize("is_transposed", [0, 1])
@pytest.mark.parametrize("bias", [None, (), (1,), (N_CHANNELS,), (1, N_CHANNELS), (4, 1), (4, N_CHANNELS)])
def test_matrices(bias: tuple[int, ...] | None, is_transposed: int) -> None:
    shape = (N_CHANNELS, 5) if is_transposed else (5, N_CHANNELS)
    tensors: NamedArrays = {"w": normal(*shape)} | ({} if bias is None else {"b": np.float32(0.3) + normal(*bias)})
    layer = helper.make_node("Gemm", ["x", *tensors], ["c"], alpha=0.7, beta=-1.6, transB=is_transposed)
    folded = assert_folds(model_of([layer, norm_node()], tensors | norm_tensors(), (4, 5)))
    assert {each.name for each in folded.graph.initializer} == set(folded.graph.node[0].input[1:])


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 4e-3), (np.float64, 1e-12)])
def test_other_number_formats(dtype: Any, tolerance: float) -> None:
    tensors = {name: np.asarray(each).astype(dtype) for name, each in (norm_tensors() | {"w": normal(12, 6)}).items()}
    layer = helper.make_node("Gemm", ["x", "w"], ["c"], transB=1)
    folded = assert_folds(model_of([layer, norm_node()], tensors, (4, 6), opset=13), 1, tolerance, dtype)
    assert {each.data_type for each in folded.graph.initializer} == {helper.np_dtype_to_tensor_dtype(np.dtype(dtype))}


def test_weights_of_constant_nodes_and_norms_in_a_row() -> None:
    nodes = [
        helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(np.asarray(array)))
        for name, array in (norm_tensors() | {"w": normal(N_CHANNELS, 3, 2, 2)}).items()
    ]
    nodes += [helper.make_node("Conv", ["x", "w"], ["c"]), norm_node("c", "n"), norm_node("n", "y")]
    model = model_of(nodes, {"unused": normal(9)}, (1, 3, 4, 4))
    folded = assert_folds(model, 2)
    assert operators(folded) == ["Constant", "Conv"]
    assert [each.name for each in folded.graph.initializer] == ["unused", "w.bias"]


def test_old_models_whose_constants_are_inputs() -> None:
    tensors = norm_tensors() | {"w": normal(N_CHANNELS, 3, 2, 2)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), norm_node()]
    folded = assert_folds(model_of(nodes, tensors, (1, 3, 4, 4), opset=8, ir_version=3))
    assert [each.name for each in folded.graph.input] == ["x", "w", "w.bias"]


def test_shared_vectors_are_copied_and_names_stay_unique() -> None:
    tensors = {"w": normal(N_CHANNELS, 3, 1, 1), "v": normal(N_CHANNELS, 3, 1, 1), "w.bias": normal(N_CHANNELS)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "shift"], ["c"]),
        helper.make_node("Conv", ["x", "v", "shift"], ["d"]),
        norm_node("c", "e"),
        norm_node("d", "f"),
        helper.make_node("Sub", ["e", "f"], ["y"]),
        helper.make_node("Identity", ["shift"], ["z"]),
        helper.make_node("Identity", ["w.bias"], ["u"]),
    ]
    folded = assert_folds(model_of(nodes, tensors | norm_tensors(), (1, 3, 4, 4), outputs=("y", "z", "u")), 2)
    names = [each.name for each in folded.graph.initializer]
    assert names == ["w", "v", "w.bias", "shift", "w.bias_", "v.bias"]


def branching(name: str) -> Any:
    """A node that uses a name of the graph around it in one of its branches."""
    output = helper.make_tensor_value_info("o", onnx.TensorProto.FLOAT, None)
    inner = [helper.make_node("ReduceSum", [name], ["o"], keepdims=0)]
    branch = helper.make_graph(inner, "branch", [], [output])
    return helper.make_node("If", ["condition"], ["z"], then_branch=branch, else_branch=branch)


CONV = ["x", "w"]
LEFT: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "shared weight": (
        [
            helper.make_node("Conv", CONV, ["c"]),
            helper.make_node("Conv", CONV, ["d"]),
            norm_node("c", "e"),
            helper.make_node("Add", ["d", "e"], ["y"]),
        ],
        {},
    ),
    "output used twice": (
        [helper.make_node("Conv", CONV, ["c"]), norm_node("c", "e"), helper.make_node("Add", ["c", "e"], ["y"])],
        {},
    ),
    "output of the graph": ([helper.make_node("Conv", CONV, ["c"]), norm_node()], {"outputs": ("y", "c")}),
    "used in a branch": (
        [
            helper.make_node("Conv", CONV, ["c"]),
            norm_node(),
            helper.make_node("Constant", [], ["condition"], value=onnx.numpy_helper.from_array(np.array(True))),
            branching("c"),
        ],
        {"outputs": ("y", "z")},
    ),
    "weight used in a branch": (
        [
            helper.make_node("Conv", CONV, ["c"]),
            norm_node(),
            helper.make_node("Constant", [], ["condition"], value=onnx.numpy_helper.from_array(np.array(True))),
            branching("w"),
        ],
        {"outputs": ("y", "z")},
    ),
    "weight that callers can replace": ([helper.make_node("Conv", CONV, ["c"]), norm_node()], {"open_inputs": ("w",)}),
    "variance that callers can replace": (
        [helper.make_node("Conv", CONV, ["c"]), norm_node()],
        {"open_inputs": ("var",)},
    ),
    "computed weight": (
        [helper.make_node("Neg", ["w"], ["v"]), helper.make_node("Conv", ["x", "v"], ["c"]), norm_node()],
        {},
    ),
    "other layer": ([helper.make_node("Conv", CONV, ["d"]), helper.make_node("Relu", ["d"], ["c"]), norm_node()], {}),
    "no layer": ([helper.make_node("Conv", CONV, ["y"]), norm_node("x3", "z")], {"outputs": ("y", "z")}),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_is_left_as_it_was(case: str) -> None:
    nodes, options = LEFT[case]
    tensors = {"w": normal(N_CHANNELS, 3, 1, 1), "x3": normal(1, N_CHANNELS, 2, 2)} | norm_tensors()
    model = model_of(nodes, tensors, (1, 3, 4, 4), **options)
    folded = assert_folds(model, 0)
    assert folded.SerializeToString() == model.SerializeToString()


@pytest.mark.parametrize(
    ("opset", "attributes", "n_left"),
    [
        (15, {"training_mode": 1}, 1),
        (15, {"training_mode": 0}, 0),
        (6, {}, 1),
        (6, {"is_test": 1}, 0),
        (8, {"spatial": 0}, 1),
        (8, {"spatial": 1}, 0),
    ],
)
def test_modes_of_a_norm(opset: int, attributes: dict[str, int], n_left: int) -> None:
    tensors = {"w": normal(N_CHANNELS, 3, 1, 1)} | norm_tensors()
    nodes = [helper.make_node("Conv", CONV, ["c"]), norm_node(**attributes)]
    folded = vvc_nnr.fold_batch_norms(model_of(nodes, tensors, (1, 3, 4, 4), opset=opset))
    assert operators(folded).count("BatchNormalization") == n_left


def test_values_that_are_not_finite_when_folded() -> None:
    tensors = {"w": normal(N_CHANNELS, 3, 1, 1)} | norm_tensors()
    nodes = [helper.make_node("Conv", CONV, ["c"]), norm_node()]
    tensors["var"][3] = -1
    assert len(operators(vvc_nnr.fold_batch_norms(model_of(nodes, tensors, (1, 3, 4, 4))))) == 2
    tensors["var"][3] = 1
    tensors["scale"][2] = 60000
    small = {name: np.asarray(each).astype(np.float16) for name, each in (tensors | {"w": tensors["w"] * 4}).items()}
    assert len(operators(vvc_nnr.fold_batch_norms(model_of(nodes, small, (1, 3, 4, 4))))) == 2


def test_damaged_models() -> None:
    nodes = [helper.make_node("Conv", CONV, ["c"]), norm_node()]
    tensors = {"w": normal(8, 3, 1, 1)} | norm_tensors()
    with pytest.raises(BitstreamError, match="batch norm 'y' has not the 8 channels of the layer before it"):
        vvc_nnr.fold_batch_norms(model_of(nodes, tensors, (1, 3, 4, 4)))
    with pytest.raises(BitstreamError, match="tensors of different or odd shapes"):
        vvc_nnr.fold_batch_norms(model_of(nodes, tensors | {"mean": normal(11)}, (1, 3, 4, 4)))
    with pytest.raises(BitstreamError, match="'w' of shape"):
        vvc_nnr.fold_batch_norms(model_of(nodes, tensors | {"w": normal(12)}, (1, 3, 4, 4)))
    grouped = [helper.make_node("ConvTranspose", CONV, ["c"], group=5), norm_node()]
    with pytest.raises(BitstreamError, match="in 5 groups"):
        vvc_nnr.fold_batch_norms(model_of(grouped, tensors, (1, 3, 4, 4)))
    cut = model_of(nodes, tensors | {"w": normal(12, 3, 1, 1)}, (1, 3, 4, 4))
    cut.graph.initializer[0].raw_data = b"123"
    with pytest.raises(BitstreamError, match="tensor 'w' is damaged"):
        vvc_nnr.fold_batch_norms(cut)


def test_values_in_another_file_have_to_be_loaded(tmp_path: Path) -> None:
    tensors = {"w": normal(N_CHANNELS, 3, 1, 1)} | norm_tensors()
    model = model_of([helper.make_node("Conv", CONV, ["c"]), norm_node()], tensors, (1, 3, 4, 4))
    path = tmp_path / "big.onnx"
    onnx.save(model, path, save_as_external_data=True, location="big.bin", size_threshold=0)
    with pytest.raises(InputError, match="has its values in another file: load them before"):
        vvc_nnr.fold_batch_norms(onnx.load(path, load_external_data=False))
    assert_folds(onnx.load(path))
    with pytest.raises(InputError, match="an ONNX graph tells them itself"):
        vvc_nnr.fold_batch_norms(model, [("c", "y")])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tensors = {"w": normal(N_CHANNELS, 3, 3, 3)} | norm_tensors()
    onnx.save(
        model_of([helper.make_node("Conv", CONV, ["c"]), norm_node()], tensors, (1, 3, 6, 6)), tmp_path / "m.onnx"
    )
    return tmp_path / "m.onnx"


@pytest.mark.parametrize("lossless", [True, False])
def test_a_folded_model_is_coded_and_runs_again(path: Path, lossless: bool) -> None:
    network = with_folded_norms(read_arrays(path))
    assert list(network.arrays) == ["w", "w.bias"]
    data = coded(network, lossless)
    again = path.with_name("again.onnx")
    write_arrays(again, decoded_arrays(data, 1 << 20, 1))
    onnx.checker.check_model(str(again), full_check=True)
    found, wanted = run(onnx.load(again))[0], run(onnx.load(path))[0]
    assert np.abs(found - wanted).max() < (1e-5 if lossless else 0.02) * np.abs(wanted).max()


def coded(network: Any, lossless: bool) -> bytes:
    options = vvc_nnr.CompressOptions(lossless=True) if lossless else vvc_nnr.CompressOptions(qp=-40)
    return compress_arrays(network.arrays, options, roles=network.roles, graph=Graph(network.graph))


def test_the_command(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, folded, back = tmp_path / "a.nnc", tmp_path / "b.nnc", tmp_path / "back.onnx"
    assert main(["compress", str(path), "-o", str(small)]) == 0
    assert main(["compress", str(path), "-o", str(folded), "--fold-batch-norms", "--qp", "-44"]) == 0
    assert main(["decompress", str(folded), "-o", str(back)]) == 0
    assert operators(onnx.load(back)) == ["Conv"]
    assert np.abs(run(onnx.load(back))[0] - run(onnx.load(path))[0]).max() < 0.02
    capsys.readouterr()
    again = ["compress", str(small), "-o", str(tmp_path / "c.nnc"), "--fold-batch-norms", "--json"]
    assert main(again) == 0
    assert json.loads(capsys.readouterr().out)["n_bytes"] < small.stat().st_size


@pytest.mark.parametrize(
    ("given", "output", "options", "message"),
    [
        ("inloop-vlop", "a.nnc", [], "tensors alone do not tell which layer a norm follows"),
        ("{back}", "a.nnc", [], "back.onnx: no batch norm can be folded"),
        ("{path}", "a.safetensors", [], "--fold-batch-norms: only for --method nnc, not uniform8"),
        ("autoencoder-1.8bpp", "a.nnc", ["--calibrate", ".", "--max-loss-db", "1"], "no batch norm of the network"),
    ],
)
def test_refused(
    path: Path, given: str, output: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    back = path.with_name("back.onnx")
    onnx.save(vvc_nnr.fold_batch_norms(onnx.load(path)), back)
    words = ["compress", given.format(path=path, back=back), "-o", str(path.with_name(output)), "--fold-batch-norms"]
    assert main([*words, *options]) == 2
    assert message in capsys.readouterr().err
    assert not path.with_name(output).exists()


@pytest.mark.parametrize("outputs", [[], [""]])
def test_a_norm_without_outputs_is_left_as_it_is(outputs: list[str], tmp_path: Path) -> None:
    tensors = {"w": normal(N_CHANNELS, 3, 1, 1)} | norm_tensors()
    model = model_of([helper.make_node("Conv", ["x", "w"], ["c"]), norm_node()], tensors, (1, 3, 4, 4))
    model.graph.node[1].output[:] = outputs
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="no batch norm can be folded"):
        with_folded_norms(read_arrays(tmp_path / "x.onnx"))
    assert len(vvc_nnr.fold_batch_norms(model).graph.node) == 2


def test_names_that_are_no_utf8_are_refused_in_a_model_too() -> None:
    model = model_of([norm_node("x")], norm_tensors(), (1, N_CHANNELS, 4, 4))
    damaged = onnx.ModelProto()
    damaged.ParseFromString(model.SerializeToString().replace(b"scale", b"scal\x81"))
    with pytest.raises(BitstreamError, match="no UTF-8 in graph"):
        vvc_nnr.fold_batch_norms(damaged)


@pytest.mark.parametrize("name", ["epsilon", "group", "kernel_shape"])
def test_attributes_of_another_type_are_refused(name: str) -> None:
    tensors = {"w": normal(N_CHANNELS, 3, 1, 1)} | norm_tensors()
    conv = helper.make_node("Conv", ["x", "w"], ["c"], group=1, kernel_shape=[1, 1])
    model = model_of([conv, norm_node()], tensors, (1, 3, 4, 4))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == name:
                attribute.CopyFrom(onnx.AttributeProto(name=name))
    if name == "kernel_shape":  # nothing that folding asks for
        assert len(vvc_nnr.fold_batch_norms(model).graph.node) == 1
        return
    with pytest.raises(BitstreamError, match=f"attribute '{name}' of a .* is no "):
        vvc_nnr.fold_batch_norms(model)


def test_signalling_nan_in_a_weight_is_no_warning() -> None:
    tensors = {"w": normal(N_CHANNELS, 3, 1, 1)} | norm_tensors()
    tensors["w"].reshape(-1).view(np.uint32)[0] = 0x7FA00000
    model = model_of([helper.make_node("Conv", ["x", "w"], ["c"]), norm_node()], tensors, (1, 3, 4, 4))
    assert len(vvc_nnr.fold_batch_norms(model).graph.node) == 2
