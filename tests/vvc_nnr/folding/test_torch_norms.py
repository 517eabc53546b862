"""Folded batch norms: the same outputs, the same names, and a coded network that loads and runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from vvc_nnr.compress import compress, load_into
from vvc_nnr.errors import InputError
from vvc_nnr.model.torch_norms import find_norm_pairs, fold_batch_norms


class Network(nn.Module):
    """Norms in odd order of definition, grouped and transposed layers, and one whose input is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8)
        self.first = nn.Conv2d(3, 8, 3, bias=True)
        self.grouped = nn.Sequential(nn.Conv2d(8, 12, 3, groups=4, bias=False), nn.BatchNorm2d(12, eps=1e-3), nn.ReLU())
        self.grow = nn.ConvTranspose2d(12, 6, 2, stride=2, groups=3)
        self.grown = nn.BatchNorm2d(6)
        self.twice = nn.Conv2d(6, 6, 1)
        self.not_alone = nn.BatchNorm2d(6)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        found = self.grown(self.grow(self.grouped(self.norm(self.first(given)))))
        both = self.twice(found)
        output: torch.Tensor = self.not_alone(both) + both
        return output


def network() -> Network:
    torch.manual_seed(4)
    made = Network().eval()
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 1e-3, 5)
    return made


@torch.no_grad()
def test_folded_modules_compute_the_same_and_keep_their_names() -> None:
    original, given = network(), torch.randn(2, 3, 12, 12)
    assert list(find_norm_pairs(original).pairs) == [("first", "norm"), ("grouped.0", "grouped.1"), ("grow", "grown")]
    folded = fold_batch_norms(original)
    assert torch.allclose(folded(given), original(given), atol=1e-4, rtol=1e-4)
    assert list(folded.state_dict()) == list(original.state_dict())
    assert (folded.norm.weight == 1).all()
    assert (folded.grouped[1].running_var == 1).all()
    assert not torch.equal(folded.not_alone.weight, torch.ones(6))
    assert torch.equal(original.norm.weight, network().norm.weight)


@torch.no_grad()
def test_a_folded_network_is_coded_loads_and_runs() -> None:
    original, given = network(), torch.randn(2, 3, 12, 12)
    data = compress(fold_batch_norms(original), qp=-48)
    assert len(data) < len(compress(original, qp=-48))
    other = Network().eval()
    load_into(other, data)
    wanted = original(given)
    assert (other(given) - wanted).abs().max() < 0.02 * wanted.abs().max()


class Chain(nn.Module):
    """Two layers with norms, one after the other, or as a function runs them."""

    def __init__(
        self,
        change: Callable[[Chain], object] = lambda chain: None,
        run: Callable[[Chain, torch.Tensor], torch.Tensor] | None = None,
        norms: tuple[nn.Module, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.a, self.c = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.n, self.m = norms or (nn.BatchNorm2d(4), nn.BatchNorm2d(4))
        self.run = run
        for norm in (self.n, self.m):
            for name, tensor in norm.state_dict().items():
                if "num" not in name:
                    nn.init.uniform_(tensor, 0.2, 2)
        change(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.run(self, x) if self.run else self.m(self.c(self.n(self.a(x))))
        return y


class Optional(Chain):
    """Its norm follows the layer only if a mask is given."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        y = self.a(x)
        found: torch.Tensor = self.m(self.c(self.n(y + 1 if mask is None else y)))
        return found


def tie(*names: str) -> Callable[[Chain], None]:
    """Gives the second part the first one's tensor."""

    def change(chain: Chain) -> None:
        for name in names:
            ours, theirs = name.split("=")
            setattr(chain.get_submodule(ours[0]), ours[2:], getattr(chain.get_submodule(theirs[0]), theirs[2:]))

    return change


def conv(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return nn.functional.conv2d(x, weight, padding=1)


STAYING: dict[str, tuple[Callable[[], Chain], list[str], str]] = {
    "a weight of two layers": (lambda: Chain(tie("c.weight=a.weight")), ["n", "m"], "share a parameter"),
    "a bias of two layers": (lambda: Chain(tie("c.bias=a.bias")), ["n", "m"], "share a parameter"),
    "parameters of two norms": (lambda: Chain(tie("m.weight=n.weight", "m.bias=n.bias")), ["n", "m"], "share a param"),
    "a scale that is its shift": (lambda: Chain(tie("n.weight=n.bias")), ["n"], "share a parameter"),
    "a weight in a function": (
        lambda: Chain(run=lambda s, x: s.m(s.c(s.n(s.a(x)))) + conv(x, s.a.weight)),
        ["n"],
        "own code",
    ),
    "a weight in a function, changed": (
        lambda: Chain(run=lambda s, x: s.m(s.c(s.n(s.a(x)))) + conv(x, 2 * s.a.weight)),
        ["n"],
        "own code",
    ),
    "a layer that runs twice": (lambda: Chain(run=lambda s, x: s.m(s.c(s.n(s.a(s.a(x)))))), ["n"], "more than once"),
    "a norm that runs twice": (lambda: Chain(run=lambda s, x: s.m(s.c(s.n(s.n(s.a(x)))))), ["n"], "more than once"),
    "spectral norm": (lambda: Chain(lambda s: nn.utils.spectral_norm(s.a)), ["n"], "hook"),
    "weight norm": (lambda: Chain(lambda s: nn.utils.weight_norm(s.a)), ["n"], "hook"),
    "a parametrisation": (lambda: Chain(lambda s: nn.utils.parametrizations.weight_norm(s.a)), ["n"], "parametrised"),
    "a hook on inputs": (lambda: Chain(lambda s: s.n.register_forward_pre_hook(lambda _, x: 2 * x[0])), ["n"], "hook"),
    "a hook on outputs": (lambda: Chain(lambda s: s.a.register_forward_hook(lambda *x: 2 + x[2])), ["n"], "hook"),
    "no scale": (
        lambda: Chain(norms=(nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4))),
        ["n"],
        "no place for the shift",
    ),
    "no statistics": (
        lambda: Chain(norms=(nn.BatchNorm2d(4, track_running_stats=False), nn.BatchNorm2d(4))),
        ["n"],
        "no statistics",
    ),
    "values beyond its format": (lambda: Chain(lambda s: s.n.weight.data.fill_(3e38)), ["n"], "not be finite"),
    "only for some inputs": (lambda: Optional(), ["n"], "not always directly"),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("case", STAYING)
@torch.no_grad()
def test_norms_that_cannot_be_folded_stay_and_are_named(case: str, caplog: pytest.LogCaptureFixture) -> None:
    make, staying, reason = STAYING[case]
    original, given = make().eval(), torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    if len(staying) == 2:
        with pytest.raises(InputError, match=f"no batch norm can be folded: 'n': .*{reason}"):
            fold_batch_norms(original)
        with pytest.raises(InputError, match=reason):
            fold_batch_norms(original, [("a", "n")])
        return
    folded = fold_batch_norms(original)
    torch.testing.assert_close(folded(given), original(given), rtol=1e-4, atol=1e-4, equal_nan=True)
    assert (folded.m.running_mean == 0).all()
    assert f"1 batch norms stay as they are: '{staying[0]}': " in caplog.text
    assert reason in caplog.text


@pytest.mark.parametrize(
    ("network", "pairs"),
    [
        (nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5)), []),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 5), nn.BatchNorm1d(5)), [("1", "2")]),
        (nn.Sequential(nn.Flatten(0, 1), nn.Linear(5, 5), nn.BatchNorm1d(5)), []),
        (
            nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3), nn.BatchNorm1d(3)),
            [("0", "1"), ("3", "4")],
        ),
        (nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Unflatten(1, (1, 5)), nn.BatchNorm1d(1)), []),
    ],
)  # fmt: skip
def test_norms_of_linear_layers_are_folded_where_their_inputs_surely_have_two_dimensions(
    network: nn.Module, pairs: list[tuple[str, str]]
) -> None:
    assert list(find_norm_pairs(network).pairs) == pairs


