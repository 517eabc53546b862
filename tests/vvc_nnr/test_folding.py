"""Folded batch norms: the same outputs, the same names, and a coded network that loads and runs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vvc_nnr.compress import compress, load_into
from vvc_nnr.errors import InputError
from vvc_nnr.model.folding import fold_batch_norms, traced_pairs


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
    assert traced_pairs(original) == [("first", "norm"), ("grouped.0", "grouped.1"), ("grow", "grown")]
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
    with pytest.raises(InputError, match="'1' is a BatchNorm1d, one of Conv1d"):
        fold_batch_norms(branching, [("1", "0")])
    with pytest.raises(InputError, match="the norm has not the layer's 5 channels"):
        fold_batch_norms(nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(4)), [("0", "1")])
    with pytest.raises(InputError, match="no place for the shift"):
        fold_batch_norms(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False)))
    with pytest.raises(InputError, match="a torch module or ModelProto is wanted, got dict"):
        fold_batch_norms({})
