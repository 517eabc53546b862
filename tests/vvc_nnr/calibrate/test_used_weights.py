"""Layers that round their weights before they use them: errors are those of what is used."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.bitstream.qp import step_size
from vvc_nnr.calibrate.allocation import allocate
from vvc_nnr.calibrate.compress_calibrated import prepare_calibrated
from vvc_nnr.calibrate.layers import used_weight
from vvc_nnr.kernels.tensor_params import TensorParams
from vvc_nnr.quantize.rate_distortion import error_cost


class Sixteenths(nn.Conv2d):
    """A convolution with weights in sixteenths."""

    def used_weight(self, weight: Tensor) -> Tensor:
        return weight + (torch.round(weight * 16) / 16 - weight).detach()

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.used_weight(self.weight), self.bias)


def test_steps_that_are_multiples_of_the_grid_are_found() -> None:
    weights = np.round(np.random.default_rng(0).normal(0, 8, (16, 32))) / 16
    identity, rows = np.eye(32)[None], np.eye(16)

    def used(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.round(values * 16) / 16

    found = allocate(weights, TensorParams(16, 32, False, 10), 1e-6, identity, rows, 2, used)
    assert found.error == error_cost(used(found.rounded.values) - weights, identity, rows)
    assert math.frexp(step_size(found.qp, 2))[0] == 0.5
    assert found.error == 0


def test_a_coded_layer_comes_near_what_it_used() -> None:
    torch.manual_seed(0)
    layer = Sixteenths(2, 4, 3, padding=1).eval()
    assert torch.equal(used_weight(layer, layer.weight) * 16, torch.round(layer.weight * 16))
    pictures = [torch.rand(1, 2, 12, 12) for _ in range(4)]
    coder = prepare_calibrated(layer, pictures)
    found = coder.compress(1e-9)
    assert found.loss_db < 1e-2  # 66 dB output SNR
