from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from vvc_nnr.filters.inference.tiles import measured_reach
from vvc_nnr.filters.networks.dncnn import DnCnn


def run_of(network):
    network.eval()

    def run(values):
        with torch.no_grad():
            return network(torch.from_numpy(values)[None])[0].numpy()

    return run


class Pooled(nn.Module):
    def forward(self, x):
        return x + 0.01 * x.mean((2, 3), keepdim=True)


class Placed(nn.Module):
    """Knows where in the picture a sample is."""

    def forward(self, x):
        return x + torch.linspace(0, 1, x.shape[3])


def dead():
    """Its ReLU lets nothing through for pictures in 0..1."""
    layers = nn.Sequential(nn.Conv2d(1, 1, 5, padding=2), nn.ReLU(), nn.Conv2d(1, 1, 5, padding=2))
    nn.init.ones_(layers[0].weight)
    nn.init.constant_(layers[0].bias, -40)
    return layers


def u_net():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1), nn.PixelShuffle(2)
    )


@pytest.mark.parametrize(
    ("network", "align", "reach"),
    [
        (nn.Identity(), 1, 0),
        (nn.Conv2d(1, 1, 7, padding=3), 1, 3),
        (nn.Conv2d(1, 1, 3, padding=20, dilation=20), 1, 20),
        (nn.Conv2d(1, 1, (3, 11), padding=(1, 5)), 1, 5),
        (DnCnn(6, 4), 1, 6),
        (dead(), 1, 4),
        (u_net(), 2, 3),
        (Pooled(), 1, math.inf),
        (nn.InstanceNorm2d(1), 1, math.inf),
        (Placed(), 1, math.inf),
    ],
)
def test_the_reach_is_measured(network, align, reach):
    torch.manual_seed(0)
    found = measured_reach(run_of(network), 1, align)
    assert reach <= found
    assert found == reach or (reach < math.inf and found <= reach + align)


def test_every_input_plane_counts():
    def run(values):
        return values[:1] + np.roll(values[2:], 4, axis=2)

    assert measured_reach(run, 3) == 4