def test_pairs_can_be_named_and_are_checked() -> None:
    class Branching(nn.Sequential):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return super().forward(given) if given.sum() > 0 else given

    branching = Branching(nn.Linear(3, 4), nn.BatchNorm1d(4))
    with pytest.raises(InputError, match="cannot be traced"):
        fold_batch_norms(branching)
    assert (fold_batch_norms(branching, [("0", "1")])[1].running_mean == 0).all()
    with pytest.raises(InputError, match="no part 'x'"):
        fold_batch_norms(branching, [("0", "x")])
    with pytest.raises(InputError, match="'1' is a BatchNorm1d; must be one of Conv1d"):
        fold_batch_norms(branching, [("1", "0")])
    with pytest.raises(InputError, match="the norm has not the layer's 5 channels"):
        fold_batch_norms(nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(4)), [("0", "1")])
    with pytest.raises(InputError, match="no place for the shift"):
        fold_batch_norms(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False)))
    with pytest.raises(InputError, match="must be a torch module or ModelProto, got dict"):
        fold_batch_norms({})


class NormByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.n = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.n(input=self.c(input=x))
        return result


def with_statistics(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(getattr(part, "running_mean", None), torch.Tensor):
            part.running_mean.copy_(torch.randn(part.running_mean.shape, generator=generator))
    return module.eval()


def test_norms_for_several_processes_are_folded() -> None:
    module = with_statistics(nn.Sequential(nn.Conv2d(3, 8, 3), nn.SyncBatchNorm(8)))
    folded = fold_batch_norms(module)
    x = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(folded(x), module(x), atol=1e-5)
    assert not folded[1].running_mean.any()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: [nn.InstanceNorm2d(8, affine=True, track_running_stats=True)], "a InstanceNorm2d is not folded"),
        (lambda: [nn.Identity(), nn.BatchNorm2d(8)], "does not directly follow a layer"),
        (lambda: [nn.Dropout(), nn.BatchNorm2d(8)], "does not directly follow a layer"),
        (lambda: [NormByKeyword(), nn.ReLU()], "does not directly follow a layer"),
    ],
)
def test_every_norm_that_stays_is_named(make: Any, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    def alone() -> list[nn.Module]:
        made: list[nn.Module] = make()
        return made if isinstance(made[0], NormByKeyword) else [nn.Conv2d(3, 8, 3), *made]

    with pytest.raises(InputError, match=f"no batch norm can be folded: .*{reason}"):
        fold_batch_norms(with_statistics(nn.Sequential(*alone())))
    first = [nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.ReLU()]
    fold_batch_norms(with_statistics(nn.Sequential(*first, *alone())))
    assert "1 batch norms stay as they are" in caplog.text
    assert reason in caplog.text
