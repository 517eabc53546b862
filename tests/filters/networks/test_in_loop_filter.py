from __future__ import annotations

import torch

from vvc_nnr.filters.networks.in_loop import InLoopFilter
from vvc_nnr.filters.zoo import n_parameters


def test_the_size_of_the_default_network():
    network = InLoopFilter()
    assert n_parameters(network) == 192_198
    assert network.config == {"n_channels": 64, "n_blocks": 2}
    n_macs = sum(m.weight.numel() for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    assert round(n_macs / 4000, 1) == 48.0


def test_an_untrained_network_changes_nothing():
    planes = torch.rand(2, 6, 9, 7)
    assert torch.equal(InLoopFilter(8, 1)(planes, torch.tensor([22.0, 37.0])), planes)


def test_each_picture_of_a_batch_has_its_own_qp(filter_network):
    network = filter_network()
    planes = torch.rand(1, 6, 9, 7).repeat(2, 1, 1, 1)
    with torch.no_grad():
        both = network(planes, torch.tensor([22.0, 37.0]))
        each = [network(planes[:1], torch.tensor([qp])) for qp in (22.0, 37.0)]
    torch.testing.assert_close(both, torch.cat(each), rtol=0, atol=1e-5)
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_the_receptive_radius_is_how_far_an_input_reaches(filter_network):
    for n_blocks in (1, 3):
        network = filter_network(n_blocks=n_blocks)
        radius = network.receptive_radius
        planes = torch.zeros(1, 6, 4 * radius + 1, 4 * radius + 1, requires_grad=True)
        centre = 2 * radius
        network(planes, torch.tensor([32.0]))[0, :, centre, centre].sum().backward()
        touched = planes.grad[0].abs().sum(0) > 0
        rows, columns = (torch.nonzero(touched.any(dim))[:, 0] - centre for dim in (1, 0))
        assert (int(rows.min()), int(rows.max())) == (-radius, radius)
        assert (int(columns.min()), int(columns.max())) == (-radius, radius)


def test_the_config_makes_the_same_network(filter_network):
    network = filter_network(12, 3)
    again = InLoopFilter(**network.config)
    again.load_state_dict(network.state_dict())
    planes, qp = torch.rand(1, 6, 5, 5), torch.tensor([32.0])
    assert torch.equal(again(planes, qp), network(planes, qp))
