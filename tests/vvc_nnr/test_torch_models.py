"""Torch modules and tensors as input, and arrays back as torch tensors."""

from __future__ import annotations

import numpy as np
import pytest

from vvc_nnr.compress import compress, decompress, inspect
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
