"""What the weights of a network will take when they are coded, as a function that training can go down.

For each matrix the code length of an index is read off the indices that its weights would have now: about the entropy
that the coder's adaptive contexts reach. Between indices it is interpolated, so that a weight feels what one index less
would save.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Indices are told apart up to here.
N_SIZES = 64
# With dependent quantisation an index covers two steps; the search takes the lower index rather than the higher.
STEPS_PER_INDEX = 2.0
ROUNDING_UP = 0.35


@dataclass(frozen=True, slots=True)
class RateProxy:
    """The matrices that are coded and their steps.

    Attributes:
        steps: Quantisation step by the weight's name.
    """

    steps: Mapping[str, float]

    def bits(self, network: nn.Module) -> Tensor:
        """Code length of all matrices, a scalar with gradients for the weights."""
        parameters = dict(network.named_parameters())
        lengths = [_bits(parameters[name], step) for name, step in self.steps.items()]
        return torch.stack(lengths).sum()


def _bits(weight: Tensor, step: float) -> Tensor:
    sizes = (weight.abs() / (STEPS_PER_INDEX * step)).clamp(max=N_SIZES - 1).reshape(-1)
    table = code_lengths(sizes.detach())
    below = sizes.detach().long()
    share = sizes - below
    return (table[below] * (1 - share) + table[below + 1] * share).sum()


def code_lengths(sizes: Tensor) -> Tensor:
    """Bits of each absolute index with its sign, never falling, (N_SIZES + 1,), by the sizes in indices."""
    indices = (sizes + ROUNDING_UP).long().clamp(max=N_SIZES)
    counts = torch.bincount(indices, minlength=N_SIZES + 1).double()
    tail = torch.exp(-torch.arange(N_SIZES + 1) / sizes.mean().double().clamp_min(0.3))
    counts += 0.5 * tail + 1e-3
    lengths = -torch.log2(counts / counts.sum())
    lengths[1:] += 1
    return torch.cummax(lengths, 0).values.float()
