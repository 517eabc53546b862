"""Files with roles, ties, graphs and exact tensors decode with the reference software too: any state dict.

Run with `VVC_NNR_PEER=/path/to/python pytest -m peer`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from peer import Peer

from vvc_nnr.bitstream.graph import Graph
from vvc_nnr.bitstream.number_formats import FloatBits, coded_shape, nearest_in_format
from vvc_nnr.bitstream.stream import read_stream
from vvc_nnr.coding.encoder import compress_arrays
from vvc_nnr.coding.exact_forms import bits_of_form
from vvc_nnr.compress import compress, decompress, inspect
from vvc_nnr.model.torch import named_arrays
from vvc_nnr.options import CompressOptions

N_CASES = int(os.environ.get("VVC_NNR_PEER_CASES", "2000")) // 10
PYTHON = os.environ.get("VVC_NNR_PEER", "")
NAMES = (
    *("conv.weight", "conv.bias", "bn.running_var", "bn.running_mean", "bn.weight", "bn.num_batches_tracked"),
    *("gdn.beta", "gdn.gamma", "eb.quantiles", "eb._quantized_cdf", "eb.matrices.0", "attn.mask", "scale"),
)
FORMATS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")

pytestmark = [pytest.mark.peer, pytest.mark.skipif(not PYTHON, reason="VVC_NNR_PEER names no environment")]


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with Peer(PYTHON) as running:
        yield running


def random_state(random: np.random.Generator) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for name in random.choice(NAMES, size=int(random.integers(1, 6)), replace=False):
        shape = tuple(int(side) for side in random.integers(0, 6, size=int(random.integers(0, 4))))
        number_format = str(random.choice(FORMATS))
        values = random.normal(0, 1, shape) * 10.0 ** random.uniform(-6, 1)
        scale = 1 if number_format.startswith("float") else 100
        state[str(name)] = np.asarray(np.abs(values) * scale if "var" in str(name) else values * scale).astype(
            number_format
        )
    return state


@pytest.mark.parametrize("n_layers", [3, 12, 30])
@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0])
def test_small_networks_take_no_more_and_decode_alike(peer: Peer, n_layers: int, scale: float) -> None:
    random = np.random.default_rng(n_layers)
    state: dict[str, Any] = {}
    for place in range(n_layers):
        state[f"layers.{place}.weight"] = random.laplace(0, scale, (8, 8 + place)).astype(np.float32)
        state[f"layers.{place}.bias"] = random.normal(0, scale, 8).astype(np.float32)
    data = compress(state)
    options = {"qp": -32, "nonweight_qp": -75, "use_dq": True, "row_skipping": True}
    assert len(data) <= len(peer.compress(state, options)[0])
    ours, (theirs, _) = decompress(data), peer.decompress(data)
    assert list(ours) == list(theirs)
    assert all(np.array_equal(ours[name], theirs[name]) for name in state)


def test_any_state_dict_decodes_alike(peer: Peer) -> None:
    n_tensors = 0
    for case in range(N_CASES):
        random = np.random.default_rng([7, case])
        state = random_state(random)
        first = next(iter(state))
        state["tied"] = state[first]
        qp, by_size = int(random.integers(-40, -12)), bool(random.random() < 0.5)
        is_lossless = random.random() < 0.3
        options: dict[str, Any] = {"lossless": True} if is_lossless else {"qp": qp, "qp_by_size": by_size}
        data = compress(state, n_threads=1, **options)
        ours, (theirs, _) = decompress(data), peer.decompress(data)
        raw = {tensor.name for tensor in read_stream(data).tensors if tensor.raw is not None}
        coded = (each for each in inspect(data).tensors if not each.number_format.endswith(" values"))
        kinds = {tensor.name: tensor for tensor in coded if tensor.name not in raw}
        is_tied = state[first].size > 0
        assert set(theirs) >= set(state) - ({"tied"} if is_tied else set())
        for name, tensor in kinds.items():
            found, array = theirs[name], ours[name]
            assert found.shape == coded_shape(array.shape)
            if tensor.payload_type == "FLOAT":
                with np.errstate(over="ignore"):
                    assert np.array_equal(found.astype(array.dtype).reshape(array.shape), array), (case, name)
                n_tensors += 1
            elif array.size and not tensor.number_format.endswith("bits") and f"{name}.high" not in theirs:
                assert np.array_equal(found.astype(np.int64).reshape(array.shape), array.astype(np.int64))
                n_tensors += 1
    assert n_tensors > N_CASES


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_float8_is_exponents_and_raw_words(peer: Peer, name: str) -> None:
    values = np.random.default_rng(3).normal(0, 60, (64, 96)).astype(np.float32)
    weight = nearest_in_format(values, name)
    assert isinstance(weight, FloatBits)
    data = compress({"w": weight, "b": values[0]})
    theirs, _ = peer.decompress(data)
    (tensor, *_) = read_stream(data).tensors
    assert tensor.raw is not None
    assert tensor.raw[0] == "split"
    (words,) = (theirs[other] for other in theirs if other not in ("w", "b"))
    raw = words.astype("<f4").tobytes()[: len(tensor.raw[1])]
    bits = bits_of_form("split", raw, theirs["w"].astype(np.int32), name, values.size)
    np.testing.assert_array_equal(bits.reshape(values.shape), weight.bits)


def test_integers_of_four_bits_in_an_onnx_model(peer: Peer) -> None:
    onnx = pytest.importorskip("onnx")
    levels = np.random.default_rng(4).integers(-8, 8, (64, 48)).astype(np.int8)
    nibbles = levels.reshape(-1, 2) & 15
    packed = (nibbles[:, 0] | nibbles[:, 1] << 4).astype(np.uint8).tobytes()
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.INT4, levels.shape, packed, raw=True)
    scale = onnx.numpy_helper.from_array(np.full(48, 0.1, np.float32), "s")
    node = onnx.helper.make_node("DequantizeLinear", ["w", "s"], ["y"], axis=1)
    data = compress(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [], [tensor, scale])))
    theirs, _ = peer.decompress(data)
    assert np.array_equal(theirs["w"], levels)
    assert np.allclose(theirs["s"], 0.1, rtol=1e-3)


def test_a_graph_in_the_manifest_is_passed_over(peer: Peer) -> None:
    arrays = named_arrays({"w": np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)})
    graph = bytes(np.random.default_rng(1).integers(0, 256, 5000, dtype=np.uint8))
    data = compress_arrays(arrays, CompressOptions(), graph=Graph(graph, "manifest"))
    assert np.array_equal(peer.decompress(data)[0]["w"], decompress(data)["w"])


@pytest.mark.parametrize("is_lossless", [False, True])
def test_copies_are_given_under_their_first_name(peer: Peer, is_lossless: bool) -> None:
    one = np.random.default_rng(5).laplace(0, 0.02, (48, 40)).astype(np.float32)
    state = {"a": one, "b": one[::-1].copy(), "c": one.copy(), "ü": one.copy()}
    data = compress(state, lossless=is_lossless)
    ours, (theirs, _) = decompress(data), peer.decompress(data)
    assert list(ours) == list(state)
    assert {"a", "b"} <= set(theirs)
    assert not {"c", "ü"} & set(theirs)
    if not is_lossless:
        assert np.array_equal(theirs["a"], ours["c"])
