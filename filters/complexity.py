"""What a filter costs, counted on the module that runs: nothing here is taken from a name or a card."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.packing import N_LUMA_PLANES, N_PLANES
from vvc_nnr.filters.zoo import n_parameters

HALF_SIDE = 64
"""Half-size samples per row and column of the picture that is counted."""


@dataclass(frozen=True, slots=True)
class Complexity:
    """The cost of a filter.

    Attributes:
        kmac_per_luma_sample: Thousand multiplications with addition per luma sample of a 4:2:0 picture, chroma's
            included: those of convolutions and matrix products. Biases, activations and sums are not counted.
        n_parameters: Weights and biases.
    """

    kmac_per_luma_sample: float
    n_parameters: int


def complexity(network: InLoopNetwork) -> Complexity:
    """The cost of a filter, from a forward pass over shapes alone: no sample is computed.

    Every convolution and matrix product that runs is counted, whichever layer or function asks for it.
    """
    shapes = copy.deepcopy(network).to("meta")
    planes = torch.empty((1, N_PLANES, HALF_SIDE, HALF_SIDE), device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shapes(planes, torch.empty(1, device="meta"))
    n_luma = N_LUMA_PLANES * HALF_SIDE**2
    n_mac = counter.get_total_flops() / 2  # it counts a multiplication and an addition as two
    return Complexity(n_mac / n_luma / 1000, n_parameters(network))
