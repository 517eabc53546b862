"""A prior that follows the picture: each latent's distribution from the latents that were decoded before it.

```
 group 0, even squares ─▶ group 0, odd squares ─▶ group 1, even squares ─▶ ...      (squares of a checkerboard)
 decoded so far ─ 3x3 ─ 3x3 ─ 1x1 ─▶ mixture of logistics for each latent of the next half group
```
Encoder and decoder must compute the same probabilities on every processor. So all of it are integers in the clothes
of floats: latents are whole numbers, activations are clipped and rounded to sixteenths, weights are int8 times a power
of two per channel, and what comes out are indices of tables. In float64 such sums are exact in any order. Training
rounds in the same places, so that what is trained is what codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

RADIUS = 127
"""Latents are clipped to -127..127."""
MAX_WEIGHT = 127
ACTIVATION_STEPS = 16
MAX_ACTIVATION = 255 / ACTIVATION_STEPS
LATENT_UNIT = 8
"""The networks see latents in units of so many quantiser steps."""
MEAN_STEPS = 16
SCALE_STEPS, N_SCALES, MIDDLE_SCALE = 8, 80, 40
"""Scales are 2**(i / 8 - 4) for i in 0..79; an output of zero means 2."""
WEIGHT_STEPS, N_WEIGHT_STEPS = 8, 64
"""Components weigh 2**(-i / 8) for i in 0..64 against the heaviest."""
PROBABILITY_BITS = 24
FLOOR_BITS = 20
"""No symbol's probability is below 2**-20."""
_MIXING_BITS = 16
_FIXED_POINT_BITS = 96
Indices = NDArray[np.int32]


class _Round(torch.autograd.Function):
    """Rounds; gradients pass as if it did not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0]


def rounded(x: Tensor) -> Tensor:
    """The nearest whole numbers, with straight-through gradients."""
    result: Tensor = _Round.apply(x)  # type: ignore[no-untyped-call]
    return result


class IntegerConv(nn.Conv2d):
    """A convolution whose weights are int8 times a power of two per output channel, with a bias per condition.

    Args:
        n_in: Input channels.
        n_out: Output channels.
        size: Width and height of the kernel, odd.
        n_conditions: How many biases there are to choose from.
    """

    def __init__(self, n_in: int, n_out: int, size: int, n_conditions: int) -> None:
        super().__init__(n_in, n_out, size, padding=size // 2, bias=False)
        self.bias: nn.Parameter = nn.Parameter(torch.zeros(n_conditions, n_out))

    def reset_parameters(self) -> None:
        """Draws weights for the activations behind it."""
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def used_weight(self, weight: Tensor) -> Tensor:
        """A weight as the convolution uses it, in whole steps."""
        steps = weight_steps(weight.detach())
        return rounded(weight * steps) / steps

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:  # type: ignore[override]
        """The convolution, zeros around the picture.

        Args:
            x: (N, n_in, H, W), multiples of 2**-4.
            condition: int64 (N,), which bias.

        Returns:
            (N, n_out, H, W), multiples of 2**-4 times the weights' steps; exact in float64.
        """
        steps = weight_steps(self.weight.detach()).flatten() * ACTIVATION_STEPS
        bias = (rounded(self.bias * steps) / steps)[condition]
        out = functional.conv2d(x, self.used_weight(self.weight), padding=self.padding)
        return out + bias[:, :, None, None].to(out.dtype)


def weight_steps(weight: Tensor) -> Tensor:
    """How many steps make 1, a power of two per output channel: the most by which no weight is above 127.

    Args:
        weight: (n_out, n_in, height, width).

    Returns:
        (n_out, 1, 1, 1).
    """
    largest = weight.abs().amax(dim=(1, 2, 3), keepdim=True)
    mantissa, exponent = torch.frexp(largest)
    exponent = 7 - exponent - (mantissa * (1 << 7) > MAX_WEIGHT + 0.5).to(exponent.dtype)
    return torch.ldexp(torch.ones_like(largest), exponent.clamp(-16, 30))


class _ClippedRelu(torch.autograd.Function):
    """A ReLU clipped at 255/16 and rounded to sixteenths, in as few passes as may be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clamp(0, MAX_ACTIVATION).mul_(ACTIVATION_STEPS).round_().div_(ACTIVATION_STEPS)
        ctx.save_for_backward((y > 0) & (y < MAX_ACTIVATION))
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (is_inside,) = ctx.saved_tensors
        return gradients[0] * is_inside


def _activation(x: Tensor) -> Tensor:
    result: Tensor = _ClippedRelu.apply(x)  # type: ignore[no-untyped-call]
    return result


