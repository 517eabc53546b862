"""ONNX models: constants out of the graph and into it again, by both ways of carrying the graph."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vvc_nnr
from vvc_nnr.bitstream import graph as graph_limits
from vvc_nnr.bitstream.graph import Graph, GraphCarriage, graph_of_text, graph_of_unit
from vvc_nnr.bitstream.manifest import checksum
from vvc_nnr.bitstream.parameter_sets import ModelParameterSet
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.bitstream.units import StartUnit, TopologyUnit, write_units
from vvc_nnr.coding.encoder import compress_arrays
from vvc_nnr.compress import compress, decompress, decompress_onnx, inspect
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.experiments.cli.main import main
from vvc_nnr.model import onnx as onnx_parts
from vvc_nnr.model.onnx_graph import graph_roles
from vvc_nnr.model.onnx_proto import every_tensor
from vvc_nnr.network_file import (
    all_tensors,
    decoded_arrays,
    read_arrays,
    read_network_file,
    states_of_update,
    write_arrays,
)
from vvc_nnr.options import CompressOptions
from vvc_nnr.roles.roles import Role

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
        CompressOptions(lossless=True) if lossless else CompressOptions(qp=-40),
        metadata={"by": '{"vvc_nnr":'},
        roles=network.roles,
        graph=Graph(network.graph, carriage),
    )
    topology = next(p.unit for p in read_stream(data).units if isinstance(p.unit, TopologyUnit))
    assert topology.topology_storage_format == (2 if carriage == "onnx" else 0)
    again = path.with_name("again.onnx")
    write_arrays(again, decoded_arrays(data, 1 << 20, 1))
    onnx.checker.check_model(str(again))
    assert [(e.key, e.value) for e in onnx.load(again).metadata_props] == [("by", '{"vvc_nnr":')]
    if lossless:
        assert np.array_equal(outputs(again), outputs(path))
    else:
        assert np.abs(outputs(again) - outputs(path)).max() < 0.02 * np.abs(outputs(path)).max()


def test_the_topology_unit_of_the_standard_is_an_onnx_model(path: Path) -> None:
    network = read_arrays(path)
    assert network.graph is not None
    data = compress_arrays(network.arrays, CompressOptions(), graph=Graph(network.graph, "onnx"))
    stream = read_stream(data)
    assert stream.is_verifiable
    unit = next(placed.unit for placed in stream.units if isinstance(placed.unit, TopologyUnit))
    assert (unit.topology_storage_format, unit.topology_compression_format) == (2, 1)
    assert zlib.decompressobj().decompress(unit.topology_data) == network.graph == stream.graph
    model = onnx.load_from_string(stream.graph)
    assert [node.op_type for node in model.graph.node][:2] == ["Conv", "BatchNormalization"]
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


def model_of(nodes: list[Any], tensors: dict[str, Any], functions: Any = ()) -> Any:
    """A model from x (1, 16) to y (1, 16)."""
    helper = onnx.helper
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 16]) for name in "xy"]
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


WEIGHT = RANDOM.normal(0, 0.2, (16, 16)).astype(np.float32)
VECTOR = RANDOM.normal(0, 0.2, 16).astype(np.float32)


@pytest.mark.parametrize(
    ("carriers", "tensor", "user", "role"),
    [
        (["Identity"], WEIGHT, "MatMul", Role.WEIGHT),
        (["Transpose", "Identity"], WEIGHT, "MatMul", Role.WEIGHT),
        (["Cast", "Transpose"], WEIGHT.astype(np.float16), "Gemm", Role.WEIGHT),
        (["Reshape"], WEIGHT.reshape(-1), "MatMul", Role.WEIGHT),
        (["Reshape"], WEIGHT.reshape(4, 64), "MatMul", Role.WEIGHT),
        ([], WEIGHT, "Einsum", Role.WEIGHT),
        (["Identity"], VECTOR, "Add", Role.BIAS),
        (["Unsqueeze"], VECTOR, "Mul", Role.CONSTANT),
        ([], VECTOR, "Einsum", Role.CONSTANT),
        (["Cast to int"], WEIGHT, "MatMul", Role.CONSTANT),
        (["Transpose"], np.round(WEIGHT), "MatMul", Role.CONSTANT),
        (["Transpose"], WEIGHT, "Pow", Role.CONSTANT),
    ],
)
def test_constants_are_followed_to_what_uses_them(
    tmp_path: Path, carriers: list[str], tensor: Any, user: str, role: Role
) -> None:
    make, kinds = onnx.helper.make_node, onnx.TensorProto
    nodes, last = [], "w"
    for place, carrier in enumerate(carriers):
        to = {"Cast": {"to": kinds.FLOAT}, "Cast to int": {"to": kinds.INT8}}.get(carrier, {})
        inputs = [last, "shape"] if carrier == "Reshape" else [last, "axes"] if carrier == "Unsqueeze" else [last]
        last = f"w{place}"
        nodes.append(make(carrier.split()[0], inputs, [last], **to))
    nodes.append(make(user, ["x", last], ["y"]))
    tensors = {"w": tensor, "shape": np.array([16, -1]), "axes": np.array([0])}
    onnx.save(model_of(nodes, tensors), tmp_path / "model.onnx")
    assert read_arrays(tmp_path / "model.onnx").roles["w"].role is role


def offset_model(way: str, n_rows: int) -> Any:
    """A network whose output is the sum of a large product and the rows of a small table, or much the same."""
    rng = np.random.default_rng(8)
    tensors = {"w": rng.normal(0, 1, (640, 640)), "last": rng.normal(0, 1, (6, 6)), "t": rng.normal(0, 4, (n_rows, 6))}
    tensors |= {"v": rng.normal(0, 1, (640, 6))}
    make = onnx.helper.make_node
    nodes = [make("MatMul", ["x", "w"], ["a"]), make("MatMul", ["a", "v"], ["b"])]
    if way == "added whole":
        nodes += [make("Add", ["b", "t"], ["c"])]
    elif way == "looked up":
        nodes += [make("Gather", ["t", "i"], ["g"]), make("Identity", ["g"], ["c"])]
    else:
        nodes += [make("Gather", ["t", "i"], ["g"]), make("Reshape", ["g", "s"], ["r"]), make("Add", ["r", "b"], ["c"])]
    nodes += [make("MatMul", ["c", "last"], ["d"])] if way == "before a weight" else [make("Identity", ["c"], ["d"])]
    nodes += [make("Where", ["m", "d", "z"], ["y"])]
    arrays = {name: array.astype(np.float32) for name, array in tensors.items()}
    return model_of(nodes, arrays | {"s": np.array([-1, 6]), "z": np.zeros((), np.float32)})


@pytest.mark.parametrize(
    ("way", "role"),
    [
        *(("added", Role.BIAS), ("added whole", Role.BIAS)),
        *(("looked up", Role.WEIGHT), ("before a weight", Role.WEIGHT)),
    ],
)
def test_a_small_table_that_is_added_to_an_output_is_a_bias(way: str, role: Role) -> None:
    parts = onnx_parts.take_apart(offset_model(way, 60), 0)
    assert parts.roles["t"].role is role
    assert ("added to an output" in parts.roles["t"].reason) == (role is Role.BIAS)
    assert parts.roles["w"].role is Role.WEIGHT


def test_a_large_table_that_is_added_to_an_output_is_a_weight() -> None:
    assert onnx_parts.take_apart(offset_model("added", 80), 0).roles["t"].role is Role.WEIGHT


def test_a_tensor_that_is_a_variance_anywhere_is_one(tmp_path: Path) -> None:
    make = onnx.helper.make_node
    nodes = [
        make("Add", ["x", "v"], ["a"]),
        make("Identity", ["v"], ["i"]),
        make("BatchNormalization", ["a", "v", "v", "v", "i"], ["y"]),
    ]
    onnx.save(model_of(nodes, {"v": np.abs(VECTOR)}), tmp_path / "model.onnx")
    assert read_arrays(tmp_path / "model.onnx").roles["v"].role is Role.VARIANCE


@pytest.mark.parametrize("carriage", CARRIAGES)
def test_coded_networks_have_the_roles_of_their_graph(path: Path, carriage: GraphCarriage) -> None:
    network = read_arrays(path)
    assert network.graph is not None
    data = compress_arrays(network.arrays, CompressOptions(), None, None, network.roles, Graph(network.graph, carriage))
    path.with_suffix(".nnc").write_bytes(data)
    assert read_arrays(path.with_suffix(".nnc")).roles == network.roles


def test_tensors_that_the_graph_lacks_have_the_roles_of_their_names(path: Path) -> None:
    network = read_arrays(path)
    assert network.graph is not None
    arrays = {"bn.running_var": np.abs(VECTOR)} | network.arrays
    roles = decoded_arrays(compress_arrays(arrays, CompressOptions(), graph=Graph(network.graph)), 1 << 20, 1).roles
    assert (roles["bn.running_var"].role, roles["var"].role) == (Role.VARIANCE, Role.VARIANCE)
    assert not graph_roles(b"hello", arrays)


def nested_model() -> Any:
    """Weights in a branch, in a branch of that, and in a function."""
    helper, constant = onnx.helper, onnx.numpy_helper.from_array

    def branch(name: str, nodes: list[Any]) -> Any:
        out = helper.make_tensor_value_info(f"{name}_y", onnx.TensorProto.FLOAT, [1, 16])
        return helper.make_graph(nodes, name, [], [out], [constant(WEIGHT, f"{name}_w")])

    def product(name: str) -> Any:
        return helper.make_node("MatMul", ["x", f"{name}_w"], [f"{name}_y"])

    inner = {key: branch(key, [product(key)]) for key in ("a", "b")}
    choice = helper.make_node("If", ["c"], ["d_y"], then_branch=inner["a"], else_branch=inner["b"])
    outer = {"then_branch": branch("d", [choice]), "else_branch": branch("e", [product("e")])}
    own = helper.make_function(
        "own",
        "Linear",
        ["i"],
        ["o"],
        [
            helper.make_node("Constant", [], ["k"], value=constant(WEIGHT, "k")),
            helper.make_node("MatMul", ["i", "k"], ["o"]),
        ],
        [helper.make_opsetid("", 17)],
    )
    nodes = [helper.make_node("If", ["c"], ["h"], **outer), helper.make_node("Linear", ["h"], ["y"], domain="own")]
    return model_of(nodes, {"c": np.array(True)}, [own])


def test_external_data_of_branches_and_functions_comes_into_the_graph(tmp_path: Path) -> None:
    inputs = {"x": VECTOR[None]}
    whole, beside, again = (tmp_path / name for name in ("whole.onnx", "beside.onnx", "again.onnx"))
    onnx.save(nested_model(), whole)
    model = nested_model()
    for name, tensor in every_tensor(model):
        onnx.external_data_helper.set_external_data(tensor, f"{name}.bin")
        (tmp_path / f"{name}.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
    beside.write_bytes(model.SerializeToString())
    network = read_arrays(beside)
    assert network.n_bytes == beside.stat().st_size + sum(file.stat().st_size for file in tmp_path.glob("*.bin"))
    for file in tmp_path.glob("*.bin"):
        file.rename(tmp_path / f"{file.stem}.gone")
    write_arrays(again, network)
    results = [runtime.InferenceSession(str(file)).run(None, inputs)[0] for file in (whole, again)]
    assert np.array_equal(*results)
    with pytest.raises(InputError, match=r"file '\w\.bin', which cannot be read"):
        read_arrays(beside)
    for file in tmp_path.glob("*.gone"):
        (tmp_path / f"{file.stem}.bin").write_bytes(b"short")
    with pytest.raises(BitstreamError, match="damaged"):
        read_arrays(beside)


@pytest.mark.parametrize("place", ["../outside.bin", "/etc/passwd"])
def test_external_data_of_branches_outside_the_folder_is_not_read(tmp_path: Path, place: str) -> None:
    model = nested_model()
    tensor = model.graph.node[0].attribute[0].g.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    (tmp_path / "in").mkdir()
    (tmp_path / "outside.bin").write_bytes(WEIGHT.tobytes())
    (tmp_path / "in" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="cannot be read"):
        read_arrays(tmp_path / "in" / "model.onnx")


def all_texts() -> Any:
    """A model with a text in every place that has one."""
    model = make_model()
    model.producer_name = model.domain = "PLACE"
    model.doc_string = model.graph.doc_string = model.graph.name = "PLACE"
    model.metadata_props.add(key="PLACE", value="PLACE")
    model.graph.node[0].name = model.graph.node[0].doc_string = model.graph.node[0].domain = "PLACE"
    model.graph.node[0].attribute[0].name = "PLACE"
    model.graph.node[1].op_type = model.graph.node[1].output[0] = model.graph.node[2].input[0] = "PLACE"
    model.graph.initializer[0].name = model.graph.initializer[0].doc_string = "PLACE"
    model.graph.input[0].name = model.graph.output[0].name = "PLACE"
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "PLACE"
    branch = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["PLACE"], ["z"])], "b", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["x"], ["q"], then_branch=branch, else_branch=branch))
    model.functions.add(name="PLACE", domain="PLACE").input.append("PLACE")
    return model


def test_texts_that_are_no_utf8_are_refused_wherever_they_are(tmp_path: Path) -> None:
    data = all_texts().SerializeToString()
    places = [at for at in range(len(data)) if data.startswith(b"PLACE", at)]
    assert len(places) > 20
    for at in places:
        (tmp_path / "x.onnx").write_bytes(data[:at] + b"PLA\x81E" + data[at + 5 :])
        with pytest.raises(BitstreamError, match=r"x\.onnx: the text b'PLA\\x81E' is no UTF-8 in ") as caught:
            read_arrays(tmp_path / "x.onnx")
        assert caught.value.field


def test_a_graph_in_a_coded_file_whose_texts_are_no_utf8(tmp_path: Path) -> None:
    model = read_onnx_of(make_model(), tmp_path)
    data = compress_arrays(model.arrays, CompressOptions(), graph=Graph(model.graph.replace(b"head", b"hea\x81")))
    network = decoded_arrays(data, 1 << 20, 1)
    with pytest.raises(BitstreamError, match="no UTF-8"):
        write_arrays(tmp_path / "y.onnx", network)


def read_onnx_of(model: Any, folder: Path) -> Any:
    (folder / "x.onnx").write_bytes(model.SerializeToString())
    return read_arrays(folder / "x.onnx")


def test_models_beyond_two_gib_are_refused_before_they_are_made(tmp_path: Path) -> None:
    model = read_onnx_of(make_model(), tmp_path)
    large = {"w": np.broadcast_to(np.zeros(1, np.float32), (1 << 15, 1 << 15))}
    with pytest.raises(UnsupportedError, match=r"4294.* bytes, an ONNX file at most 2147483647"):
        write_arrays(tmp_path / "y.onnx", replace(model, arrays=model.arrays | large))
    assert not (tmp_path / "y.onnx").exists()


def test_external_data_with_keys_that_are_not_known(tmp_path: Path) -> None:
    model = make_model()
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, "x.data", offset=0, length=len(tensor.raw_data))
    (tmp_path / "x.data").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="locetion", value="y")
    assert read_onnx_of(model, tmp_path).arrays["w"].shape == (8, 3, 3, 3)


WEIGHTS_IN_THE_GRAPH = {
    "c": ([], [lambda: onnx.numpy_helper.from_array(np.ones(8, np.complex64), "c")]),
    "s": (
        [
            lambda: onnx.helper.make_node(
                *("Constant", [], ["s"]),
                sparse_value=onnx.helper.make_sparse_tensor(
                    *(onnx.numpy_helper.from_array(np.ones(8, np.float32), "v"),),
                    *(onnx.numpy_helper.from_array(np.arange(8), "i"), [64]),
                ),
            )
        ],
        [],
    ),
}


@pytest.mark.parametrize("name", WEIGHTS_IN_THE_GRAPH)
def test_weights_that_stay_in_the_graph_are_not_lost_with_it(tmp_path: Path, name: str) -> None:
    nodes, tensors = ([make() for make in makers] for makers in WEIGHTS_IN_THE_GRAPH[name])
    info = [onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None)]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], info, tensors)), tmp_path / "a.onnx")
    network = read_arrays(tmp_path / "a.onnx")
    for suffix in (".safetensors", ".pt"):
        with pytest.raises(UnsupportedError, match=rf"b{suffix}: . of its constants \('{name}'.*would be lost"):
            write_arrays(tmp_path / f"b{suffix}", network)
        assert not (tmp_path / f"b{suffix}").exists()
    with pytest.raises(UnsupportedError, match=rf"a\.onnx: . of its constants \('{name}'"):
        read_network_file(tmp_path / "a.onnx")
    write_arrays(tmp_path / "b.onnx", network)
    assert onnx.load(tmp_path / "b.onnx") == onnx.load(tmp_path / "a.onnx")


def test_small_constants_and_texts_may_go_with_the_graph(path: Path, tmp_path: Path) -> None:
    model = onnx.load(path)
    model.graph.initializer.append(onnx.helper.make_tensor("labels", onnx.TensorProto.STRING, [9], [b"a"] * 9))
    onnx.save(model, path)
    write_arrays(tmp_path / "b.safetensors", read_arrays(path))
    found = read_network_file(tmp_path / "b.safetensors").tensors
    assert set(read_network_file(path).tensors) == set(found)
    assert {"w", "shape"} < set(found)


def test_small_constants_come_along_to_files_without_a_graph(tmp_path: Path) -> None:
    make = onnx.helper.make_node
    tensors = {"w": WEIGHT, "slope": VECTOR[:1], "half": VECTOR[:3].astype(np.float16), "b": VECTOR[:1] * 2}
    nodes = [make("MatMul", ["x", "w"], ["m"]), make("PRelu", ["m", "slope"], ["p"]), make("Add", ["p", "b"], ["y"])]
    onnx.save(model_of(nodes, tensors), tmp_path / "a.onnx")
    network = read_arrays(tmp_path / "a.onnx")
    assert set(network.arrays) == {"w"}
    for suffix in (".safetensors", ".pt"):
        write_arrays(tmp_path / f"b{suffix}", network)
        found = read_arrays(tmp_path / f"b{suffix}").arrays
        assert {name: np.asarray(array).tobytes() for name, array in found.items()} == {
            name: array.tobytes() for name, array in tensors.items()
        }
    assert set(read_network_file(tmp_path / "a.onnx").tensors) == set(tensors)


def test_integers_of_few_bytes_stay_in_the_graph() -> None:
    tensors = {"w": WEIGHT, "z": np.zeros(64, np.int8), "more": np.arange(65, dtype=np.int8), "s": np.arange(9)}
    make = onnx.helper.make_node
    nodes = [make("MatMul", ["x", "w"], ["m"]), make("Foo", ["m", "z", "more", "s"], ["y"])]
    model = model_of(nodes, tensors)
    assert set(onnx_parts.take_apart(model_of(nodes, tensors), 0).arrays) == {"w", "more", "s"}
    again = decompress_onnx(compress(model))
    found = {each.name: onnx.numpy_helper.to_array(each) for each in again.graph.initializer}
    assert all(np.array_equal(found[name], tensors[name]) for name in ("z", "more", "s"))


def test_weights_of_branches_and_functions_are_coded_as_weights(tmp_path: Path) -> None:
    onnx.save(nested_model(), tmp_path / "a.onnx")
    network = read_arrays(tmp_path / "a.onnx")
    assert set(network.arrays) == {"a_w", "b_w", "d_w", "e_w", "k"}
    assert {name for name, told in network.roles.items() if told.role is Role.WEIGHT} == {"a_w", "b_w", "e_w", "k"}
    write_arrays(tmp_path / "b.onnx", network)
    assert onnx.load(tmp_path / "b.onnx") == onnx.load(tmp_path / "a.onnx")


def test_constants_of_different_graphs_may_have_one_name(tmp_path: Path) -> None:
    helper, constant = onnx.helper, onnx.numpy_helper.from_array
    out = [helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, [1, 16])]

    def branch(scale: float) -> Any:
        node = helper.make_node("MatMul", ["x", "w"], ["r"])
        return helper.make_graph([node], "g", [], out, [constant(WEIGHT * np.float32(scale), "w")])

    choice = helper.make_node("If", ["c"], ["i"], then_branch=branch(2), else_branch=branch(3))
    nodes = [choice, helper.make_node("MatMul", ["i", "w"], ["y"])]
    model = model_of(nodes, {"c": np.array(True), "w": WEIGHT})
    arrays = decompress(compress(model, lossless=True))
    assert {name: float(array[0, 0] / WEIGHT[0, 0]) for name, array in arrays.items()} == {"w": 1, "w'": 3, "w''": 2}
    assert decompress_onnx(compress(model, lossless=True)) == model


def carried(nodes: list[Any], tensors: dict[str, Any], name: str = "w") -> Role:
    """The role of a constant behind the nodes."""
    model = model_of(nodes, tensors)
    parts = onnx_parts.take_apart(model, 0)
    return parts.roles[name].role


LARGE = RANDOM.normal(0, 0.2, (32, 32)).astype(np.float32)
INDICES = {"s": np.array([0]), "e": np.array([16]), "a": np.array([0]), "n": np.array([16, 16])}


@pytest.mark.parametrize("way", ["Slice", "Split", "Concat", "Expand", "scale", "added", "If", "Loop", "microsoft"])
def test_weights_are_followed_through_parts_joints_scales_and_bodies(way: str) -> None:
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    kinds = onnx.TensorProto
    product = make("MatMul", ["x", "v"], ["y"])
    nodes, tensors = {
        "Slice": ([make("Slice", ["w", "s", "e", "a"], ["v"]), product], {"w": LARGE} | INDICES),
        "Split": ([make("Split", ["w"], ["u", "v"], axis=0), product], {"w": LARGE}),
        "Concat": ([make("Concat", ["w", "z"], ["v"], axis=0), product], {"w": LARGE, "z": LARGE}),
        "Expand": ([make("Expand", ["w", "n"], ["v"]), product], {"w": LARGE} | INDICES),
        "scale": ([make("Mul", ["w", "z"], ["v"]), product], {"w": LARGE, "z": VECTOR}),
        "added": ([make("Add", ["x", "w"], ["y"])], {"w": LARGE}),
        "If": (
            [
                make(
                    "If",
                    ["c"],
                    ["v"],
                    then_branch=onnx.helper.make_graph(
                        [make("Identity", ["w"], ["o"])], "t", [], [info("o", kinds.FLOAT, None)]
                    ),
                    else_branch=onnx.helper.make_graph(
                        [make("Identity", ["w"], ["p"])], "e", [], [info("p", kinds.FLOAT, None)]
                    ),
                ),
                product,
            ],
            {"w": LARGE, "c": np.array(True)},
        ),
        "Loop": (
            [
                make(
                    *("Loop", ["m", "", "w"], ["last"]),
                    body=onnx.helper.make_graph(
                        [make("Identity", ["go"], ["on"]), make("MatMul", ["x", "i"], ["o"])],
                        "b",
                        [info("k", kinds.INT64, []), info("go", kinds.BOOL, []), info("i", kinds.FLOAT, None)],
                        [info("on", kinds.BOOL, []), info("i", kinds.FLOAT, None)],
                    ),
                )
            ],
            {"w": LARGE, "m": np.array(2)},
        ),
        "microsoft": ([make("Attention", ["x", "w", "b"], ["y"], domain="com.microsoft")], {"w": LARGE, "b": VECTOR}),
    }[way]
    assert carried(nodes, tensors) is Role.WEIGHT


def test_matrices_of_operators_that_nobody_knows_are_weights_if_they_look_trained() -> None:
    node = onnx.helper.make_node("Mystery", ["x", "w"], ["y"], domain="com.example")
    assert carried([node], {"w": LARGE}) is Role.WEIGHT
    assert carried([node], {"w": np.tile(LARGE[:1], (32, 1))}) is Role.CONSTANT
    assert carried([onnx.helper.make_node("Mystery", ["x", "w"], ["y"])], {"w": LARGE}) is Role.CONSTANT


@pytest.mark.parametrize("changed", [False, True])
def test_divisors_do_not_become_zero(changed: bool) -> None:
    divisor = np.geomspace(1e-7, 1, 16, dtype=np.float32).reshape(16, 1) * np.float32(-1)
    make = onnx.helper.make_node
    nodes = [make("Transpose", ["s"], ["t"]), make("Div", ["x", "t" if changed else "s"], ["y"])]
    model = model_of(nodes, {"s": divisor})
    assert onnx_parts.take_apart(model_of(nodes, {"s": divisor}), 0).roles["s"].role is (
        Role.CONSTANT if changed else Role.DIVISOR
    )
    found = decompress(compress(model))["s"]
    assert (np.sign(found) == -1).all()
    assert np.abs(found / divisor - 1).max() < 2.0**-8


@pytest.mark.parametrize(
    ("node", "place"),
    [
        (("DequantizeLinear", ["w", "s", "z"], ""), 1),
        (("QLinearMatMul", ["x", "a", "z", "w", "s", "z", "b", "z"], ""), 4),
        (("DynamicQuantizeMatMul", ["x", "w", "s", "z"], "com.microsoft"), 2),
        (("DynamicQuantizeLSTM", ["x", "w", "w", "", "", "", "", "", "s", "z", "r", "z"], "com.microsoft"), 8),
    ],
)
def test_scales_of_quantised_models_stay_near_and_integers_do_not_grow(node: Any, place: int) -> None:
    rng = np.random.default_rng(4)
    op_type, inputs, domain = node
    scales = np.exp(rng.normal(-6, 1, 256)).astype(np.float32)
    integers = rng.integers(-128, 128, (256, 256)).astype(np.int8)
    tensors = {"w": integers, "s": scales, "z": np.zeros(256, np.int8)}
    tensors |= {name: np.array(0.01, np.float32) for name in ("a", "b", "r") if name in inputs}
    nodes = [onnx.helper.make_node(op_type, inputs, ["y"], domain=domain)]
    role = onnx_parts.take_apart(model_of(nodes, tensors), 0).roles["s"]
    model = model_of(nodes, tensors)
    assert (role.role, role.reason) == (Role.QUANTISATION_SCALE, f"input {place} of {op_type}")
    data = compress(model)
    found = decompress(data)
    assert np.array_equal(found["w"], integers)
    assert (found["s"] > 0).all()
    assert np.abs(found["s"] - scales).max() < 2.0**-11 * scales.max()
    assert len(data) < len(model.SerializeToString())


def test_floats_beside_integer_weights_take_a_small_share_of_their_bytes_more() -> None:
    rng = np.random.default_rng(6)
    tensors = {"w": rng.integers(-128, 128, (1024, 1024)).astype(np.int8), "z": np.zeros(1, np.int8)}
    tensors |= {"s": np.array(0.01, np.float32), "b": rng.normal(0, 0.05, (1, 4096)).astype(np.float32)}
    nodes = [
        onnx.helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"]),
        onnx.helper.make_node("LSTM", ["x", "d", "d", "b"], ["y"], hidden_size=256),
    ]
    data, by_qp = (compress(model_of(nodes, tensors), **options) for options in ({}, {"qp": -32, "nonweight_qp": -32}))
    assert len(by_qp) - 200 < len(data) < len(by_qp) + 0.0006 * tensors["w"].size


def channel_model() -> Any:
    """Two convolutions, the weight of the last one first, and what is added and multiplied to channels, reshaped."""
    rng = np.random.default_rng(7)
    tensors = {name: rng.normal(0, 0.1, (32, 32, 3, 3)).astype(np.float32) for name in ("last", "first")}
    tensors |= {"b": rng.normal(0, 0.1, 32).astype(np.float32), "g": rng.normal(1, 0.1, 32).astype(np.float32)}
    tensors |= {"f": np.exp2(-np.arange(16) / 3).astype(np.float32)}
    tensors |= {"to": np.array([1, -1, 1, 1]), "row": np.array([1, -1])}
    make = onnx.helper.make_node
    nodes = [
        make("Reshape", ["b", "to"], ["b4"]), make("Reshape", ["g", "to"], ["g4"]),
        make("Reshape", ["f", "row"], ["f2"]), make("Conv", ["x", "first"], ["c"]),
        make("Add", ["c", "b4"], ["d"]), make("Mul", ["d", "g4"], ["e"]),
        make("Conv", ["e", "last"], ["y"]), make("Mul", ["t", "f2"], ["u"]),
    ]  # fmt: skip
    return model_of(nodes, tensors)


def test_biases_and_scales_of_channels_are_told_through_a_reshape() -> None:
    roles = onnx_parts.take_apart(channel_model(), 0).roles
    assert {name: roles[name].role for name in "bgf"} == {
        "b": Role.BIAS, "g": Role.NORM_SCALE, "f": Role.CONSTANT,
    }  # fmt: skip


def test_the_last_weight_is_the_one_that_is_used_last() -> None:
    model = channel_model()
    parts = onnx_parts.take_apart(channel_model(), 0)
    assert list(parts.arrays)[:2] == ["last", "first"]
    assert [name for name, told in parts.roles.items() if told.role is Role.WEIGHT] == ["first", "last"]
    data = compress(model)
    steps = {tensor.name: tensor.step for tensor in vvc_nnr.inspect(data).tensors}
    assert steps["last"] < steps["first"]
    assert list(graph_roles(parts.graph, parts.arrays)) == list(parts.roles)


def test_integers_of_few_values_stay_readable_by_others() -> None:
    rng = np.random.default_rng(5)
    arrays = {"w": np.rint(rng.normal(0, 20, (300, 200))).astype(np.int8)}
    assert read_stream(compress(arrays)).tensors[0].raw is None
    periods = {"w": np.tile(rng.integers(0, 255, 4096).astype(np.uint8), (16, 1))}
    data = compress(periods)
    assert len(data) < 6000
    assert np.array_equal(decompress(data)["w"], periods["w"])


def test_a_model_of_python_comes_back_as_one(path: Path, tmp_path: Path) -> None:
    model = onnx.load(path)
    before = model.SerializeToString()
    data = compress(model)
    assert model.SerializeToString() == before
    assert len(data) < len(before) / 2
    again = decompress_onnx(data)
    onnx.save(again, tmp_path / "again.onnx")
    assert np.abs(outputs(tmp_path / "again.onnx") - outputs(path)).max() < 0.02 * np.abs(outputs(path)).max()
    assert decompress_onnx(compress(path, lossless=True)) == model
    with pytest.raises(UnsupportedError, match="no graph"):
        decompress_onnx(compress({"w": WEIGHT}))
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(InputError, match="tensor 'w' has its values in another file"):
        compress(model)


def test_graphs_take_what_they_take_deflated_and_a_seventh_more(path: Path) -> None:
    model = onnx.load(path)
    for place in range(2000):
        model.graph.node.append(onnx.helper.make_node("Identity", [f"left_{place}"], [f"right_{place}"], f"n{place}"))
    network = onnx_parts.take_apart(model, 0)
    sizes = {
        carriage: len(compress_arrays(network.arrays, CompressOptions(), graph=Graph(network.graph, carriage)))
        for carriage in CARRIAGES
    }
    without = len(compress_arrays(network.arrays, CompressOptions()))
    deflated = len(zlib.compress(network.graph, 9))
    assert sizes["onnx"] <= without + deflated + 20
    assert sizes["manifest"] <= without + 1.16 * deflated + 60


def test_graphs_that_no_reader_would_take_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = onnx.helper.make_tensor("q", onnx.TensorProto.COMPLEX64, [12_500], bytes(100_000), raw=True)
    model = model_of([onnx.helper.make_node("Identity", ["x"], ["y"])], {"w": VECTOR})
    model.graph.initializer.append(kept)
    network = onnx_parts.take_apart(model, 0)
    for carriage in CARRIAGES:
        data = compress_arrays(network.arrays, CompressOptions(), graph=Graph(network.graph, carriage))
        assert decoded_arrays(data, 1 << 20, 1).graph == network.graph
        with monkeypatch.context() as patch:
            patch.setattr(graph_limits, "MAX_GRAPH_BYTES", 50_000)
            with pytest.raises(UnsupportedError, match=r"the graph has \d+ bytes without its tensors; 50000"):
                compress_arrays(network.arrays, CompressOptions(), graph=Graph(network.graph, carriage))
            with pytest.raises(BitstreamError, match="50000"):
                decoded_arrays(data, 1 << 20, 1)


@pytest.mark.parametrize("stored", ["raw_data", "int32_data"])
@pytest.mark.parametrize(
    "kind", ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"]
)
def test_formats_that_numpy_lacks_by_their_bits(kind: str, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind not in onnx.TensorProto.DataType.keys():  # noqa: SIM118 - it is no map
        pytest.skip(f"this onnx has no {kind}")
    data_type = onnx.TensorProto.DataType.Value(kind)
    bits = np.arange(0x3F80, 0x3F80 + 16, dtype="<u2").reshape(4, 4)
    bits = bits if kind == "BFLOAT16" else np.arange(0x78, 0x88, dtype="u1").reshape(4, 4)
    tensor = onnx.TensorProto(name="w", data_type=data_type, dims=[4, 4])
    if stored == "raw_data":
        tensor.raw_data = bits.tobytes()
    else:
        tensor.int32_data.extend(bits.reshape(-1).tolist())
    model = model_of([onnx.helper.make_node("Cast", ["w"], ["y"], to=onnx.TensorProto.FLOAT)], {})
    model.graph.initializer.append(tensor)
    # What releases of onnx before 1.19 do with it differs; nothing of them is asked.
    monkeypatch.setattr(onnx.numpy_helper, "to_array", lambda _: np.zeros(3))
    monkeypatch.setattr(onnx.helper, "tensor_dtype_to_np_dtype", lambda _: np.dtype(np.float32))
    again = decompress_onnx(compress(model, lossless=True)).graph.initializer[0]
    assert (again.data_type, again.raw_data) == (data_type, bits.tobytes())


def test_a_constant_of_no_data_type_is_damage(tmp_path: Path) -> None:
    """In the graph of a coded file, whose constants lie elsewhere."""
    onnx.save(make_model(), tmp_path / "x.onnx")
    network = read_arrays(tmp_path / "x.onnx")
    model = onnx.load_from_string(network.graph)
    model.graph.initializer[0].data_type = 0
    damaged = replace(network, graph=model.SerializeToString())
    with pytest.raises(BitstreamError, match=r"tensor 'w' has the data type 0, which is none of ONNX"):
        write_arrays(tmp_path / "again.onnx", damaged)


def small_model(bias: list[float], factor: float, operator: str = "Relu", text: str = "") -> Any:
    """A matrix that leaves the graph, and a bias and a factor that are too small for that."""
    rng = np.random.default_rng(4)
    values = {"w": rng.normal(0, 1, (8, 4)), "b": np.array(bias), "s": np.array(factor)}
    initializers = [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()]
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "w", "b"], ["g"]),
        onnx.helper.make_node(operator, ["g"], ["r"], name="activation"),
        onnx.helper.make_node("Mul", ["r", "s"], ["y"]),
    ]
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, n])] for name, n in (("x", 8), ("y", 4))
    )
    graph = onnx.helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    model.doc_string = text
    return model


@pytest.mark.parametrize("base_kind", [".onnx", ".nnc", ".safetensors"])
def test_an_update_carries_constants_that_stay_in_the_graph(tmp_path: Path, base_kind: str) -> None:
    base, new, coded = tmp_path / f"base{base_kind}", tmp_path / "new.onnx", tmp_path / "update.nnc"
    onnx.save(small_model([1, 2, 3, 4], 1.0), tmp_path / "base.onnx")
    onnx.save(small_model([5, 6, 7, 8], 2.0, text="after a night"), new)
    if base_kind == ".nnc":
        assert main(["compress", str(tmp_path / "base.onnx"), "-o", str(base), "--lossless"]) == 0
    if base_kind == ".safetensors":
        assert main(["decompress", str(tmp_path / "base.onnx"), "-o", str(base)]) == 0
    after = tmp_path / ("after.safetensors" if base_kind == ".safetensors" else "after.onnx")
    assert main(["update", "make", str(base), str(new), "-o", str(coded)]) == 0
    assert main(["update", "apply", str(base), str(coded), "-o", str(after)]) == 0
    found = all_tensors(read_arrays(after)).arrays
    assert np.allclose(np.asarray(found["b"]), [5, 6, 7, 8], atol=1e-3)
    assert np.allclose(np.asarray(found["s"]), 2, atol=1e-3)
    if after.suffix == ".onnx":
        runtime.InferenceSession(after)


def test_a_state_without_a_graph_has_the_constants_of_the_base(tmp_path: Path) -> None:
    onnx.save(small_model([1, 2, 3, 4], 3.0), tmp_path / "base.onnx")
    base = read_arrays(tmp_path / "base.onnx")
    whole, wanted = states_of_update(base, replace(base, graph=None))
    assert [*whole.arrays] == ["w", "b", "s"]
    assert np.array_equal(np.asarray(wanted.arrays["s"]), np.asarray(whole.arrays["s"]))


def test_an_update_of_another_graph_is_refused(tmp_path: Path) -> None:
    onnx.save(small_model([1, 2, 3, 4], 1.0), tmp_path / "base.onnx")
    onnx.save(small_model([1, 2, 3, 4], 1.0, "Sigmoid"), tmp_path / "new.onnx")
    onnx.save(small_model([1, 2, 3, 4], 1.0), tmp_path / "other.onnx")
    base, new = read_arrays(tmp_path / "base.onnx"), read_arrays(tmp_path / "new.onnx")
    with pytest.raises(InputError, match=r"the operator Relu activation and Sigmoid activation\), which an update"):
        states_of_update(base, new)
    model = onnx.load(tmp_path / "other.onnx")
    model.graph.initializer.append(onnx.helper.make_tensor("names", onnx.TensorProto.STRING, [1], [b"cat"]))
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(InputError, match="the constant 'names', which no tensor of a network can be"):
        states_of_update(base, read_arrays(tmp_path / "other.onnx"))


@pytest.mark.parametrize("carriage", CARRIAGES)
def test_a_manifest_behind_a_graph_cannot_be_lost(carriage: GraphCarriage) -> None:
    found = onnx_parts.take_apart(small_model([1, 2, 3, 4], 1.0), 0)
    data = compress_arrays(found.arrays, CompressOptions(lossless=True), graph=Graph(found.graph, carriage))
    start = data.index(b'{"vvc_nnr')
    for first in range(start - 40, start + 8):
        for n_bytes in (8, 40, 64):
            damaged = data[:first] + bytes(n_bytes) + data[first + n_bytes :]
            with pytest.raises((BitstreamError, UnsupportedError)):
                decompress(damaged)


def external_model(**place: str) -> Any:
    """A model whose first tensor is in a file."""
    model = make_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)
    return model


def test_external_data_behind_links_is_followed(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "x"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    model = external_model(location="model.onnx_data")
    (blobs / "abc").write_bytes(model.SerializeToString())
    values = np.arange(216, dtype="<f4").reshape(8, 3, 3, 3)
    (blobs / "def").write_bytes(values.tobytes())
    (snapshot / "model.onnx").symlink_to("../../blobs/abc")
    (snapshot / "model.onnx_data").symlink_to("../../blobs/def")
    found = read_arrays(snapshot / "model.onnx").arrays["w"]
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, values)
    (blobs / "def").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(BitstreamError, match=r"model\.onnx_data', which cannot be read: is a Git LFS pointer"):
        read_arrays(snapshot / "model.onnx")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"location": "gone.bin"}, "no such file; put it there"),
        ({"location": "/etc/passwd"}, "must be named by its path below the model's folder"),
        ({"location": "C:\\x.bin"}, "must be named by its path below the model's folder"),
        ({"location": "..\\x.bin"}, "must be named by its path below the model's folder"),
        ({"location": "sub/../x.bin"}, "must be named by its path below the model's folder"),
        ({}, "must be named by its path below the model's folder"),
        ({"location": "sub"}, "is a folder"),
        ({"location": "x.bin", "length": "864"}, "it has 100 bytes, and the tensor's are from 0 to 864: it is cut off"),
        ({"location": "x.bin", "offset": "101"}, "it has 100 bytes, and the tensor's are from 101 to 101"),
        ({"location": "x.bin", "offset": "-1"}, "offset '-1' must be a number of bytes"),
        ({"location": "x.bin", "length": "many"}, "length 'many' must be a number of bytes"),
    ],
    ids=str,
)
def test_what_is_wrong_with_external_data_is_told(tmp_path: Path, place: dict[str, str], words: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "x.bin").write_bytes(bytes(100))
    with pytest.raises((InputError, BitstreamError), match=r"x\.onnx: tensor 'w'.*") as error:
        read_onnx_of(external_model(**place), tmp_path)
    assert words in str(error.value)
    assert ("put it" in str(error.value)) == (place.get("location") == "gone.bin")


@pytest.mark.parametrize("carriage", CARRIAGES)
@pytest.mark.parametrize("value", ["mine", '{"vvc_nnr":1,"units":1}', "x" * 3000])
def test_a_metadata_entry_of_the_users_own_stays(tmp_path: Path, carriage: GraphCarriage, value: str) -> None:
    model = make_model()
    model.metadata_props.add(key="a", value="b")
    model.metadata_props.add(key="vvc_nnr", value=value)
    network = read_onnx_of(model, tmp_path)
    assert network.graph is not None
    data = compress_arrays(network.arrays, CompressOptions(), graph=Graph(network.graph, carriage))
    for each in (network, decoded_arrays(data, 1 << 20, 1)):
        write_arrays(tmp_path / "y.onnx", each)
        assert [(e.key, e.value) for e in onnx.load(tmp_path / "y.onnx").metadata_props] == [
            ("a", "b"),
            ("vvc_nnr", value),
        ]


@pytest.mark.parametrize("carriage", CARRIAGES)
def test_texts_of_a_models_metadata_are_the_networks(tmp_path: Path, carriage: GraphCarriage) -> None:
    model = make_model()
    model.metadata_props.add(key="layout", value="planes=y")
    network = read_onnx_of(model, tmp_path)
    assert network.graph is not None
    assert network.metadata == {"layout": "planes=y"}
    graph, options = Graph(network.graph, carriage), CompressOptions()
    data = compress_arrays(network.arrays, options, metadata=network.metadata, graph=graph)
    assert data == compress_arrays(network.arrays, options, graph=graph)  # it is there once
    said = compress_arrays(network.arrays, options, metadata={"layout": "planes=each", "by": "me"}, graph=graph)
    for stream, expected in ((data, network.metadata), (said, {"layout": "planes=each", "by": "me"})):
        decoded = decoded_arrays(stream, 1 << 20, 1)
        assert decoded.metadata == inspect(stream).metadata == expected
        for name in ("y.onnx", "y.safetensors"):
            write_arrays(tmp_path / name, decoded)
            assert read_arrays(tmp_path / name).metadata == expected


def test_the_manifest_of_older_files_is_no_entry_of_the_model(tmp_path: Path) -> None:
    model = read_onnx_of(make_model(), tmp_path).graph
    assert model is not None
    n_digits = 32
    text = b'{"vvc_nnr":1,"units":0,"sha256":"' + b"0" * n_digits + b'"}\0'
    digits_at = text.index(b"0" * n_digits)
    entry = onnx.ModelProto()
    entry.metadata_props.add(key="vvc_nnr", value=text.decode())
    whole = model + entry.SerializeToString()
    mps = ModelParameterSet()
    pieces = list(write_units([StartUnit(), mps, TopologyUnit(2, 0, whole)]))
    start = len(pieces[2]) - len(text) + digits_at
    before, after = pieces[2][:start], pieces[2][start + n_digits :]
    stream = b"".join([*pieces[:2], before, checksum([*pieces[:2], before, after], n_digits), after])
    assert read_stream(stream).is_verifiable
    assert read_stream(stream).graph == model


def test_a_coded_graph_that_names_other_files_is_damaged() -> None:
    found = onnx_parts.take_apart(small_model([1, 2, 3, 4], 1.0), 0)
    model = onnx.ModelProto()
    model.ParseFromString(found.graph)
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    data = compress_arrays(found.arrays, CompressOptions(), graph=Graph(model.SerializeToString()))
    with pytest.raises(BitstreamError, match="has the values of 'b' in another file"):
        decompress_onnx(data)


@pytest.mark.parametrize("half", [False, True])
def test_scales_of_rows_are_in_the_weights_of_the_model_again(path: Path, half: bool) -> None:
    random, dtype = np.random.default_rng(3), np.float16 if half else np.float32
    sizes = np.exp(random.normal(size=24))
    weights = {
        "first": random.normal(size=(24, 3, 3, 3)) * sizes[:, None, None, None],
        "second": random.normal(size=(5, 24, 3, 3)) / sizes[:, None, None],
    }
    kind = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "first"], ["c"], pads=[1] * 4),
            onnx.helper.make_node("Relu", ["c"], ["r"]),
            onnx.helper.make_node("Conv", ["r", "second"], ["y"], pads=[1] * 4),
        ],
        "g",
        [value("x", kind, [1, 3, 4, 4])],
        [value("y", kind, [1, 5, 4, 4])],
        [onnx.numpy_helper.from_array(array.astype(dtype), name) for name, array in weights.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    data = compress(model, local_scaling=True)
    assert [tensor.payload_type for tensor in vvc_nnr.inspect(data).tensors] == ["BLOCK", "FLOAT"]
    again, decoded = decompress_onnx(data), decompress(data)
    onnx.checker.check_model(again)
    for tensor in again.graph.initializer:
        found = onnx.numpy_helper.to_array(tensor)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, decoded[tensor.name])
        rows = np.square(found - weights[tensor.name]).mean((1, 2, 3)) / np.square(weights[tensor.name]).mean((1, 2, 3))
        assert rows.max() < 10**-1.5
    assert [node.op_type for node in again.graph.node] == ["Conv", "Relu", "Conv"]
