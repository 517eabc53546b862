"""Steps of the optimisers, held against what their papers say a step is."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from vvc_nnr.errors import InputError
from vvc_nnr.filters.training.loop import TrainOptions, train
from vvc_nnr.filters.training.optimiser import Optimiser, orthogonal


def network(memory_format=torch.contiguous_format):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    return net.to(memory_format=memory_format)


def backward(net, seed=1):
    images = torch.randn((2, 3, 9, 9), generator=torch.Generator().manual_seed(seed))
    net(images).square().mean().backward()


def state_of(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_muon_moves_all_directions_of_a_kernel_alike():
    net = network()
    before = state_of(net)
    optimiser = Optimiser("muon", net, weight_decay=0.0)
    backward(net)
    gradient = net[0].weight.grad.flatten(1).clone()
    optimiser.step(0.01)
    moved = (net[0].weight - before["0.weight"]).detach().flatten(1)
    assert gradient.svd().S.max() / gradient.svd().S.min() > 3
    lengths = moved.svd().S / (0.01 * 0.2 * math.sqrt(27))
    assert lengths.min() > 0.6
    assert lengths.max() < 1.3
    assert (moved * gradient).sum() < 0


def test_muon_leaves_biases_to_adamw():
    with_muon, with_adamw = network(), network()
    for net, name in ((with_muon, "muon"), (with_adamw, "adamw")):
        optimiser = Optimiser(name, net, weight_decay=0.1)
        backward(net)
        optimiser.step(0.01)
    torch.testing.assert_close(with_muon[0].bias, with_adamw[0].bias, rtol=0, atol=0)
    assert not torch.allclose(with_muon[0].weight, with_adamw[0].weight)


def test_adamw_is_that_of_torch():
    net, other = network(), network()
    optimiser = Optimiser("adamw", net, weight_decay=0.1)
    plain = torch.optim.AdamW(other.parameters(), lr=0.01, weight_decay=0.1, betas=(0.9, 0.99))
    for seed in range(3):
        optimiser.clear()
        other.zero_grad()
        backward(net, seed)
        backward(other, seed)
        optimiser.step(0.01)
        plain.step()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=0, atol=0)


def test_the_memory_layout_changes_nothing():
    nets = [network(layout) for layout in (torch.contiguous_format, torch.channels_last)]
    for net in nets:
        optimiser = Optimiser("muon", net, weight_decay=0.1)
        for seed in range(3):
            optimiser.clear()
            backward(net, seed)
            optimiser.step(0.01)
        assert net[2].weight.is_contiguous(memory_format=torch.channels_last) == (net is nets[1])
    for name, value in nets[0].state_dict().items():
        torch.testing.assert_close(value, nets[1].state_dict()[name], rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_run_goes_on_from_its_state(name):
    whole = network()
    optimiser = Optimiser(name, whole, weight_decay=0.1)
    for seed in range(4):
        if seed == 2:
            cut = network()
            cut.load_state_dict(state_of(whole))
            taken_up = Optimiser(name, cut, weight_decay=0.1)
            taken_up.load_state_dict(deepcopy(optimiser.state_dict()))
        optimiser.clear()
        backward(whole, seed)
        optimiser.step(0.01)
    for seed in (2, 3):
        taken_up.clear()
        backward(cut, seed)
        taken_up.step(0.01)
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(value, cut.state_dict()[key], rtol=0, atol=0)


def test_a_run_cut_off_ends_as_an_uncut_one(tmp_path):
    options = TrainOptions(6, 2, warmup_steps=2, checkpoint_every=2, device="cpu", optimiser="muon")
    whole = Sums()
    train(whole, options, tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train(Sums(cut_at=5), options, tmp_path / "cut.pt")
    cut = Sums(network_seed=9)
    train(cut, options, tmp_path / "cut.pt")
    for key, value in whole.network.state_dict().items():
        torch.testing.assert_close(value, cut.network.state_dict()[key], rtol=0, atol=0)
    with pytest.raises(InputError, match="optimiser muon there, adamw asked for"):
        train(Sums(), replace(options, optimiser="adamw"), tmp_path / "cut.pt")


class Sums:
    """A task that brings the sums of a network's outputs to 1."""

    def __init__(self, network_seed=0, cut_at=None):
        torch.manual_seed(network_seed)
        self.network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        self._cut_at = cut_at

    def loss(self, step, batch_size, device):
        if step == self._cut_at:
            raise KeyboardInterrupt
        images = torch.randn((batch_size, 3, 7, 7), generator=torch.Generator().manual_seed(step))
        return (self.network(images).float().sum(dim=1) - 1).square().mean()

    def validate(self, device):
        return {}


@pytest.mark.parametrize("shape", [(4, 27), (40, 9), (1, 30), (8, 8)])
def test_an_orthogonal_matrix_has_the_directions_of_its_matrix(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(1e-3 * matrix)
    lengths = left.T @ found @ right.T
    assert (lengths.diagonal() > 0.6).all()
    assert (lengths.diagonal() < 1.25).all()
    assert (lengths - lengths.diagonal().diag()).abs().max() < 1e-4
    assert not orthogonal(0 * matrix).any()


def test_unknown_optimisers():
    with pytest.raises(InputError, match="optimiser 'sgd': must be one of adamw, muon"):
        Optimiser("sgd", network(), 0.0)
