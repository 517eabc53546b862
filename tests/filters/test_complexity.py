"""Complexity is that of the layers, by hand, whatever way they are called."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vvc_nnr.filters.complexity import complexity
from vvc_nnr.filters.networks.in_loop import RUNGS, InLoopFilter, LadderFilter, Rung


def test_the_bundled_shape_costs_what_its_layers_cost() -> None:
    found = complexity(InLoopFilter(64, 2))
    per_half_sample = 9 * (7 * 64 + 5 * 64 * 64 + 64 * 6)
    assert found.kmac_per_luma_sample == per_half_sample / 4 / 1000
    assert round(found.kmac_per_luma_sample, 1) == 48.0
    assert found.n_parameters == 192_198


def test_a_convolution_by_function_in_groups_and_with_stride_counts_too() -> None:
    class More(InLoopFilter):
        def __init__(self) -> None:
            super().__init__(8, 1)
            self.extra = torch.nn.Parameter(torch.zeros(8, 2, 5, 5))

        def forward(self, planes: Tensor, qp: Tensor) -> Tensor:
            wide = torch.cat([planes, planes[:, :2]], dim=1)
            functional.conv2d(wide, self.extra, stride=2, groups=4, padding=2)
            return super().forward(planes, qp)

    more, plain = complexity(More()), complexity(InLoopFilter(8, 1))
    extra = 8 * 2 * 25 / 4  # of every fourth half-size sample
    assert abs(more.kmac_per_luma_sample - plain.kmac_per_luma_sample - extra / 4 / 1000) < 1e-12
    assert more.n_parameters == plain.n_parameters + 400


def test_counting_leaves_the_network_as_it_was() -> None:
    network = InLoopFilter(8, 1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    complexity(network)
    assert all(value.device.type == "cpu" for value in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(("rung", "kmac"), [("vlop", 4.5), ("lop", 17.0), ("hop", 103.1)])
def test_rungs_cost_what_their_file_says(rung: Rung, kmac: float) -> None:
    assert round(complexity(LadderFilter(**RUNGS[rung])).kmac_per_luma_sample, 1) == kmac
