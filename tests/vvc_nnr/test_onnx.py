"""ONNX models: constants out of the graph and into it again, by both ways of carrying the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.graph import Graph, GraphCarriage, graph_of_text, graph_of_unit
from vvc_nnr.model.any_file import decoded_arrays, read_arrays, write_arrays
from vvc_nnr.model.roles import Role
from vvc_nnr.network_encoder import compress_arrays
from vvc_nnr.options import CompressOptions
from vvc_nnr.stream import read_stream
from vvc_nnr.units import TopologyUnit

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
RANDOM = np.random.default_rng(1)
CARRIAGES: list[GraphCarriage] = ["onnx", "manifest"]


def make_model() -> Any:
    """Convolution, batch norm, a constant node and a shape that stays in the graph."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper

    def constant(name: str, array: Any) -> Any:
        return numpy_helper.from_array(array, name)

    normal = lambda *shape: RANDOM.normal(0, 0.2, shape).astype(np.float32)  # noqa: E731
    initializers = [
        constant("w", normal(8, 3, 3, 3)),
        constant("b", normal(8)),
        constant("scale", normal(8) + 1),
        constant("shift", normal(8)),
        constant("mean", normal(8)),
        constant("var", np.abs(normal(8)) + np.float32(1e-6)),
        constant("shape", np.array([1, -1])),
    ]
    value = helper.make_attribute("value", constant("", normal(8 * 16, 5)))
    head = helper.make_node("Constant", [], ["head"])
    head.attribute.append(value)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["f"]),
        head,
        helper.make_node("MatMul", ["f", "head"], ["y"]),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", kind, [1, 5])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(make_model(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def outputs(path: Path) -> Any:
    model = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return model.run(None, {"x": np.random.default_rng(2).normal(size=(1, 3, 4, 4)).astype(np.float32)})[0]


def test_constants_leave_the_graph_with_their_roles(path: Path) -> None:
    network = read_arrays(path)
    roles = {name: found.role for name, found in network.roles.items()}
    assert roles == {
        "w": Role.WEIGHT,
        "b": Role.BIAS,
        "scale": Role.NORM_SCALE,
        "shift": Role.NORM_SHIFT,
        "mean": Role.MEAN,
        "var": Role.VARIANCE,
        "head": Role.WEIGHT,
    }
    assert network.graph is not None
    assert len(network.graph) < 900
    assert network.n_bytes == path.stat().st_size


@pytest.mark.parametrize("carriage", CARRIAGES)
@pytest.mark.parametrize("lossless", [True, False])
def test_one_file_becomes_the_same_model_again(path: Path, carriage: GraphCarriage, lossless: bool) -> None:
    network = read_arrays(path)
    assert network.graph is not None
    data = compress_arrays(
        network.arrays,
        CompressOptions(qp=-40, lossless=lossless),
        metadata={"by": '{"vvc_nnr":'},
        roles=network.roles,
        graph=Graph(network.graph, carriage),
    )
    topology = next(p.unit for p in read_stream(data).units if isinstance(p.unit, TopologyUnit))
    assert topology.topology_storage_format == (2 if carriage == "onnx" else 0)
    again = path.with_name("again.onnx")
    write_arrays(again, decoded_arrays(data, 1 << 20, 1))
    onnx.checker.check_model(str(again))
    assert not onnx.load(again).metadata_props
    if lossless:
        assert np.array_equal(outputs(again), outputs(path))
    else:
        assert np.abs(outputs(again) - outputs(path)).max() < 0.02 * np.abs(outputs(path)).max()


def test_the_topology_unit_of_the_standard_is_an_onnx_model(path: Path) -> None:
    network = read_arrays(path)
    assert network.graph is not None
    data = compress_arrays(network.arrays, CompressOptions(), graph=Graph(network.graph))
    stream = read_stream(data)
    assert stream.is_verifiable
    model = onnx.load_from_string(stream.graph)
    assert [node.op_type for node in model.graph.node][:2] == ["Conv", "BatchNormalization"]
    assert [entry.key for entry in model.metadata_props] == ["vvc_nnr"]
    for place in (40, len(data) - 5):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises((BitstreamError, UnsupportedError)):
            read_stream(damaged)


def test_external_data(path: Path) -> None:
    beside = path.with_name("big.onnx")
    onnx.save(
        make_model(), beside, save_as_external_data=True, location="big.bin", size_threshold=0, convert_attribute=True
    )
    assert np.array_equal(read_arrays(beside).arrays["w"].shape, (8, 3, 3, 3))
    path.with_name("big.bin").unlink()
    with pytest.raises(InputError, match=r"big\.onnx: tensor 'w' is in the file 'big\.bin', which cannot be read"):
        read_arrays(beside)


def test_external_data_outside_the_folder_is_not_read(path: Path) -> None:
    model = make_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="cannot be read"):
        read_arrays(path)


def test_files_that_are_no_models(path: Path) -> None:
    data = path.read_bytes()
    for text in (b"", b"\xff" * 50, b"hello"):
        path.write_bytes(text)
        with pytest.raises(BitstreamError, match=r"model\.onnx: no ONNX model"):
            read_arrays(path)
    for cut in range(1, len(data), 101):
        path.write_bytes(data[:cut])
        with pytest.raises((BitstreamError, UnsupportedError)):
            read_arrays(path)


def test_graphs_that_do_not_fit(path: Path) -> None:
    network = read_arrays(path)
    assert network.graph is not None
    arrays = dict(network.arrays) | {"b": np.zeros(9, np.float32)}
    data = compress_arrays(arrays, CompressOptions(), graph=Graph(network.graph, "manifest"))
    with pytest.raises(BitstreamError, match=r"tensor 'b' is float32 \(9,\), the graph has float32 \(8,\)"):
        write_arrays(path, decoded_arrays(data, 1 << 20, 1))
    with pytest.raises(BitstreamError, match="base64"):
        graph_of_text("é")
    with pytest.raises(BitstreamError, match="does not inflate"):
        graph_of_text("aGVsbG8=")
    with pytest.raises(BitstreamError, match="does not inflate"):
        graph_of_unit(TopologyUnit(2, 1, b"hello"))
