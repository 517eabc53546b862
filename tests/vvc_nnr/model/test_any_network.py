"""Nothing is lost: keys, order, number formats, shapes and ties of any state dict; every bit in lossless mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vvc_nnr.bitstream.graph import PackedGraph
from vvc_nnr.bitstream.manifest import Manifest, TieEntry, write_manifest
from vvc_nnr.bitstream.ties import Tie, with_ties
from vvc_nnr.compress import compress, decompress, inspect, load_into, save_file
from vvc_nnr.errors import BitstreamError, InputError

DTYPES = [
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool),
]
NAMES = st.sampled_from(
    [
        *("conv.weight", "conv.bias", "bn.running_var", "bn.running_mean", "bn.weight", "bn.num_batches_tracked"),
        *("gdn.beta", "gdn.gamma", "eb.quantiles", "eb._quantized_cdf", "eb.matrices.0", "attn.mask", "scale"),
        *("x.high", "weight", "é"),
    ]
)


@st.composite
def state_dicts(draw: st.DrawFn, *, finite: bool) -> dict[str, torch.Tensor]:
    names = draw(st.lists(NAMES, max_size=6, unique=True))
    state = {name: draw(tensors(finite=finite)) for name in names}
    if state and draw(st.booleans()):
        state["tied"] = state[names[0]]
    return state


@st.composite
def tensors(draw: st.DrawFn, *, finite: bool) -> torch.Tensor:
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    n_bytes = torch.empty(0, dtype=dtype).element_size()
    if dtype is torch.bool:
        return torch.from_numpy(np.array(draw(hnp.arrays(bool, shape))))
    if finite and dtype.is_floating_point:
        values = draw(hnp.arrays(np.float32, shape, elements=st.floats(-4, 4, width=32)))
        return torch.from_numpy(np.array(values)).to(dtype)
    bits = np.array(draw(hnp.arrays(f"uint{8 * n_bytes}", shape))).view(f"int{8 * n_bytes}")
    return torch.from_numpy(bits.copy()).view(dtype)


def bits_of(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


class Holder(nn.Module):
    """A module whose state dict is what it was made with, ties and all."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.state = state

    def state_dict(self, *_: Any, **__: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return self.state

    def load_state_dict(self, state: Any, *_: Any, **__: Any) -> None:  # type: ignore[override]
        self.state = dict(state)


@given(state=state_dicts(finite=False))
@settings(max_examples=150, deadline=None)
def test_lossless_keeps_every_bit(state: dict[str, torch.Tensor]) -> None:
    data = compress(state, lossless=True, n_threads=1)
    blank = Holder({name: torch.zeros_like(tensor) for name, tensor in state.items()})
    load_into(blank, data)
    assert list(blank.state) == list(state)
    for name, tensor in state.items():
        found = blank.state[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape), name
        if tensor.dtype is torch.bfloat16:
            assert torch.equal(torch.nan_to_num(found), torch.nan_to_num(tensor))
            assert torch.equal(found.isnan(), tensor.isnan())
        else:
            assert bits_of(found) == bits_of(tensor), name


@given(state=state_dicts(finite=True), qp=st.integers(-40, -12), by_size=st.booleans())
@settings(max_examples=100, deadline=None)
def test_names_order_formats_and_shapes_survive(state: dict[str, torch.Tensor], qp: int, by_size: bool) -> None:
    data = compress(state, qp=qp, qp_by_size=by_size, n_threads=1)
    blank = Holder({name: torch.zeros_like(tensor) for name, tensor in state.items()})
    load_into(blank, data)
    assert list(blank.state) == list(state)
    for name, tensor in state.items():
        found = blank.state[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape), name
        if not tensor.dtype.is_floating_point:
            assert torch.equal(found, tensor)
        elif tensor.numel():
            assert torch.isfinite(found).all()
            assert (found.double() - tensor.double()).abs().max() <= 2.0 ** (qp / 4 + 1 + 2 * by_size) + 2.0**-6


def test_lossless_float32_with_every_odd_value() -> None:
    odd = np.array([0.0, -0.0, np.nan, -np.inf, 1e-45, np.finfo(np.float32).max], np.float32)
    negative_nan = np.array([0xFFC00001, 0x80000000, 0x7F800001], np.uint32).view(np.float32)
    for array in (odd, negative_nan):
        found = decompress(compress({"w": array}, lossless=True))["w"]
        assert found.tobytes() == array.tobytes()


def test_tied_tensors_are_coded_once_and_come_back_tied() -> None:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(40, 8)
            self.middle = nn.Linear(8, 8)
            self.head = nn.Linear(8, 40, bias=False)
            self.head.weight = self.embedding.weight

    network = Language()
    data = compress(network)
    assert [tensor.name for tensor in inspect(data).tensors] == ["embedding.weight", "middle.weight", "middle.bias"]
    found = decompress(data)
    assert list(found) == list(network.state_dict())
    assert found["head.weight"] is found["embedding.weight"]
    other = Language()
    load_into(other, data)
    assert other.head.weight is other.embedding.weight
    assert torch.equal(other.head.weight, torch.from_numpy(found["head.weight"]))


def test_arrays_that_only_look_tied_are_coded() -> None:
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = decompress(compress({"a": base, "t": base.T, "part": base[:2], "again": base}))
    assert found["t"].shape == (4, 3)
    assert found["part"].shape == (2, 4)
    assert found["again"] is found["a"]


@pytest.mark.parametrize("tie", [Tie(0, "b", "missing"), Tie(0, "a", "a"), Tie(9, "b", "a")])
def test_wrong_ties_are_refused(tie: Tie) -> None:
    with pytest.raises(BitstreamError, match="cannot be tied"):
        with_ties({"a": np.zeros(1)}, (tie,))
    with pytest.raises(BitstreamError, match="one name"):
        with_ties({"a": np.zeros(1)}, (Tie(1, "b", "a"), Tie(1, "b", "a")))


def test_the_manifest_has_ties_and_graph() -> None:
    graph = PackedGraph("deflate", 7)
    text, *_ = write_manifest(Manifest(ties=(TieEntry(1, "b", "a"), TieEntry(2, "c", 0)), graph=graph))
    assert b'"tied":[[1,"b","a"],[2,"c",0]],"graph":["deflate",7]' in text


def small_module() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_load_into_checks_before_it_loads() -> None:
    torch.manual_seed(0)
    network = small_module()
    data = compress(network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(InputError, match=r"the network lacks 1: '2\.weight'.*"):
        load_into(nn.Sequential(*small_module(), nn.PReLU()), data)
    with pytest.raises(InputError, match="the module lacks 5"):
        load_into(nn.Sequential(nn.Conv2d(3, 4, 3)), data)
    with pytest.raises(InputError, match=r"'0\.weight' is \(4, 3, 3, 3\), the module's \(4, 3, 5, 5\)"):
        load_into(nn.Sequential(nn.Conv2d(3, 4, 5), nn.BatchNorm2d(4)), data)
    with pytest.raises(InputError, match="make it float32 first"):
        load_into(small_module().half(), data)
    with pytest.raises(InputError, match="must be a torch module, got dict"):
        load_into({}, data)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    load_into(network, compress(network, lossless=True))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("model", [None, [1, 2], b"abc", 3])
def test_what_is_no_network_is_told_all_that_is_one(model: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        compress(model)
    assert str(caught.value) == (
        f"got {type(model).__name__}; must be a torch module, a map of names to arrays or torch tensors, an ONNX "
        "ModelProto, or the name of a network file"
    )
    with pytest.raises(InputError, match="or the name of a network file"):
        save_file(tmp_path / "x.nnc", model)
    with pytest.raises(InputError, match="or the name of a network file"):
        inspect(compress({"w": np.ones(3, np.float32)}), [] if model is None else model)


def test_names_of_a_wrapper_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1))
    said = "all names begin with {}, as wrappers of torch (compile, DataParallel) have it; for the names of the network"
    wrapped = nn.DataParallel(net)
    compress(wrapped)
    assert said.format("module.") + " without the wrapper compress model.module" in caplog.messages
    both = nn.Module()  # as torch.compile makes it, which takes seconds to import
    both._orig_mod = wrapped
    compress(both)
    assert said.format("_orig_mod.module.") + " without the wrapper compress model._orig_mod.module" in caplog.messages
    caplog.clear()
    compress(wrapped.state_dict(), evaluate=lambda _: 0.0, max_drop=1.0)
    assert any("take it off: {name.removeprefix('module.'): value" in line for line in caplog.messages)
    caplog.clear()
    torch.save(wrapped.state_dict(), tmp_path / "x.pt")
    save_file(tmp_path / "x.nnc", tmp_path / "x.pt")
    assert any("vvc-nnr compress --strip-prefix module." in line for line in caplog.messages)
    caplog.clear()
    compress(both._orig_mod.module)
    assert not caplog.messages
