"""Constants of ONNX of fewer than eight bits: out of the graph as arrays, and packed into it again, bit for bit."""

from __future__ import annotations

import lzma
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vvc_nnr.bitstream import packing
from vvc_nnr.bitstream.graph import Graph
from vvc_nnr.bitstream.number_formats import FloatBits, numpy_values
from vvc_nnr.coding.encoder import compress_arrays
from vvc_nnr.coding.update import apply_update, compress_update
from vvc_nnr.compress import compress, decompress, decompress_onnx, inspect
from vvc_nnr.errors import BitstreamError
from vvc_nnr.model.onnx import put_together, take_apart
from vvc_nnr.model.onnx_constants import constants
from vvc_nnr.model.onnx_packed import PACKED_FORMATS, is_plainly_packed, packed_array, packed_bytes, unpacked_array
from vvc_nnr.network_file import NetworkArrays, read_arrays, read_network_file, states_of_update, write_arrays
from vvc_nnr.options import CompressOptions
from vvc_nnr.roles.roles import Role

onnx = pytest.importorskip("onnx")
RANDOM = np.random.default_rng(3)
KNOWN = dict(onnx.TensorProto.DataType.items())
KINDS = [kind for kind in PACKED_FORMATS if kind in KNOWN]


def packed(kind: str, dims: tuple[int, ...], name: str = "w", field: str = "raw_data") -> Any:
    """A tensor of random bits, those behind the last value zero."""
    told, n_values = PACKED_FORMATS[kind], int(np.prod(dims))
    data = bytearray(RANDOM.bytes(packed_bytes(told, n_values)))
    if data and n_values * told.bits % 8:
        data[-1] &= (1 << n_values * told.bits % 8) - 1
    tensor = onnx.TensorProto(name=name, data_type=KNOWN[kind], dims=dims)
    if field == "raw_data":
        tensor.raw_data = bytes(data)
    elif told.bits == 6:
        bits = np.unpackbits(np.frombuffer(bytes(data), np.uint8), bitorder="little")[: 6 * n_values].reshape(-1, 6)
        tensor.int32_data.extend(np.packbits(bits, axis=1, bitorder="little").reshape(-1).tolist())
    else:
        tensor.int32_data.extend(data)
    return tensor


def model_of(tensors: list[Any], nodes: list[Any] | None = None) -> Any:
    graph = onnx.helper.make_graph(nodes or [onnx.helper.make_node("Foo", ["w"], ["y"])], "g", [], [], tensors)
    return onnx.helper.make_model(graph)


def raw(kind: str, tensor: Any) -> bytes:
    told = PACKED_FORMATS[kind]
    return packed_array("", told, unpacked_array(told, tensor))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [(), (1,), (3,), (0, 4), (7, 9), (64, 64)])
def test_values_are_those_of_onnx_and_packed_again(kind: str, dims: tuple[int, ...]) -> None:
    told = PACKED_FORMATS[kind]
    tensor, other = packed(kind, dims), packed(kind, dims, field="int32_data")
    values = unpacked_array(told, tensor)
    expected = onnx.numpy_helper.to_array(tensor).astype(np.float32)
    assert numpy_values(values).astype(np.float32).tobytes() == expected.tobytes()  # negative zeros too
    assert raw(kind, tensor) == tensor.raw_data
    expected = onnx.numpy_helper.to_array(other).astype(np.float32)
    assert numpy_values(unpacked_array(told, other)).astype(np.float32).tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"qp": -10}], ids=str)
def test_they_are_coded_and_come_back_bit_for_bit(kind: str, options: dict[str, Any]) -> None:
    model = model_of([packed(kind, (33, 21)), packed(kind, (65, 9), "v", "int32_data"), packed(kind, (), "z")])
    data = compress(model, **options)
    assert [tensor.name for tensor in inspect(data).tensors] == ["w", "v"]
    again = decompress_onnx(data).graph.initializer
    for before, after in zip(model.graph.initializer, again, strict=True):
        assert (after.name, after.data_type, after.dims) == (before.name, before.data_type, before.dims)
        assert raw(kind, after) == raw(kind, before)
    assert again[0].raw_data == model.graph.initializer[0].raw_data


