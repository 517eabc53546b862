"""The encoder's search for latents that cost less: rate plus weighted error, by steps that the decoder need not know.

Latents go down the gradient of the error and of all bits, contexts included. Each stands between two whole numbers,
and the loss sees a mixture of them with shares drawn at random, which harden while the temperature falls, until each
has chosen: stochastic Gumbel annealing (Yang, Bamler, Mandt, "Improving inference for neural image compression", 2020).
A picture that this does no good keeps its plain rounding. Sums of floats follow the shape of a batch, and a search
makes much of a last digit: batches are filled up to one size, so that what a picture becomes does not depend on others.
"""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from vvc_nnr.errors import VvcNnrError
from vvc_nnr.filters.networks.context_autoencoder import ContextAutoencoder
from vvc_nnr.filters.networks.latent_context import RADIUS, mixture_likelihood

STEPS = (0, 40, 100, 300)
"""Of each effort."""
_LEARNING_RATE = 0.1
_FIRST_TEMPERATURE, _LAST_TEMPERATURE = 0.2, 0.05
_MARGIN = 1e-4
"""So far from the ends is a share kept whose logarithm is taken."""
_BATCH, _BATCH_PIXELS = 16, 1 << 14


def searched_latents(network: ContextAutoencoder, pictures: Tensor, rate: Tensor, n_steps: int) -> Tensor:
    """Latents (N, C, H/4, W/4), whole numbers in -127..127, that cost no more than rounded ones.

    Args:
        network: The trained autoencoder, in evaluation mode.
        pictures: float32 (N, 3, H, W) in 0..1, sides multiples of 4.
        rate: int64 (N,), operating points.
        n_steps: Steps down the gradient; 0 for plain rounding.

    Raises:
        VvcNnrError: If the network gives NaN or infinity.
    """
    size = max(1, min(_BATCH, _BATCH_PIXELS // (pictures.shape[2] * pictures.shape[3])))
    parts = []
    for begin in range(0, len(pictures), size):
        part = torch.arange(begin, begin + size).clamp(max=len(pictures) - 1)
        found = _searched_batch(network, pictures[part], rate[part], n_steps)
        parts.append(found[: len(pictures) - begin])
    return torch.cat(parts)


def _searched_batch(network: ContextAutoencoder, pictures: Tensor, rate: Tensor, n_steps: int) -> Tensor:
    with torch.no_grad():
        latent = network.analyse(pictures, rate)
        if not torch.isfinite(latent).all():
            raise VvcNnrError("the network's output is not finite: its weights are damaged or overflow")
        plain = torch.round(latent).clamp(-RADIUS, RADIUS)
        if not n_steps:
            return plain
        found = _annealed(network, pictures, rate, latent, n_steps)
        is_better = _cost_bits(network, pictures, found, rate) < _cost_bits(network, pictures, plain, rate)
    return torch.where(is_better[:, None, None, None], found, plain)


@torch.enable_grad()
def _annealed(network: ContextAutoencoder, pictures: Tensor, rate: Tensor, latent: Tensor, n_steps: int) -> Tensor:
    latent = latent.clamp(-RADIUS, RADIUS).requires_grad_()
    optimiser = torch.optim.Adam([latent], lr=_LEARNING_RATE)
    noise = torch.Generator().manual_seed(0)
    for step in tqdm(range(n_steps), desc="search", unit="step", mininterval=1.0, leave=False, disable=None):
        temperature = _FIRST_TEMPERATURE * (_LAST_TEMPERATURE / _FIRST_TEMPERATURE) ** (step / n_steps)
        below = torch.floor(latent.detach())
        share = (latent - below).clamp(_MARGIN, 1 - _MARGIN)
        # the same noise for all pictures: what one becomes does not depend on those beside it
        gumbel = -torch.log(-torch.log(torch.rand(2, *latent.shape[1:], generator=noise).clamp(1e-7, 1 - 1e-7)))
        above_logit = (torch.atanh(share) - torch.atanh(1 - share)) / temperature + gumbel[0] - gumbel[1]
        mixed = (below + torch.sigmoid(above_logit)).clamp(-RADIUS, RADIUS)
        cost_bits = _cost_bits(network, pictures, mixed, rate).sum()
        (latent.grad,) = torch.autograd.grad(cost_bits, latent)
        optimiser.step()
    return torch.round(latent.detach()).clamp(-RADIUS, RADIUS)


def _cost_bits(network: ContextAutoencoder, pictures: Tensor, latent: Tensor, rate: Tensor) -> Tensor:
    """Bits of each picture plus its weighted squared error of 0 to 255, mean over the colours, (N,)."""
    bits = -torch.log2(mixture_likelihood(latent, network.context(latent, rate))).sum(dim=(1, 2, 3))
    error = ((network.synthesise(latent, rate) - pictures) ** 2).mean(dim=1).sum(dim=(1, 2)) * 255**2
    return bits + network.distortion_weights[rate] * error
