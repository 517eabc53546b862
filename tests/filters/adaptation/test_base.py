"""The filter that an update is for, as a decoder has it: what of it can change, and that it is decoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from vvc_nnr.coding.update import apply_update
from vvc_nnr.compress import compress
from vvc_nnr.filters.adaptation import base_filter
from vvc_nnr.filters.adaptation.base_filter import AdaptedBase
from vvc_nnr.filters.adaptation.options import AdaptOptions
from vvc_nnr.filters.adaptation.tuned_filter import LearningPicture, TunedFilter
from vvc_nnr.filters.adaptation.tuning import coded_levels, tune
from vvc_nnr.filters.bundled import network_path
from vvc_nnr.filters.networks.layout import parse_layout
from vvc_nnr.filters.networks.onnx_network import OnnxNetwork
from vvc_nnr.filters.zoo import filter_of_nnc

LAYOUT = "planes=y,reach=1"


def small_model() -> onnx.ModelProto:
    """A convolution of one channel to one: its bias, and a factor behind it, are constants of one value."""
    helper, rng = onnx.helper, np.random.default_rng(0)
    constants = {
        "first.weight": rng.normal(0, 0.1, (8, 1, 3, 3)),
        "last.weight": rng.normal(0, 0.1, (1, 8, 1, 1)),
        "last.bias": np.array([0.25]),
    }
    kept = [onnx.numpy_helper.from_array(each.astype(np.float32), name) for name, each in constants.items()]
    nodes = [
        helper.make_node("Conv", ["x", "first.weight"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "last.weight", "last.bias"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, "h", "w"]) for name in ("x", "y"))
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], kept), opset_imports=[helper.make_opsetid("", 18)]
    )
    model.ir_version = 9
    return model


@pytest.mark.parametrize("has_graph", [True, False])
def test_small_constants_of_a_graph_are_tuned(has_graph: bool) -> None:
    """Coding leaves them in the graph; a decoder that has the graph takes an update of them nevertheless."""
    model = small_model()
    whole = compress(model, metadata={"layout": LAYOUT})
    given = filter_of_nnc(whole, "a.nnc")
    assert isinstance(given, OnnxNetwork)
    base = (
        AdaptedBase(whole, "hash") if has_graph else AdaptedBase(compress(given), "hash", given, parse_layout(LAYOUT))
    )
    assert "last.bias" in base.arrays()
    assert TunedFilter.of(base.network(), base.layout).free_tensors(["biases"]) == ["last.bias"]
    update = coded_levels(base.arrays(), {"last.bias": np.array([3], np.int32)}, {"last.bias": -24})
    planes = torch.zeros(1, 1, 4, 4)
    before, after = (network(planes) for network in (base.network(), base.network(update)))
    step = 3 * 2.0**-6
    assert after - before == pytest.approx(np.full((1, 1, 4, 4), step), abs=1e-6)
    if has_graph:  # what a decoder does with the file
        assert torch.equal(filter_of_nnc(whole, "a.nnc", update)(planes), after)
    assert set(apply_update(base.arrays(), update).arrays) == set(base.arrays())


def clipped_model() -> onnx.ModelProto:
    """A norm between two convolutions, and a clip behind them."""
    helper, rng = onnx.helper, np.random.default_rng(0)
    constants = {
        "first.weight": rng.normal(0, 0.3, (8, 1, 3, 3)),
        "norm.scale": np.full(8, 0.5),
        "norm.shift": rng.normal(0, 0.1, 8),
        "norm.mean": rng.normal(0, 0.1, 8),
        "norm.variance": rng.uniform(0.5, 1, 8),
        "last.weight": rng.normal(0, 0.05, (1, 8, 1, 1)),
        "last.bias": np.array([0.01]),
        "low": np.array(0.0),
        "high": np.array(1.0),
    }
    kept = [onnx.numpy_helper.from_array(np.asarray(each, np.float32), name) for name, each in constants.items()]
    norm = [f"norm.{part}" for part in ("scale", "shift", "mean", "variance")]
    nodes = [
        helper.make_node("Conv", ["x", "first.weight"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", *norm], ["b"]),
        helper.make_node("Conv", ["b", "last.weight", "last.bias"], ["c"]),
        helper.make_node("Add", ["x", "c"], ["d"]),
        helper.make_node("Clip", ["d", "low", "high"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, "h", "w"]) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "g", [x], [y], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return model


def test_constants_that_no_gradients_go_to_stay_as_they_are(tmp_path: Path) -> None:
    """Bounds of a clip and statistics of a norm counted as weights, and a model that has them was refused for them."""
    base = AdaptedBase(compress(clipped_model(), metadata={"layout": LAYOUT}), "hash")
    tuned = TunedFilter.of(base.network(), base.layout)
    fixed = {"low", "high", "norm.mean", "norm.variance"}
    assert set(tuned.fixed) == fixed
    assert set(tuned.free_tensors(["all"])) == base.arrays().keys() - fixed
    rng = np.random.default_rng(1)
    original = rng.integers(200, 800, (1, 40, 48)).astype(np.uint16)
    pictures = [LearningPicture(original, original + rng.integers(0, 9, original.shape).astype(np.uint16), 32, 1023.0)]
    for free, said in ((("all",), fixed), (("tail",), set())):
        options = AdaptOptions(free=free, n_steps=10, batch_size=2)
        made = tune(base.network(), base.arrays(), pictures, options, 1e-9, tmp_path / free[0], base.layout)
        assert set(made.fixed) == said
        after = apply_update(base.arrays(), made.data).arrays
        assert all(np.array_equal(after[name], base.arrays()[name]) for name in fixed)
    assert any(not np.array_equal(after[name], base.arrays()[name]) for name in after)


def test_a_base_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, n_decoded = base_filter.decoded_arrays, []

    def counted(*given: object) -> object:
        n_decoded.append(given)
        return decoded(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(base_filter, "decoded_arrays", counted)
    base = AdaptedBase(network_path("inloop-vlop").read_bytes(), "hash")
    for _ in range(3):
        assert base.is_bundled_shape
        assert base.layout.planes == "yuv420-packed"
        assert base.network() is base.network()
    assert len(n_decoded) == 1
