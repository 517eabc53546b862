"""Calibrated compression for all kinds of callers: modes of gradients, keyword calls, ties, foreign errors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

import vvc_nnr
from vvc_nnr.calibrate.compress_calibrated import prepare_calibrated
from vvc_nnr.errors import InputError, VvcNnrError


def pictures(*shape: int, n: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(shape, generator=generator) for _ in range(n)]


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)).eval()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_of_the_caller_change_nothing(mode: Callable[[], AbstractContextManager[None]]) -> None:
    seen = pictures(1, 1, 24, 24)
    expected = vvc_nnr.compress(chain(), calibration=seen, max_loss_db=0.5)
    with mode():
        made_here = chain(), [picture.clone() for picture in seen]
        assert vvc_nnr.compress(chain(), calibration=seen, max_loss_db=0.5) == expected
    assert vvc_nnr.compress(made_here[0], calibration=made_here[1], max_loss_db=0.5) == expected


class ByKeyword(nn.Module):
    """Calls its layers as `layer(input=x)`, norms too."""

    def __init__(self, layers: list[nn.Module], by_keyword: bool) -> None:
        super().__init__()
        self.layers, self.by_keyword = nn.ModuleList(layers), by_keyword

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(input=x) if self.by_keyword else layer(x)
        return x


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        (lambda: [nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.Conv2d(8, 1, 3)], (1, 1, 24, 24)),
        (lambda: [nn.Conv1d(1, 8, 3, padding=1), nn.Conv1d(8, 1, 3)], (1, 1, 64)),
        (lambda: [nn.Linear(16, 8), nn.Linear(8, 4)], (8, 16)),
    ],
)
def test_layers_may_be_called_by_keyword(layers: Callable[[], list[nn.Module]], shape: tuple[int, ...]) -> None:
    found = []
    for by_keyword in (False, True):
        torch.manual_seed(0)
        network = ByKeyword(layers(), by_keyword).eval()
        found.append(vvc_nnr.compress(network, calibration=pictures(*shape), max_loss_db=0.5))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("network", "shape"),
    [(chain, (1, 24, 24)), (lambda: nn.Sequential(nn.Conv1d(2, 8, 3), nn.Conv1d(8, 2, 3)).eval(), (2, 64))],
)
def test_pictures_without_a_batch_dimension(network: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, without = network(), pictures(*shape)
    data = vvc_nnr.compress(model, calibration=without, max_loss_db=0.5)
    assert data == vvc_nnr.compress(model, calibration=[picture[None] for picture in without], max_loss_db=0.5)


class Tied(nn.Module):
    """Two layers of one weight, two others of one bias."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.c, self.d = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)
        self.c.weight, self.b.bias = self.b.weight, self.a.bias

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.d(self.c(self.b(self.a(x)).relu()).relu())
        return result


def test_ties_survive_calibration() -> None:
    torch.manual_seed(0)
    network = Tied().eval()
    data = vvc_nnr.compress(network, calibration=pictures(1, 1, 24, 24), max_loss_db=0.5)
    found = vvc_nnr.decompress(data)
    assert list(found) == list(network.state_dict())
    assert found["c.weight"] is found["b.weight"]
    assert found["b.bias"] is found["a.bias"]
    assert len(vvc_nnr.inspect(data).tensors) == len(found) - 2
    vvc_nnr.load_into(network, data)


def test_weights_that_no_layer_or_another_kind_has_a_copy_of_are_calibrated() -> None:
    torch.manual_seed(0)
    first, last = nn.Conv2d(1, 32, 4, stride=4, bias=False), nn.ConvTranspose2d(32, 1, 4, stride=4, bias=False)
    last.weight.data.copy_(first.weight.data)
    network = nn.Sequential(first, nn.Conv2d(32, 32, 1), last).eval()
    network.register_buffer("average", network[1].weight.detach().clone())
    found = vvc_nnr.decompress(vvc_nnr.compress(network, calibration=pictures(1, 1, 24, 24), max_loss_db=0.5))
    for name, value in network.state_dict().items():
        assert (found[name] - value.numpy()).std() < 0.3 * value.numpy().std()


def test_what_pictures_tell_nothing_of_is_named_in_a_file_without_calibration() -> None:
    torch.manual_seed(0)
    network = chain().eval()
    network.register_parameter("average", nn.Parameter(torch.randn(32, 32, 3, 3)))
    coder = prepare_calibrated(network, pictures(1, 1, 24, 24))
    weak_db = coder.compress_plainly(quality=3.0).network.weak_db
    assert [*weak_db] == ["average"]
    assert weak_db["average"] < 10


class Failing(nn.Module):
    """Raises on the first pass, or on a later one."""

    def __init__(self, error: Exception, good_passes: int = 0) -> None:
        super().__init__()
        self.body, self.error, self.left = chain(), error, good_passes

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise self.error
        result: Tensor = self.body(x)
        return result


@pytest.mark.parametrize("error", [AssertionError("sides of 64"), KeyError("b"), AttributeError("c"), OSError("d")])
@pytest.mark.parametrize("good_passes", [0, 3, 8, 11])
def test_errors_of_the_network_are_told_as_bad_input(error: Exception, good_passes: int) -> None:
    with pytest.raises(InputError, match=rf"cannot be run on a picture of 1x1x24x24: {type(error).__name__}"):
        vvc_nnr.compress(Failing(error, good_passes), calibration=pictures(1, 1, 24, 24), max_loss_db=0.5)


def test_modules_of_torchscript_are_refused() -> None:
    with pytest.warns(DeprecationWarning, match="script"):
        scripted = torch.jit.script(chain())
    with pytest.raises(VvcNnrError, match="ScriptModule"):
        vvc_nnr.compress(scripted, calibration=pictures(1, 1, 24, 24), max_loss_db=0.5)
    for pairs in (None, [("0", "1")]):
        with pytest.raises(VvcNnrError, match="ScriptModule"):
            vvc_nnr.fold_batch_norms(scripted, pairs)
