"""Constants of ONNX of fewer than eight bits, as the commands tell of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vvc_nnr.experiments.cli.main import main

onnx = pytest.importorskip("onnx")


def save_model(path: Path, kind: str, side: int) -> None:
    """A model of one packed constant and its scale."""
    values = np.arange(side * side) % 8
    weight = onnx.helper.make_tensor("w", getattr(onnx.TensorProto, kind), (side, side), values.tolist())
    nodes = [onnx.helper.make_node("DequantizeLinear", ["w", "s"], ["y"])]
    scale = onnx.helper.make_tensor("s", onnx.TensorProto.FLOAT, (), [0.5])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], [weight, scale])), path)


@pytest.mark.parametrize(("kind", "dtype"), [("INT4", "I4"), ("UINT4", "U4")])
def test_packed_values_are_counted_by_their_bits(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str, dtype: str
) -> None:
    save_model(tmp_path / "x.onnx", kind, 33)
    assert main(["inspect", str(tmp_path / "x.onnx"), "--json"]) == 0
    (tensor,) = json.loads(capsys.readouterr().out)["tensors"]
    assert (tensor["dtype"], tensor["bits"], tensor["n_bytes"]) == (dtype, 4, 545)  # 1,089 values
    assert main(["inspect", str(tmp_path / "x.onnx")]) == 0
    assert "545 of them tensors" in capsys.readouterr().out


def test_constants_that_stay_in_the_graph_are_no_lack_of_tensors(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    save_model(tmp_path / "x.onnx", "INT4", 5)
    assert main(["compress", str(tmp_path / "x.onnx"), "-o", str(tmp_path / "x.nnc")]) == 0
    said = capsys.readouterr().out
    assert "; all constants are so small that they stay in the graph, as they are" in said
    assert "no tensor" not in said
    assert main(["decompress", str(tmp_path / "x.nnc"), "-o", str(tmp_path / "again.onnx")]) == 0
    (again,) = (each for each in onnx.load(tmp_path / "again.onnx").graph.initializer if each.name == "w")
    assert onnx.numpy_helper.to_array(again).reshape(-1).astype(int).tolist() == (np.arange(25) % 8).tolist()


def test_a_model_that_is_nearly_all_graph_is_held_against_its_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As an ensemble of trees, whose numbers are attributes; a file of its tensors alone says nothing of its size."""
    trees = onnx.helper.make_node(
        *("TreeEnsembleRegressor", ["x"], ["y"]),
        domain="ai.onnx.ml",
        nodes_values=np.linspace(0, 1, 3000).tolist(),
    )
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 4]) for name in "xy"]
    graph = onnx.helper.make_graph([trees], "g", inputs[:1], inputs[1:])
    few = onnx.numpy_helper.from_array(np.linspace(0, 1, 20, dtype=np.float32), "few")
    for name, initializers in (("none", []), ("few", [few])):
        graph.initializer.extend(initializers)
        onnx.save(onnx.helper.make_model(graph), tmp_path / f"{name}.onnx")
        n_bytes = (tmp_path / f"{name}.onnx").stat().st_size
        argv = ["compress", str(tmp_path / f"{name}.onnx"), "-o", str(tmp_path / f"{name}.nnc")]
        assert main(argv) == 0
        said = capsys.readouterr().out
        coded = (tmp_path / f"{name}.nnc").stat().st_size
        assert f"{name}.nnc: {coded} bytes (nnc), from {n_bytes} bytes" in said
        assert "ratio" not in said
        assert main([*argv, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["ratio"], told["input_bytes"], told["n_bytes"]) == (None, n_bytes, coded)
    assert main(["decompress", str(tmp_path / "none.nnc"), "-o", str(tmp_path / "again.onnx")]) == 0
    assert (
        f"(not coded), from {(tmp_path / 'none.nnc').stat().st_size} bytes; the network has" in capsys.readouterr().out
    )
