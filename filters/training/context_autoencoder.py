"""How an autoencoder with a context prior learns: from one with a factorised prior, the prior first, then all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.errors import InputError
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.networks.context_autoencoder import ContextAutoencoder
from vvc_nnr.filters.networks.latent_context import (
    LATENT_UNIT,
    MIDDLE_SCALE,
    RADIUS,
    SCALE_STEPS,
    mixture_likelihood,
    rounded,
)
from vvc_nnr.filters.training.autoencoder import PatchSource, bits_per_pixel, random_patches

Picture: TypeAlias = NDArray[np.uint8]
_SPREAD = 0.5
"""How far from the mean of a channel its components start, in its standard deviation."""


class ContextAutoencoderTask:
    """Trains for `weight * MSE + bpp`, MSE on the 0..255 scale, with a weight for each operating point.

    Args:
        network: What to train.
        sources: Where training patches come from.
        validation: RGB patches (N, 32, 32, 3), disjoint from the sources.
        distortion_weights: Weight of the mean squared error against bits per pixel at each operating point.
        seed: Fixes the random choices together with the step number.
        prior_only: Train the prior alone, on the latents of the encoder as it is.
    """

    def __init__(
        self,
        network: ContextAutoencoder,
        sources: Sequence[PatchSource],
        validation: Picture,
        distortion_weights: Sequence[float],
        seed: int,
        *,
        prior_only: bool = False,
    ) -> None:
        if len(distortion_weights) != network.config["n_rates"]:
            n_rates = network.config["n_rates"]
            raise InputError(f"distortion weights: {len(distortion_weights)} for a network of {n_rates} rates")
        self.network: ContextAutoencoder = network
        self._sources = sources
        self._validation = validation
        self._weights = torch.tensor(distortion_weights)
        network.distortion_weights.copy_(self._weights)
        self._seed = seed
        self._prior_only = prior_only

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """Rate-distortion loss of one batch; each picture's operating point is drawn at random."""
        torch.manual_seed(hash((self._seed, step)) & 0x7FFFFFFF)
        pictures = _tensor(random_patches(self._sources, np.random.default_rng([self._seed, step]), batch_size), device)
        rate = torch.randint(len(self._weights), (batch_size,), device=device)
        if self._prior_only:
            with torch.no_grad():
                latent = rounded(self.network.analyse(pictures, rate)).clamp(-RADIUS, RADIUS)
            return bits_per_pixel(mixture_likelihood(latent, self.network.context(latent, rate)), pictures)
        output, likelihood = self.network(pictures, rate)
        errors = ((output - pictures) ** 2).mean(dim=(1, 2, 3)) * 255**2
        # a step at a high rate must not drown one at a low rate: all weigh the same near their optimum
        weights = self._weights.to(device)
        mean_weight = torch.exp(torch.log(weights).mean())
        scale = (mean_weight / weights[rate]) ** 0.5
        bits = -torch.log2(likelihood).sum(dim=(1, 2, 3)) / (pictures.shape[2] * pictures.shape[3])
        return (scale * (weights[rate] * errors + bits)).mean()

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """PSNR and estimated bits per pixel on the validation patches, at each operating point."""
        figures = {}
        for point in range(len(self._weights)):
            name = "" if len(self._weights) == 1 else f"{point}_"
            psnr_db, bpp = rate_and_psnr(self.network, self._validation, point, device)
            figures |= {f"{name}psnr_db": psnr_db, f"{name}estimated_bpp": bpp}
        return figures


def rate_and_psnr(
    network: ContextAutoencoder, pictures: Picture, point: int, device: torch.device | str = "cpu"
) -> tuple[float, float]:
    """Mean PSNR in dB and estimated bits per pixel of pictures (N, H, W, 3) at one operating point."""
    psnr_db: list[Tensor] = []
    bits = 0.0
    for begin in range(0, len(pictures), 100):
        batch = _tensor(pictures[begin : begin + 100], torch.device(device))
        rate = torch.full((len(batch),), point, device=device)
        with torch.no_grad():
            latent = torch.round(network.analyse(batch, rate)).clamp(-RADIUS, RADIUS)
            output = torch.round(network.synthesise(latent, rate).clamp(0, 1) * 255) / 255
            bits -= float(torch.log2(mixture_likelihood(latent, network.context(latent, rate))).double().sum())
        psnr_db.append(-10 * torch.log10(torch.mean((output - batch) ** 2, dim=(1, 2, 3)).clamp_min(1e-9)))
    return float(torch.cat(psnr_db).mean()), bits / math.prod(pictures.shape[:3])