class _GroupContext(nn.Module):
    """The distribution of one group of latent channels from those before it and perhaps half of its own."""

    def __init__(self, n_before: int, n_own: int, width: int, n_mixtures: int, n_conditions: int) -> None:
        super().__init__()
        self.conv0 = IntegerConv(n_before + n_own, width, 3, n_conditions)
        self.conv1 = IntegerConv(width, width, 3, n_conditions)
        self.conv2 = IntegerConv(width, 3 * n_mixtures * n_own, 1, n_conditions)
        nn.init.normal_(self.conv2.weight, std=0.02)

    def forward(self, decoded: Tensor, condition: Tensor) -> Tensor:
        """(N, 3 * n_mixtures * n_own, H, W) of what is decoded, (N, n_before + n_own, H, W)."""
        x = _activation(self.conv0(decoded, condition))
        x = _activation(self.conv1(x, condition))
        # means need more digits than bfloat16 has
        with torch.autocast(x.device.type, enabled=False):
            last: Tensor = self.conv2(x.to(self.conv2.weight.dtype), condition)
        return last


def group_sizes(n_latents: int) -> list[int]:
    """Channels of each group: 2, 2, 4, then 8 at a time.

    >>> group_sizes(32)
    [2, 2, 4, 8, 8, 8]
    """
    sizes: list[int] = []
    while (left := n_latents - sum(sizes)) > 0:
        sizes.append(min(left, 8, max(2, sum(sizes))))
    return sizes


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Mixtures of logistics, one per latent; whole numbers, in floats if gradients are to pass.

    Attributes:
        means: (N, K, C, H, W), in sixteenths of a quantiser step, -2032..2032.
        scales: The same shape, 0..79: i stands for 2**(i / 8 - 4) quantiser steps.
        weights: The same shape, -64..0: i stands for 2**(i / 8) against the heaviest component, which has 0.
    """

    means: Tensor
    scales: Tensor
    weights: Tensor


class LatentContext(nn.Module):
    """Distributions of all latents, each from those that are decoded before it.

    Args:
        n_latents: Latent channels; those that tell most of others come first.
        width: Width of the hidden layers.
        n_mixtures: Logistics per latent.
        n_rates: Operating points, each with biases of its own.
    """

    def __init__(self, n_latents: int, width: int, n_mixtures: int, n_rates: int) -> None:
        super().__init__()
        self.sizes = group_sizes(n_latents)
        self.n_mixtures = n_mixtures
        before = np.concatenate([[0], np.cumsum(self.sizes)]).tolist()
        self.groups = nn.ModuleList(
            _GroupContext(n_before, size, width, n_mixtures, 2 * n_rates)
            for n_before, size in zip(before, self.sizes, strict=False)
        )
        self._begins: list[int] = before

    def channels(self, group: int) -> slice:
        """Which latent channels are in a group."""
        return slice(self._begins[group], self._begins[group + 1])

    def forward(self, latent: Tensor, rate: Tensor) -> Mixture:
        """The distributions of a whole latent, as its decoder will compute them one after another.

        Args:
            latent: (N, C, H, W), whole numbers.
            rate: int64 (N,), operating points.
        """
        even = even_squares(latent)
        conditions = torch.cat([2 * rate, 2 * rate + 1])
        parts = []
        for group in range(len(self.sizes)):
            seen = torch.cat([self._decoded(latent, group, half) for half in (0, 1)])
            first, second = self._outputs(seen, conditions, group).chunk(2)
            parts.append(torch.where(even, first, second))
        return self.mixture(torch.cat(parts, dim=2))

    def half_group(self, latent: Tensor, rate: Tensor, group: int, half: int) -> Tensor:
        """Outputs (N, 3 * K, c, H, W) for the channels of a group; only those at the half's squares are meant.

        Args:
            latent: (N, C, H, W), of which only what is decoded before this half group is looked at.
            rate: int64 (N,).
            group: Its number.
            half: 0 for the even squares, 1 for the odd ones.
        """
        return self._outputs(self._decoded(latent, group, half), 2 * rate + half, group)

    def _decoded(self, latent: Tensor, group: int, half: int) -> Tensor:
        """What is known in front of a half group, (N, channels up to the group's last, H, W)."""
        own = self.channels(group)
        seen = latent[:, own] * even_squares(latent) if half else torch.zeros_like(latent[:, own])
        return torch.cat([latent[:, : own.start], seen], dim=1) / LATENT_UNIT

    def _outputs(self, decoded: Tensor, conditions: Tensor, group: int) -> Tensor:
        out: Tensor = self.groups[group](decoded, conditions)
        return out.view(len(out), 3 * self.n_mixtures, self.sizes[group], *out.shape[2:])

    def mixture(self, outputs: Tensor) -> Mixture:
        """The indices that outputs (N, 3 * K, c, H, W) stand for."""
        means, scales, weights = outputs.chunk(3, dim=1)
        means = rounded(means * (LATENT_UNIT * MEAN_STEPS)).clamp(-RADIUS * MEAN_STEPS, RADIUS * MEAN_STEPS)
        scales = (MIDDLE_SCALE + rounded(scales * SCALE_STEPS)).clamp(0, N_SCALES - 1)
        weights = rounded(weights * WEIGHT_STEPS)
        weights = (weights - weights.amax(dim=1, keepdim=True)).clamp(min=-N_WEIGHT_STEPS)
        return Mixture(means, scales, weights)


def even_squares(latent: Tensor) -> Tensor:
    """Which squares (H, W) of a checkerboard come first."""
    rows = torch.arange(latent.shape[-2], device=latent.device)[:, None]
    return (rows + torch.arange(latent.shape[-1], device=latent.device)) % 2 == 0


def mixture_likelihood(latent: Tensor, mixture: Mixture) -> Tensor:
    """The probability of each latent, near what the integer tables give, with gradients.

    Args:
        latent: (N, C, H, W), whole numbers or noisy ones.
        mixture: Its distributions.

    Returns:
        The same shape, at least 2**-20.
    """
    value = latent.unsqueeze(1).float()
    inverse_scale = torch.exp2(4 - mixture.scales.float() / SCALE_STEPS)
    centre = (value - mixture.means.float() / MEAN_STEPS).abs()
    upper = torch.sigmoid((0.5 - centre) * inverse_scale)
    lower = torch.sigmoid((-0.5 - centre) * inverse_scale)
    weights = torch.softmax(mixture.weights.float() * (math.log(2) / WEIGHT_STEPS), dim=1)
    mass = ((upper - lower) * weights).sum(dim=1)
    floor = 2.0**-FLOOR_BITS
    return mass * (1 - (2 * RADIUS + 1) * floor) + floor


@cache
def logistic_tables() -> NDArray[np.int64]:
    """Distribution functions of all scales, (80, 8129), in units of 2**-24.

    Column i of a row is for a distance of (i - 4064) sixteenths from the mean. All is done in whole numbers, from
    one exponential per scale of 40 digits, so that every machine has the same tables.
    """
    context = Context(prec=60)
    farthest = 2 * RADIUS * MEAN_STEPS
    one = 1 << _FIXED_POINT_BITS
    out = np.empty((N_SCALES, 2 * farthest + 1), np.int64)
    for i, row in enumerate(out):
        scale = context.power(Decimal(2), context.divide(Decimal(i), Decimal(SCALE_STEPS)) - 4)
        ratio = int(context.exp(context.divide(Decimal(-1), scale * MEAN_STEPS)) * one)
        power, below = one, []
        for _ in range(farthest + 1):  # exp(-distance / scale)
            below.append(((power << PROBABILITY_BITS) + (one >> 1)) // (one + power))
            power = power * ratio >> _FIXED_POINT_BITS
        row[: farthest + 1] = below[::-1]
        row[farthest:] = (1 << PROBABILITY_BITS) - np.array(below)
    return out


@cache
def _windows() -> NDArray[np.int64]:
    """The tables' columns at a distance of one quantiser step from each other, (80, 16, 255, 254).

    The last axis runs over the upper edges of the symbols -127..126, the two before it over where the first of them
    lies: its whole steps and sixteenths above the lowest column.
    """
    tables = logistic_tables()[:, :-1].reshape(N_SCALES, -1, MEAN_STEPS).transpose(0, 2, 1).copy()
    return np.lib.stride_tricks.sliding_window_view(tables, 2 * RADIUS, axis=2)


@cache
def _component_weights() -> NDArray[np.int64]:
    """2**(-i / 8) for i in 0..64, in units of 2**-24."""
    context = Context(prec=60)
    exponents = (context.divide(Decimal(-i), Decimal(WEIGHT_STEPS)) for i in range(N_WEIGHT_STEPS + 1))
    return np.array([int(context.power(Decimal(2), e) * (1 << PROBABILITY_BITS)) for e in exponents], np.int64)


def symbol_frequencies(means: Indices, scales: Indices, weights: Indices) -> NDArray[np.int64]:
    """Probabilities of the symbols -127..127 of each latent, in units of 2**-24: at least 16, their sum is 2**24.

    Args:
        means: int (n, K), as in `Mixture`.
        scales: int (n, K).
        weights: int (n, K).

    Returns:
        (n, 255).
    """
    shares = _component_weights()[-weights]
    shares = (shares << _MIXING_BITS) // shares.sum(axis=1, keepdims=True)
    shares[:, 0] += (1 << _MIXING_BITS) - shares.sum(axis=1)
    n_symbols = 2 * RADIUS + 1
    below = np.zeros((len(means), n_symbols + 1), np.int64)
    windows = _windows()
    for mean, scale, share in zip(means.T, scales.T, shares.T, strict=True):
        first = MEAN_STEPS * RADIUS + MEAN_STEPS // 2 - mean
        own = windows[scale, first % MEAN_STEPS, first // MEAN_STEPS]
        own *= share[:, None]
        below[:, 1:-1] += own
    below >>= _MIXING_BITS
    below[:, -1] = 1 << PROBABILITY_BITS
    floor = 1 << (PROBABILITY_BITS - FLOOR_BITS)
    below *= (1 << PROBABILITY_BITS) - n_symbols * floor
    below >>= PROBABILITY_BITS
    found = below[:, 1:] - below[:, :-1]
    found += floor
    return found
