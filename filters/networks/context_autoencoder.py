"""An autoencoder for RGB pictures whose prior follows the picture, at one operating point or several.

The transforms are those of `autoencoder.py`. A gain per latent channel and operating point sets the quantiser's
steps, so that one network has several rates. `latent_context.py` has the prior.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn

from vvc_nnr.filters.networks.autoencoder import Autoencoder, analysis_transform, synthesis_transform
from vvc_nnr.filters.networks.latent_context import RADIUS, LatentContext, mixture_likelihood, rounded


class ContextAutoencoder(nn.Module):
    """Encoder, decoder and prior for RGB pictures whose sides are multiples of 4.

    Args:
        n_latents: Latent channels, on a grid of a quarter of the picture's width and height.
        n_fine: Width of the hidden layers at half size.
        n_coarse: Width of the hidden layers at quarter size.
        n_blocks: Residual blocks at each size.
        n_context: Width of the prior's hidden layers.
        n_mixtures: Logistics per latent.
        n_rates: Operating points.

    Attributes:
        distortion_weights: Of each operating point, what its encoder weighs the mean squared error (of 0 to 255) with
            against 1 bit per pixel, (n_rates,); the decoder does not look at them.
    """

    distortion_weights: Tensor

    def __init__(
        self,
        n_latents: int = 32,
        n_fine: int = 64,
        n_coarse: int = 96,
        n_blocks: int = 2,
        n_context: int = 64,
        n_mixtures: int = 2,
        n_rates: int = 1,
    ) -> None:
        super().__init__()
        self.config = {
            "n_latents": n_latents,
            "n_fine": n_fine,
            "n_coarse": n_coarse,
            "n_blocks": n_blocks,
            "n_context": n_context,
            "n_mixtures": n_mixtures,
            "n_rates": n_rates,
        }
        """The arguments that make a network of this shape."""
        self.encoder = analysis_transform(n_latents, n_fine, n_coarse, n_blocks)
        self.decoder = synthesis_transform(n_latents, n_fine, n_coarse, n_blocks)
        self.log_gain = nn.Parameter(torch.full((n_rates, n_latents), 2.0))
        self.register_buffer("distortion_weights", torch.ones(n_rates))
        self.context = LatentContext(n_latents, n_context, n_mixtures, n_rates)

    def analyse(self, pictures: Tensor, rate: Tensor) -> Tensor:
        """The real-valued latent (N, C, H/4, W/4), in quantiser steps.

        Args:
            pictures: (N, 3, H, W) in 0..1.
            rate: int64 (N,), operating points.
        """
        latent: Tensor = self.encoder(pictures - 0.5)
        return latent.float() * torch.exp(self.log_gain[rate])[:, :, None, None]

    def synthesise(self, latent: Tensor, rate: Tensor) -> Tensor:
        """Pictures (N, 3, H, W), about 0..1 and not clipped, of a latent (N, C, H/4, W/4)."""
        pictures: Tensor = self.decoder(latent * torch.exp(-self.log_gain[rate])[:, :, None, None])
        return pictures.float() + 0.5

    def forward(self, pictures: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """One training pass: noise stands in for rounding in the rate, rounding itself is used for all else.

        Returns:
            The reconstruction (N, 3, H, W) and the likelihoods of the noisy latent (N, C, H/4, W/4).
        """
        latent = self.analyse(pictures, rate)
        quantised = rounded(latent).clamp(-RADIUS, RADIUS)
        mixture = self.context(quantised, rate)
        likelihood = mixture_likelihood(latent + torch.rand_like(latent) - 0.5, mixture)
        return self.synthesise(quantised, rate), likelihood


BundledAutoencoder: TypeAlias = Autoencoder | ContextAutoencoder
"""Those whose files this package makes."""