def from_factorised(network: Autoencoder, pictures: Picture, n_latents: int = 32) -> ContextAutoencoder:
    """The transforms of an autoencoder with a factorised prior, and a prior that knows each channel's mean and spread.

    Args:
        network: A trained autoencoder.
        pictures: RGB patches (N, 32, 32, 3) that tell which channels carry bits.
        n_latents: How many channels are kept; those that carry most bits come first.

    Raises:
        InputError: If it has fewer latent channels.
    """
    if network.n_latents < n_latents:
        raise InputError(f"n_latents {n_latents}: the network has {network.n_latents}")
    with torch.no_grad():
        latent = torch.round(network.analyse(_tensor(pictures, network.log_gain.device)))
        bits = -torch.log2(network.prior(latent)).sum(dim=(0, 2, 3))
    kept = torch.argsort(bits, descending=True)[:n_latents]
    made = ContextAutoencoder(n_latents, network.n_fine, network.n_coarse, network.n_blocks)
    state = network.state_dict()
    last = f"encoder.{len(network.encoder) - 1}"
    for name in (f"{last}.weight", f"{last}.bias"):
        state[name] = state[name][kept]
    state["decoder.0.weight"] = state["decoder.0.weight"][:, kept]
    own = made.state_dict()
    made.load_state_dict(own | {name: state[name] for name in own if name.startswith(("encoder.", "decoder."))})
    with torch.no_grad():
        made.log_gain.copy_(network.log_gain.flatten()[kept])
        _start_from_statistics(made, latent[:, kept])
    return made


def _start_from_statistics(network: ContextAutoencoder, latent: Tensor) -> None:
    """Sets the last biases of the prior to the mean and the spread of each channel."""
    n_mixtures = network.config["n_mixtures"]
    for group, net in enumerate(network.context.groups):
        own = latent[:, network.context.channels(group)].transpose(0, 1).flatten(1).float()
        mean, deviation = own.mean(dim=1), own.std(dim=1).clamp_min(0.05)
        places = torch.linspace(-1, 1, n_mixtures) if n_mixtures > 1 else torch.zeros(1)
        means = (mean + _SPREAD * places[:, None] * deviation) / LATENT_UNIT
        # a logistic's standard deviation is pi / sqrt(3) times its scale
        octaves = torch.log2(deviation * math.sqrt(3) / math.pi) + 4 - MIDDLE_SCALE / SCALE_STEPS
        scales = octaves + places[:, None] * 0.5
        bias = torch.cat([means.flatten(), scales.flatten(), torch.zeros(n_mixtures * len(mean))])
        conv2 = net.conv2
        assert isinstance(conv2, nn.Module)
        conv2.bias.copy_(bias.expand_as(conv2.bias))  # type: ignore[operator, arg-type]


def _tensor(patches: Picture, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(patches)).to(device)
    return (tensor.permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=torch.channels_last)


def with_operating_points(network: ContextAutoencoder, gains: Sequence[float]) -> ContextAutoencoder:
    """The same network with several operating points, each with quantiser steps made finer by a factor.

    Args:
        network: One of a single operating point.
        gains: Factor of the latents at each new one; 1 is as before.

    Raises:
        InputError: If the network has several already.
    """
    if network.config["n_rates"] != 1:
        raise InputError(f"with_operating_points: the network has {network.config['n_rates']} already, must have 1")
    made = ContextAutoencoder(**{**network.config, "n_rates": len(gains)})
    state, own = network.state_dict(), made.state_dict()
    for name, value in state.items():
        copies = (len(gains), *[1] * (value.ndim - 1))
        own[name] = value.repeat(copies) if own[name].shape != value.shape else value
    logarithms = torch.log(torch.tensor(gains))
    own["log_gain"] = own["log_gain"] + logarithms[:, None]
    made.load_state_dict(own)
    with torch.no_grad():
        for net in made.context.groups:
            means, scales, _ = net.conv2.bias.chunk(3, dim=1)  # type: ignore[union-attr, operator]
            means *= torch.exp(logarithms).repeat_interleave(2)[:, None]
            scales += (logarithms / math.log(2)).repeat_interleave(2)[:, None]
    return made
