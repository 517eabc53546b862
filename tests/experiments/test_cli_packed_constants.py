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
