from __future__ import annotations

import pytest
import torch

from vvc_nnr.filters.networks.in_loop import RUNGS, InLoopFilter, LadderFilter, deepened


@pytest.fixture
def ladder_filter():
    """Makes a small filter whose weights are all random, so that every layer shows in the output."""

    def make(n_channels=8, n_blocks=2):
        torch.manual_seed(0)
        network = LadderFilter(n_channels, n_blocks)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(0, 0.3 if parameter.dim() > 2 else 0.1)
        return network.eval()

    return make


@pytest.mark.parametrize(("rung", "limit"), [("vlop", 5), ("lop", 17), ("hop", 120)])
def test_every_rung_keeps_to_its_complexity(rung, limit):
    network = LadderFilter(**RUNGS[rung])
    n_macs = sum(m.weight.numel() for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    assert 0.8 * limit < n_macs / 4000 <= limit


def test_an_untrained_network_changes_nothing():
    planes = torch.rand(2, 6, 9, 7)
    assert torch.equal(LadderFilter(8, 1)(planes, torch.tensor([22.0, 37.0])), planes)


def test_each_picture_of_a_batch_has_its_own_qp(ladder_filter):
    network = ladder_filter()
    planes = torch.rand(1, 6, 9, 7).repeat(2, 1, 1, 1)
    with torch.no_grad():
        both = network(planes, torch.tensor([22.0, 37.0]))
        each = [network(planes[:1], torch.tensor([qp])) for qp in (22.0, 37.0)]
    torch.testing.assert_close(both, torch.cat(each), rtol=0, atol=5e-5)
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_the_correction_of_a_new_network_grows_with_the_error_of_the_codec():
    network = LadderFilter(4, 1)
    torch.nn.init.constant_(network.tail.bias, 1.0)
    planes = torch.zeros(2, 6, 4, 4)
    low, high = network(planes, torch.tensor([23.0, 32.0])).detach()
    assert float(high.mean() / low.mean()) == pytest.approx(2.0)


def test_the_receptive_radius_is_how_far_an_input_reaches(ladder_filter):
    network = ladder_filter(n_blocks=3)
    radius = network.receptive_radius
    planes = torch.zeros(1, 6, 4 * radius + 1, 4 * radius + 1, requires_grad=True)
    network(planes, torch.tensor([32.0]))[0, :, 2 * radius, 2 * radius].sum().backward()
    rows = torch.nonzero(planes.grad[0].abs().sum(dim=(0, 2)))[:, 0] - 2 * radius
    assert (int(rows.min()), int(rows.max())) == (-radius, radius)


def test_a_deepened_network_computes_the_same(ladder_filter):
    network = ladder_filter(8, 2)
    planes, qp = torch.rand(1, 6, 20, 20), torch.tensor([27.0])
    assert torch.equal(deepened(network, 4)(planes, qp), network(planes, qp))


def test_a_filter_with_a_qp_plane_becomes_one_of_the_ladder(filter_network):
    network = filter_network(8, 2)
    deeper = deepened(network, 3)
    planes, qp = torch.rand(1, 6, 40, 40), torch.tensor([27.0])
    inner = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(deeper(planes, qp)[inner], network(planes, qp)[inner], rtol=0, atol=1e-5)


def test_a_network_cannot_be_made_shallower():
    with pytest.raises(ValueError, match="has 3 blocks, cannot be made one of 2"):
        deepened(InLoopFilter(4, 3), 2)
