"""Checkpoints of torch: tensors in, tensors out, and nothing in them is run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.model.any_file import NetworkArrays, read_arrays, write_arrays
from vvc_nnr.number_formats import Bfloat16Bits


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_state_dicts_alone_and_inside_checkpoints(tmp_path: Path) -> None:
    state = {"b": torch.randn(2, 3), "a": torch.tensor(3, dtype=torch.int16), "h": torch.ones(2, dtype=torch.bfloat16)}
    for content in (state, {"state_dict": state, "epoch": 3}, {"model": {"params": state}, "optimizer": {"lr": 0.1}}):
        network = read_arrays(saved(tmp_path / "x.pt", content))
        assert list(network.arrays) == ["b", "a", "h"]
        half = network.arrays["h"]
        assert isinstance(half, Bfloat16Bits)
        assert half.bits.tolist() == [0x3F80] * 2
    assert network.left_out == ("optimizer",)
    assert read_arrays(saved(tmp_path / "y.pth", state | {"epoch": 3})).left_out == ("epoch",)


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return (open, ("/nonexistent/bomb", "w"))


@pytest.mark.parametrize("content", [Bomb(), {"w": torch.zeros(2), "x": Bomb()}, torch.nn.Linear(2, 2)])
def test_code_is_refused_and_not_run(tmp_path: Path, content: Any) -> None:
    path = saved(tmp_path / "bomb.pt", content)
    with pytest.raises(UnsupportedError, match=r"bomb\.pt: holds code or objects"):
        read_arrays(path)


def test_a_plain_pickle_with_code(tmp_path: Path) -> None:
    path = tmp_path / "plain.pth"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises((UnsupportedError, BitstreamError), match=r"plain\.pth"):
        read_arrays(path)


def test_files_that_are_no_state_dicts(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="holds a list"):
        read_arrays(saved(tmp_path / "x.pt", [torch.zeros(2)]))
    with pytest.raises(UnsupportedError, match="no tensor by name"):
        read_arrays(saved(tmp_path / "x.pt", {"epoch": 3}))
    with pytest.raises(InputError, match="no such file"):
        read_arrays(tmp_path / "missing.pt")


def test_damage(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.randn(100)})
    data = path.read_bytes()
    for cut in range(0, len(data), 97):
        path.write_bytes(data[:cut])
        with pytest.raises((BitstreamError, UnsupportedError), match=r"x\.pt"):
            read_arrays(path)


def test_written_checkpoints_keep_formats_and_ties(tmp_path: Path) -> None:
    shared = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays: Any = {
        "a": shared,
        "b": shared,
        "h": Bfloat16Bits(np.array([0x3F80], np.uint16)),
        "d": np.array(0.1),
        "t": np.array([True]),
    }
    write_arrays(tmp_path / "x.pt", NetworkArrays(arrays, {}, 0))
    found = torch.load(tmp_path / "x.pt", weights_only=True)
    assert list(found) == list(arrays)
    assert found["a"].data_ptr() == found["b"].data_ptr()
    assert [t.dtype for t in found.values()][2:] == [torch.bfloat16, torch.float64, torch.bool]
    with pytest.raises(InputError, match="no graph"):
        write_arrays(tmp_path / "x.onnx", NetworkArrays(arrays, {}, 0))
    write_arrays(tmp_path / "x.safetensors", NetworkArrays(arrays, {"k": "v"}, 0))
    again = read_arrays(tmp_path / "x.safetensors")
    half = again.arrays["h"]
    assert isinstance(half, Bfloat16Bits)
    assert again.metadata == {"k": "v"}
