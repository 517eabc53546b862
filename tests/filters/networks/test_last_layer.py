"""Which convolution of a network runs last."""

from __future__ import annotations

import torch
from torch import nn

from vvc_nnr.filters.networks.in_loop import LadderFilter
from vvc_nnr.filters.networks.last_layer import FeaturesBefore, LastLayer, last_layer


def test_the_last_convolution_is_found_whatever_runs_behind_it():
    found = last_layer(LadderFilter(4, 1), torch.rand(1, 6, 8, 8), torch.tensor([32.0]))
    assert found == LastLayer("tail.weight", "tail.bias", True)


def test_what_cannot_be_solved_is_told():
    x = torch.rand(1, 4, 8, 8)
    first = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    assert last_layer(nn.Sequential(first), x) == LastLayer("0.weight", None, True)
    assert last_layer(nn.Sequential(first, first), x) == LastLayer("0.weight", None, False)
    grouped = nn.Sequential(first, nn.Conv2d(4, 4, 3, groups=2))
    assert last_layer(grouped, x) == LastLayer("1.weight", "1.bias", False)
    transposed = nn.Sequential(nn.ConvTranspose2d(4, 4, 2))
    assert last_layer(transposed, x) == LastLayer("0.weight", "0.bias", False)
    assert last_layer(nn.ReLU(), x) is None


def test_the_layer_is_its_rows_times_its_values():
    layer, x = nn.Conv2d(3, 5, 3, stride=2, padding=2, dilation=2), torch.rand(2, 3, 9, 11)
    with FeaturesBefore(layer.weight) as watched:
        output = layer(x)
    values = torch.cat([layer.weight.flatten(1), layer.bias[:, None]], dim=1)
    assert torch.allclose(values @ watched.rows(has_bias=True), output.flatten(2), atol=1e-5)
    shifts = [torch.ones_like(output)]
    with FeaturesBefore(layer.weight, shifts):
        assert torch.allclose(layer(x), output + 1)
