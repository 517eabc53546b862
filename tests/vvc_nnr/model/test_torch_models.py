"""Torch modules and tensors as input, and arrays back as torch tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vvc_nnr
from vvc_nnr.compress import compress, decompress, inspect, load_into
from vvc_nnr.errors import InputError
from vvc_nnr.model.torch import as_torch, named_arrays

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402


def test_a_module_counts_as_its_state() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
    found = decompress(compress(module))
    assert list(found) == list(module.state_dict())
    assert found["1.num_batches_tracked"].shape == ()
    assert found["1.num_batches_tracked"].dtype == np.int64
    for name, tensor in module.state_dict().items():
        assert np.allclose(found[name], tensor.numpy(), atol=0.01)


def test_number_formats_come_back() -> None:
    state = {
        "w": torch.randn(6, 5, dtype=torch.bfloat16),
        "h": torch.randn(4, dtype=torch.float16, requires_grad=True),
        "t": torch.randn(5, 7).t(),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5, dtype=torch.bfloat16),
    }
    data = compress(state, qp=-60)
    formats = {tensor.name: tensor.number_format for tensor in inspect(data).tensors}
    found = as_torch(decompress(data), formats)
    for name, tensor in state.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.allclose(found[name].float(), tensor.float(), atol=0.02)


def test_each_nan_of_bfloat16_comes_back() -> None:
    bits = torch.tensor([0x7FC1, 0x7F81, -1, 0x3F80, 0x7F80, -128, -63], dtype=torch.int16)
    module = torch.nn.Module()
    module.register_buffer("a", torch.zeros(7, dtype=torch.bfloat16))
    load_into(module, compress({"a": bits.view(torch.bfloat16)}, lossless=True))
    assert torch.equal(module.a.view(torch.int16), bits)


def test_tensors_that_are_no_plain_numbers_are_refused() -> None:
    for tensor in (torch.eye(3).to_sparse(), torch.ones(2, dtype=torch.complex64), torch.ones(2, device="meta")):
        with pytest.raises(InputError, match="'x'"):
            named_arrays({"x": tensor})


def test_masked_arrays_are_refused() -> None:
    with pytest.raises(InputError, match="'x': is masked"):
        named_arrays({"x": np.ma.masked_array(np.ones(3), [0, 1, 0])})


def test_lazy_modules_have_to_run_first() -> None:
    with pytest.raises(InputError, match=r"tensor '0\.weight': has no shape yet"):
        compress(torch.nn.Sequential(torch.nn.LazyConv2d(3, 3)))


def test_what_a_module_ties_and_a_file_does_not_is_told(caplog: pytest.LogCaptureFixture) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False))
    module[1].weight = module[0].weight
    arrays = {"0.weight": np.eye(3, dtype=np.float32), "1.weight": np.ones((3, 3), np.float32)}
    load_into(module, compress(arrays, lossless=True))
    assert "'0.weight' and '1.weight' are one tensor in the module and differ in the network: it gets '1.weight'" in (
        caplog.text
    )
    caplog.clear()
    load_into(module, compress(dict.fromkeys(arrays, np.full((3, 3), np.nan, np.float32)), lossless=True))
    assert not caplog.text


def nested() -> object:
    return torch.nested.nested_tensor([torch.zeros(3), torch.zeros(5)])


def emptied() -> object:
    tensor = torch.ones(3)
    tensor.untyped_storage().resize_(0)
    return tensor


ODD_TENSORS = {
    "nested": nested,
    "jagged": lambda: torch.nested.nested_tensor([torch.zeros(3), torch.zeros(5)], layout=torch.jagged),
    "without parts": lambda: torch.nested.nested_tensor([]),
    "masked": lambda: torch.masked.masked_tensor(torch.ones(2), torch.tensor([True, False])),
    "fake": lambda: torch._subclasses.FakeTensorMode().from_tensor(torch.ones(3)),
    "without memory": emptied,
    "zero": lambda: torch._efficientzerotensor(3),
    **({"float4": lambda: torch.empty(3, dtype=torch.float4_e2m1fn_x2)} if hasattr(torch, "float4_e2m1fn_x2") else {}),
    "int4": lambda: torch.empty(3, dtype=torch.int4),
    "bits": lambda: torch.empty(3, dtype=torch.bits8),
    "mkldnn": lambda: torch.ones(3, 3).to_mkldnn(),
    "csr": lambda: torch.ones(3, 3).to_sparse_csr(),
    "of vmap": lambda: torch._C._functorch._add_batch_dim(torch.ones(3, 3), 0, 1),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", ODD_TENSORS.values(), ids=ODD_TENSORS)
def test_tensors_without_one_plain_array_are_refused_by_name(make) -> None:
    with pytest.raises(InputError, match=r"^tensor 'odd'"):
        compress({"w": torch.ones(3), "odd": make()})


@pytest.mark.filterwarnings("ignore")
def test_a_module_with_a_nested_buffer() -> None:
    module = torch.nn.Module()
    module.register_buffer("n", nested())
    with pytest.raises(InputError, match="tensor 'n': nested"):
        compress(module)
    with pytest.raises(InputError, match="tensor 'n' of the module is nested"):
        load_into(module, compress({"n": torch.ones(8)}))


def test_views_of_the_negative_of_complex_numbers() -> None:
    values = torch.tensor([1 + 2j, 3 - 4j]).conj().imag
    assert values.is_neg()
    assert decompress(compress({"w": values}, lossless=True))["w"].tolist() == [-2, 4]


def test_read_only_arrays_become_tensors_without_a_warning() -> None:
    array = np.frombuffer(np.arange(4, dtype=np.float32).tobytes(), np.float32)
    tensor = as_torch({"w": array})["w"]
    tensor += 1
    assert array.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("whole", [True, False])
def test_modules_on_the_device_meta_get_memory_and_values(whole: bool) -> None:
    def make(device: str) -> nn.Module:
        parts = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4, device=device))
        return parts.to("meta") if device == "meta" and whole else parts

    torch.manual_seed(0)
    source, module = make("cpu"), make("meta")
    source[2].weight = source[0].weight
    if whole:
        module[2].weight = module[0].weight
    module[2].bias.requires_grad_(False)
    data = vvc_nnr.compress(source)
    vvc_nnr.load_into(module, data)
    found = vvc_nnr.decompress(data)
    assert all(np.array_equal(tensor.numpy(), found[name]) for name, tensor in module.state_dict().items())
    assert (module[2].weight is module[0].weight) == whole
    assert not module[2].bias.requires_grad
    assert torch.isfinite(module.eval()(torch.ones(2, 4))).all()


def test_modules_on_the_device_meta_stay_as_they_are_if_they_do_not_fit() -> None:
    data = vvc_nnr.compress(nn.Linear(3, 4))
    module = nn.Linear(3, 5, device="meta")
    with pytest.raises(InputError, match="is \\(4, 3\\)"):
        vvc_nnr.load_into(module, data)
    assert module.weight.is_meta


class Stateful(nn.Linear):
    """A layer with a state of its own beside its tensors."""

    def __init__(self, state: Any) -> None:
        super().__init__(3, 4)
        self.own = state

    def get_extra_state(self) -> Any:
        return self.own

    def set_extra_state(self, state: Any) -> None:
        self.own = state


def test_states_of_their_own_are_exact_tensors_or_left_out_by_name(caplog: pytest.LogCaptureFixture) -> None:
    module = Stateful(torch.tensor([0.3, 1e-7]))
    data = vvc_nnr.compress(module)
    module.own = None
    other = Stateful(torch.zeros(2))
    vvc_nnr.load_into(other, data)
    assert other.own.tolist() == torch.tensor([0.3, 1e-7]).tolist()
    assert not caplog.records
    for state in ({"v": 1}, 3.5, "text", b"bytes"):
        caplog.clear()
        whole = nn.Sequential(Stateful(state), nn.Linear(4, 2))
        data = vvc_nnr.compress(whole)
        assert "0._extra_state" in caplog.text
        assert "0._extra_state" not in vvc_nnr.decompress(data)
        vvc_nnr.load_into(whole, data)
        assert whole[0].own == state
