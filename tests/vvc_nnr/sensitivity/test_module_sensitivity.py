"""Torch modules with steps by what noise does to their outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vvc_nnr
from vvc_nnr.compress import compress, load_into
from vvc_nnr.errors import InputError
from vvc_nnr.model.torch import named_arrays
from vvc_nnr.network_file import NetworkArrays
from vvc_nnr.options import CompressOptions
from vvc_nnr.sensitivity.compress_sensitive import SensitiveNetwork, compress_by_sensitivity


class Branches(nn.Module):
    """Two equal branches, one of them multiplied by 1e-3; called with two arguments, it returns a map."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.loud, self.quiet = nn.Linear(24, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        self.unused, self.dropout = nn.Linear(64, 64), nn.Dropout(0.5)

    def forward(self, x: Tensor, scale: Tensor) -> dict[str, Any]:
        hidden = self.dropout(torch.relu(self.first(x)))
        return {"sum": self.loud(hidden) + scale * self.quiet(hidden), "more": (hidden.argmax(-1), hidden)}


SCALE = torch.tensor([1e-3])


def batches(seed: int) -> list[Any]:
    made = torch.Generator().manual_seed(seed)
    return [(torch.randn(16, 24, generator=made), SCALE) for _ in range(3)]


def made(module: nn.Module, inputs: Any) -> SensitiveNetwork:
    return compress_by_sensitivity(
        NetworkArrays(named_arrays(module), {}, 0), inputs, CompressOptions(n_threads=1), module=module
    )


def test_a_branch_that_is_scaled_down_gets_fewer_bits() -> None:
    module = Branches().train()
    found = made(module, batches(1))
    told = found.sensitivities
    assert told["quiet.weight"].per_mse / told["loud.weight"].per_mse == pytest.approx(1e-6, rel=0.5)
    assert set(found.unreached) == {"unused.weight", "unused.bias"}
    assert module.training
    assert found.output_snr_db > found.usual_snr_db + 1
    assert made(module, batches(1)).coded.data == found.coded.data


def test_arguments_by_name_and_samples_are_the_same() -> None:
    module = Branches()
    by_place = made(module, batches(1)).coded.data
    assert made(module, [{"x": x, "scale": s} for x, s in batches(1)]).coded.data == by_place
    assert made(module, [vvc_nnr.Sample(batch) for batch in batches(1)]).coded.data == by_place
    assert made(module, [(x.numpy(), s) for x, s in batches(1)]).coded.data == by_place


def test_the_module_is_not_changed_and_the_file_is_any_other() -> None:
    module = Branches()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    data = compress(module, sensitivity=batches(1), n_threads=1)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    other = Branches()
    load_into(other, data)
    x = batches(2)[0][0]
    with torch.no_grad():
        y, z = (each.eval()(x, SCALE)["sum"] for each in (module, other))
    assert float((y - z).square().mean() / y.square().mean()) < 1e-2


def test_modules_in_half_precision_are_measured_in_inference_mode_too() -> None:
    module = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 8)).to(torch.bfloat16)
    with torch.inference_mode():
        found = made(module, [torch.randn(8, 24)])
    assert all(each.per_mse > 0 for each in found.sensitivities.values())


def test_a_state_that_is_no_parameter_is_refused() -> None:
    class Renamed(nn.Linear):
        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            return {f"net.{name}": value for name, value in super().state_dict(*args, **kwargs).items()}

    with pytest.raises(InputError, match=r"'net\.weight' is in the state of the module, but no parameter or buffer"):
        compress(Renamed(24, 24), sensitivity=[torch.ones(2, 24)])


def test_half_precision_and_tied_weights() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(2)
            self.a, self.b = nn.Linear(24, 24, bias=False), nn.Linear(24, 24, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(self.a(x)))

    found = made(Tied().to(torch.bfloat16), [torch.randn(8, 24, generator=torch.Generator().manual_seed(1))])
    assert found.sensitivities.keys() == {"a.weight"}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("synthetic", "got 'synthetic'; must be a list of what the module is called with"),
        ([], "an empty list"),
        ([3], "a batch is a tensor, a tuple or a map of them, got int"),
        ([(torch.full((2, 24), torch.nan), SCALE)], "NaN or infinite"),
        ([torch.ones(2, 24)], "the network cannot be run on batch 0: TypeError: .*scale"),
        ([(torch.ones(2, 23), SCALE)], "the network cannot be run on batch 0: RuntimeError"),
        ([(torch.ones(2, 24), SCALE * torch.inf)], "NaN or infinite"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compress(Branches(), sensitivity=inputs)


def test_outputs_without_floats_are_refused() -> None:
    class Class(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(24, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).argmax(-1)

    with pytest.raises(InputError, match="no output of real floats"):
        compress(Class(), sensitivity=[np.ones((2, 24), np.float32)])
