"""The CNN autoencoder: a convolutional encoder and decoder for small RGB pictures, with its entropy model.

```
 encoder  RGB ─ unshuffle 2 ─ conv ─ residuals ─ unshuffle 2 ─ 1x1 ─ residuals ─ conv ─ x gain ─ round ─ latent
 decoder  latent ─ / gain ─ conv ─ residuals ─ 1x1 ─ shuffle 2 ─ residuals ─ conv ─ shuffle 2 ─ RGB
```
Each latent channel has its own distribution, a mixture of logistics that is learned with the network (a
factorised prior). What codes the bytes are not those floats but integer tables made from them once, after
training, and stored with the network: see latent_coding.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

N_MIXTURES = 3
MIN_LIKELIHOOD = 1e-9
TABLE_RADIUS = 127
"""Latents are clipped to -127..127 around zero, so that a table holds 255 symbols."""


class _ResidualBlock(nn.Module):
    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(n_channels, n_channels, 3, padding=1)
        self.conv1 = nn.Conv2d(n_channels, n_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1(functional.leaky_relu(self.conv0(x), 0.1))
        return x + y


def _blocks(n_blocks: int, n_channels: int) -> list[nn.Module]:
    return [_ResidualBlock(n_channels) for _ in range(n_blocks)]


class FactorisedPrior(nn.Module):
    """One mixture of logistics per latent channel.

    Args:
        n_latents: Channels of the latent.
    """

    def __init__(self, n_latents: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_latents, N_MIXTURES))
        self.means = nn.Parameter(torch.zeros(n_latents, N_MIXTURES))
        self.log_scales = nn.Parameter(torch.tensor([-0.5, 0.5, 1.5]).repeat(n_latents, 1))

    def forward(self, latent: Tensor) -> Tensor:
        """Probability of each value's unit-wide bin.

        Args:
            latent: (N, C, H, W).

        Returns:
            The same shape, at least 1e-9.
        """
        value = latent.permute(0, 2, 3, 1).unsqueeze(-1).float()
        inverse_scale = torch.exp(-self.log_scales)
        upper = (value + 0.5 - self.means) * inverse_scale
        lower = (value - 0.5 - self.means) * inverse_scale
        # The difference of two sigmoids loses all its bits in the upper tail: mirror it to the lower one.
        sign = torch.where(upper + lower > 0, -1.0, 1.0)
        mass = torch.abs(torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower))
        likelihood = (mass * torch.softmax(self.logits, -1)).sum(-1)
        return likelihood.clamp_min(MIN_LIKELIHOOD).permute(0, 3, 1, 2)


class Autoencoder(nn.Module):
    """Encoder, decoder and prior for RGB pictures whose sides are multiples of 4.

    Args:
        n_latents: Latent channels, on a grid of a quarter of the picture's width and height.
        n_fine: Width of the hidden layers at half size.
        n_coarse: Width of the hidden layers at quarter size.
        n_blocks: Residual blocks at each size.
    """

    frequencies: Tensor

    def __init__(self, n_latents: int = 64, n_fine: int = 64, n_coarse: int = 96, n_blocks: int = 2) -> None:
        super().__init__()
        self.n_latents = n_latents
        self.n_fine = n_fine
        self.n_coarse = n_coarse
        self.n_blocks = n_blocks
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, n_fine, 3, padding=1),
            *_blocks(n_blocks, n_fine),
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * n_fine, n_coarse, 1),
            *_blocks(n_blocks, n_coarse),
            nn.Conv2d(n_coarse, n_latents, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(n_latents, n_coarse, 3, padding=1),
            *_blocks(n_blocks, n_coarse),
            nn.Conv2d(n_coarse, 4 * n_fine, 1),
            nn.PixelShuffle(2),
            *_blocks(n_blocks, n_fine),
            nn.Conv2d(n_fine, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.log_gain = nn.Parameter(torch.full((n_latents, 1, 1), 2.0))
        self.prior = FactorisedPrior(n_latents)
        self.register_buffer("frequencies", torch.zeros(n_latents, 2 * TABLE_RADIUS + 1, dtype=torch.uint16))

    @property
    def config(self) -> dict[str, int]:
        """The arguments that make a network of this shape."""
        return {
            "n_latents": self.n_latents,
            "n_fine": self.n_fine,
            "n_coarse": self.n_coarse,
            "n_blocks": self.n_blocks,
        }

    def analyse(self, pictures: Tensor) -> Tensor:
        """The real-valued latent (N, C, H/4, W/4), in quantiser steps, of pictures (N, 3, H, W) in 0..1."""
        latent: Tensor = self.encoder(pictures - 0.5)
        return latent.float() * torch.exp(self.log_gain)

    def synthesise(self, latent: Tensor) -> Tensor:
        """Pictures (N, 3, H, W), about 0..1 and not clipped, of a latent (N, C, H/4, W/4)."""
        pictures: Tensor = self.decoder(latent * torch.exp(-self.log_gain))
        return pictures.float() + 0.5

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """One training pass: noise stands in for rounding in the rate, rounding itself is used for the picture.

        Returns:
            The reconstruction (N, 3, H, W) and the likelihoods of the noisy latent (N, C, H/4, W/4).
        """
        latent = self.analyse(pictures)
        likelihood = self.prior(latent + torch.rand_like(latent) - 0.5)
        rounded = latent + (torch.round(latent) - latent).detach()
        return self.synthesise(rounded), likelihood
