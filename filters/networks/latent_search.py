"""The encoder's search for latents that cost less: rate plus weighted error, by steps that the decoder need not know.

Each round moves every latent against the gradient of the error, then chooses whole numbers near it in the decoder's
order: the cheapest of the nearest three by its bits, as the prior tells them, and by the error that its channel makes
of its distance. What a latent does to the bits of later ones is not looked at, so a round may lose: the best of all
rounds and of plain rounding is kept for each picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vvc_nnr.errors import VvcNnrError
from vvc_nnr.filters.networks.context_autoencoder import ContextAutoencoder
from vvc_nnr.filters.networks.latent_context import RADIUS, even_squares, mixture_likelihood

ROUNDS = (0, 2, 6, 16)
"""Of each effort."""
_CAUTION = 1.5
"""By so much the error of a choice counts more than its bits alone would have it: errors of neighbours add up."""
_STEP = 0.5
_PROBED_PICTURES = 8


def searched_latents(network: ContextAutoencoder, pictures: Tensor, rate: Tensor, n_rounds: int) -> Tensor:
    """Latents (N, C, H/4, W/4), whole numbers in -127..127, that cost no more than rounded ones.

    Args:
        network: The trained autoencoder, in evaluation mode.
        pictures: float32 (N, 3, H, W) in 0..1, sides multiples of 4.
        rate: int64 (N,), operating points.
        n_rounds: Rounds; 0 for plain rounding.

    Raises:
        VvcNnrError: If the network gives NaN or infinity.
    """
    with torch.no_grad():
        latent = network.analyse(pictures, rate)
        if not torch.isfinite(latent).all():
            raise VvcNnrError("the network's output is not finite: its weights are damaged or overflow")
        best = torch.round(latent).clamp(-RADIUS, RADIUS)
    if not n_rounds:
        return best
    weight = network.distortion_weights[rate][:, None, None, None]
    effect = weight * _squared_error_per_step(network, best, rate)
    best_bits = _cost_bits(network, pictures, best, rate)
    for _ in range(n_rounds):
        found = _chosen(network, latent, rate, _CAUTION * effect)
        bits = _cost_bits(network, pictures, found, rate)
        is_better = bits < best_bits
        best_bits = torch.where(is_better, bits, best_bits)
        best = torch.where(is_better[:, None, None, None], found, best)
        latent = found - _STEP * weight * _error_gradient(network, pictures, found, rate) / (2 * effect)
    return best


def _cost_bits(network: ContextAutoencoder, pictures: Tensor, latent: Tensor, rate: Tensor) -> Tensor:
    """Bits of each picture plus its weighted error, (N,)."""
    with torch.no_grad():
        bits = -torch.log2(mixture_likelihood(latent, network.context(latent, rate))).sum(dim=(1, 2, 3))
        return bits + network.distortion_weights[rate] * _squared_error(network, pictures, latent, rate)


def _squared_error(network: ContextAutoencoder, pictures: Tensor, latent: Tensor, rate: Tensor) -> Tensor:
    """The squared error of 0 to 255, mean over the colours and sum over the pixels of each picture, (N,)."""
    return ((network.synthesise(latent, rate) - pictures) ** 2).mean(dim=1).sum(dim=(1, 2)) * 255**2


def _error_gradient(network: ContextAutoencoder, pictures: Tensor, latent: Tensor, rate: Tensor) -> Tensor:
    with torch.enable_grad():
        variable = latent.detach().requires_grad_()
        error = _squared_error(network, pictures, variable, rate).sum()
        (gradient,) = torch.autograd.grad(error, variable)
    return gradient


def _squared_error_per_step(network: ContextAutoencoder, latent: Tensor, rate: Tensor) -> Tensor:
    """The squared error that one quantiser step of a latent makes, measured channel by channel, (1, C, 1, 1)."""
    probed, rate = latent[:_PROBED_PICTURES], rate[:_PROBED_PICTURES]
    signs = 2.0 * even_squares(probed) - 1
    with torch.no_grad():
        before = network.synthesise(probed, rate)
        errors = []
        for channel in range(latent.shape[1]):
            changed = probed.clone()
            changed[:, channel] += signs
            errors.append(((network.synthesise(changed, rate) - before) ** 2).mean(dim=1).sum())
    found = torch.stack(errors) * 255**2 / (len(probed) * signs.numel())
    return found.clamp_min(1e-6)[None, :, None, None]


@torch.no_grad()
def _chosen(network: ContextAutoencoder, latent: Tensor, rate: Tensor, effect_bits: Tensor) -> Tensor:
    """Whole numbers near a latent by their bits and their squared distance, which costs `effect_bits` each."""
    middle = torch.round(latent).clamp(1 - RADIUS, RADIUS - 1)
    known = middle.clone()
    even = even_squares(latent)
    for group in range(len(network.context.sizes)):
        own = network.context.channels(group)
        for half in (0, 1):
            mixture = network.context.mixture(network.context.half_group(known, rate, group, half))
            candidates = torch.stack([middle[:, own] + change for change in (-1, 0, 1)])
            costs = torch.stack(
                [
                    effect_bits[:, own] * (candidate - latent[:, own]) ** 2
                    - torch.log2(mixture_likelihood(candidate, mixture))
                    for candidate in candidates
                ]
            )
            cheapest = torch.gather(candidates, 0, costs.argmin(dim=0, keepdim=True))[0]
            known[:, own] = torch.where(even == (half == 0), cheapest, known[:, own])
    return known
