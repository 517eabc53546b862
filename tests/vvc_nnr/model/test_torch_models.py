"""Torch modules and tensors as input, and arrays back as torch tensors."""

from __future__ import annotations

import numpy as np
import pytest

from vvc_nnr.compress import compress, decompress, inspect, load_into
from vvc_nnr.errors import InputError
from vvc_nnr.model.torch import as_torch, named_arrays

torch = pytest.importorskip("torch")


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


def test_tensors_that_are_no_plain_numbers_are_refused() -> None:
    for tensor in (torch.eye(3).to_sparse(), torch.ones(2, dtype=torch.complex64), torch.ones(2, device="meta")):
        with pytest.raises(InputError, match="'x'"):
            named_arrays({"x": tensor})


def test_lazy_modules_have_to_run_first() -> None:
    with pytest.raises(InputError, match=r"tensor '0\.weight': has no shape yet"):
        compress(torch.nn.Sequential(torch.nn.LazyConv2d(3, 3)))


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
    "float8": lambda: torch.zeros(3, dtype=torch.float8_e4m3fn),
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