def test_they_come_back_in_branches_bodies_and_constant_nodes(tmp_path: Path) -> None:
    make = onnx.helper.make_node
    inner = onnx.helper.make_graph(
        [make("Constant", [], ["k"], value=packed("UINT4", (31, 9), "k"))], "b", [], [], [packed("INT4", (25, 25))]
    )
    choice = make("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    body = onnx.helper.make_graph([choice], "body", [], [], [])
    own = onnx.helper.make_function(
        *("own", "F", ["i"], ["o"]),
        [make("Constant", [], ["o"], value=packed("FLOAT4E2M1", (20, 20), "o"))],
        [onnx.helper.make_opsetid("", 23)],
    )
    model = model_of([packed("INT4", (8, 64))], [make("Loop", ["n", "", "x"], ["z"], body=body)])
    model.functions.append(own)
    wanted = [(each.key, each.tensor.raw_data) for each in constants(model)]
    assert len(wanted) == 6
    onnx.save(model, tmp_path / "a.onnx")
    network = read_arrays(tmp_path / "a.onnx")
    assert set(network.arrays) == {key for key, _ in wanted}
    assert len(network.graph or b"") < 700
    again = decompress_onnx(compress(tmp_path / "a.onnx"))
    assert [(each.key, each.tensor.raw_data) for each in constants(again)] == wanted


def test_bits_behind_the_last_value_are_not_lost() -> None:
    tensor = packed("INT4", (15, 15))
    tensor.raw_data = tensor.raw_data[:-1] + b"\xff"
    assert not is_plainly_packed(PACKED_FORMATS["INT4"], tensor)
    again = decompress_onnx(compress(model_of([tensor, packed("INT4", (15, 15), "v")])))
    assert again.graph.initializer[0].raw_data == tensor.raw_data


def test_few_bytes_stay_in_the_graph() -> None:
    model = model_of([packed("INT4", (128,)), packed("INT4", (130,), "v"), packed("INT2", (256,), "u")])
    assert set(take_apart(model, 0).arrays) == {"v"}


@pytest.mark.parametrize("field", ["raw_data", "int32_data"])
@pytest.mark.parametrize("kind", KINDS)
def test_too_few_bytes_are_damage(kind: str, field: str) -> None:
    tensor = packed(kind, (64, 64), field=field)
    tensor.dims[0] += 1
    with pytest.raises(BitstreamError, match="tensor 'w' is damaged"):
        take_apart(model_of([tensor]), 0)


@pytest.mark.parametrize(
    ("kind", "array", "value"),
    [
        ("INT4", np.full((64, 64), -9, np.int8), "-9"),
        ("UINT2", np.full((64, 64), 4, np.uint8), "4"),
        ("FLOAT4E2M1", FloatBits(np.full((64, 64), 0x7F, np.uint8), "float8_e4m3fn"), "the float8 bits 0x7f"),
    ],
)
def test_values_that_the_type_lacks_are_damage(kind: str, array: Any, value: str) -> None:
    graph = take_apart(model_of([packed(kind, (64, 64))]), 0).graph
    with pytest.raises(BitstreamError, match=f"'w' holds {value}, which its type of . bits in the graph lacks"):
        put_together(graph, {"w": array})
    with pytest.raises(BitstreamError, match=r"the graph has \w+ \(64, 64\)"):
        put_together(graph, {"w": np.zeros((64, 64), np.float32)})


def test_their_scales_follow_what_is_done_beside_int8_and_they_count_so(tmp_path: Path) -> None:
    scales = np.exp(RANDOM.normal(-4, 0.3, (2, 96))).astype(np.float32)
    levels = RANDOM.integers(-8, 8, (64, 96)).astype(np.int8)
    scale = onnx.numpy_helper.from_array(scales, "s")
    node = onnx.helper.make_node("DequantizeLinear", ["w", "s"], ["f"], axis=0, block_size=32)
    small = onnx.TensorProto(name="w", data_type=KNOWN["INT4"], dims=levels.shape)
    small.raw_data = packed_array("w", PACKED_FORMATS["INT4"], levels)
    sizes, found = {}, {}
    for name, tensor in (("four", small), ("eight", onnx.numpy_helper.from_array(levels, "w"))):
        onnx.save(model_of([tensor, scale], [node]), tmp_path / f"{name}.onnx")
        network = read_arrays(tmp_path / f"{name}.onnx")
        assert network.roles["s"].role is Role.QUANTISATION_SCALE
        data = compress(tmp_path / f"{name}.onnx")
        sizes[name], found[name] = len(data), decompress(data)
        write_arrays(tmp_path / f"{name}.safetensors", network)
    assert all(np.array_equal(found["four"][name], found["eight"][name]) for name in "ws")
    assert abs(sizes["four"] - sizes["eight"]) < 8
    tensors = [read_network_file(tmp_path / f"{name}.safetensors").tensors["w"] for name in ("four", "eight")]
    assert all(np.array_equal(each, levels) for each in tensors)


def test_an_update_of_them() -> None:
    networks = []
    for _ in range(2):
        parts = take_apart(model_of([packed("INT4", (64, 64)), packed("UINT4", (5,), "z")]), 0)
        networks.append((parts.arrays, parts.graph))
    base, new = states_of_update(*(NetworkArrays(arrays, {}, 0, graph) for arrays, graph in networks))
    assert set(new.arrays) == {"w", "z"}
    data, _ = compress_update(base.arrays, new.arrays)
    again = put_together(new.graph or b"", apply_update(base.arrays, data).exact_arrays)
    assert again == put_together(new.graph or b"", new.arrays)


def test_a_large_graph_is_made_shorter_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = onnx.helper.make_tensor("q", onnx.TensorProto.COMPLEX64, [1 << 18], RANDOM.bytes(1 << 21), raw=True)
    weight = onnx.numpy_helper.from_array(RANDOM.normal(0, 1, (16, 16)).astype(np.float32), "w")
    parts = take_apart(model_of([kept, weight]), 0)
    sizes: list[int] = []
    real, deflate = lzma.compress, zlib.compress

    def counted(data: bytes, *args: Any, **more: Any) -> bytes:
        sizes.append(len(data))
        return real(data, *args, **more) if len(data) < 1 << 20 else deflate(data)

    monkeypatch.setattr(packing.lzma, "compress", counted)
    compress_arrays(parts.arrays, CompressOptions(), graph=Graph(parts.graph), input_bytes=1000)
    assert sum(size > 1 << 20 for size in sizes) == 1
