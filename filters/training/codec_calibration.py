"""Pictures by which autoencoders are calibrated: what errors of weights do to rate and distortion together.

The pass over pictures returns decoded pictures and the information content of each latent, scaled so that the mean
squared change of all of it is what rate plus weighted squared error rise by. For pictures that is the squared error
itself; for latents half of the squared change in nats, which on average is the divergence of two priors (the Fisher
information). The latents are those of the original network in every pass, so that a decoder and a prior learn from
what they are for; how an encoder's errors change them is in the gradients.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.calibrate.samples import Calibration, OperatingPoint, Sample
from vvc_nnr.errors import VvcNnrError
from vvc_nnr.filters.networks import autoencoder, context_coding
from vvc_nnr.filters.networks.context_autoencoder import BundledAutoencoder, ContextAutoencoder
from vvc_nnr.filters.networks.latent_context import RADIUS, mixture_likelihood
from vvc_nnr.filters.picture_codecs import OwnCodec, PictureCodec, padded, with_network
from vvc_nnr.filters.training.autoencoder import distortion_weight

PATCH_BATCH = 64
MIN_MSE = 1e-4
"""Of a picture that comes back as it was."""
_N_PROBED = 500
Pictures: TypeAlias = NDArray[np.uint8]
_log = logging.getLogger(__name__)


def autoencoder_calibration(
    network: BundledAutoencoder, pictures: Pictures, held_out: Pictures, batch_size: int = PATCH_BATCH
) -> Calibration:
    """Pictures for an autoencoder of this package, which is to return them in few bits.

    Args:
        network: The autoencoder before compression; it is not changed.
        pictures: uint8 (N, H, W, 3), sides multiples of 4; batch by batch at each operating point in turn.
        held_out: Others of that kind; they are coded at every operating point.
        batch_size: Pictures that go through at a time.

    Raises:
        VvcNnrError: If it gives NaN or infinity.
    """
    weights = distortion_weights(network, pictures)

    def sample(place: int, batch: Tensor) -> Sample:
        rate = torch.full((len(batch),), place % len(weights))
        with torch.no_grad():
            latent = torch.round(_analysed(network, batch, rate)).clamp(-RADIUS, RADIUS)
        return Sample((batch, rate, latent))

    fitted, judged = (torch.split(_planes(part), batch_size) for part in (pictures, held_out))
    return Calibration(
        [sample(place, batch) for place, batch in enumerate(fitted)],
        [sample(place, batch) for place, batch in enumerate(judged)],
        run=rate_and_distortion(weights),
        accepts_small=True,
        measure=lambda changed: operating_points(changed, held_out, weights),
    )


def distortion_weights(network: BundledAutoencoder, pictures: Pictures) -> list[float]:
    """Of each operating point, what a squared error of 1 (of 0 to 255) weighs against 1 bit per pixel."""
    if isinstance(network, ContextAutoencoder):
        found: list[float] = network.distortion_weights.tolist()
        return found
    try:
        return [distortion_weight(network, pictures[:_N_PROBED])]
    except VvcNnrError as error:
        (point,) = operating_points(network, pictures[:_N_PROBED], [1.0])
        _log.warning("%s; a bit per pixel counts as much as an e-th part of its errors", error)
        return [1 / point.mse]


def rate_and_distortion(weights: Sequence[float]) -> Callable[..., Tensor]:
    """A pass whose output is as in the first lines of this file.

    Args:
        weights: As of `distortion_weights`.
    """
    by_point = torch.tensor(weights)
    middle = torch.exp(torch.log(by_point).mean())

    def run(network: nn.Module, pictures: Tensor, rate: Tensor, latent: Tensor) -> Tensor:
        assert isinstance(network, BundledAutoencoder)
        analysed = _analysed(network, pictures, rate)
        quantised = latent + (analysed - analysed.detach())
        decoded, likelihood = _decoded(network, quantised, rate)
        n_pixels = pictures[:, 0].numel()
        n_values = decoded.numel() + likelihood.numel()
        point = by_point[rate][:, None, None, None]
        scale = (middle / point).sqrt() * n_values / n_pixels
        errors = 255 * (scale * point / 3).sqrt() * decoded
        nats = -(scale / (2 * math.log(2))).sqrt() * torch.log(likelihood)
        return torch.cat([errors.flatten(), nats.flatten()])

    return run


def operating_points(network: nn.Module, pictures: Pictures, weights: Sequence[float]) -> list[OperatingPoint]:
    """Bytes and errors of pictures (N, H, W, 3) at each operating point.

    Raises:
        VvcNnrError: If the network gives NaN or infinity.
    """
    assert isinstance(network, BundledAutoencoder)
    return [_operating_point(network, pictures, point, weight) for point, weight in enumerate(weights)]


def own_codec_calibration(codec: OwnCodec, crops: Sequence[Pictures], held_out: Sequence[Pictures]) -> Calibration:
    """Pictures for an autoencoder of a user's own: its errors, and its bits if its forward pass tells likelihoods.

    What errors weigh against bits is not known of it: a bit per pixel counts as much as an e-th part of them (4.3 dB).

    Args:
        codec: The autoencoder before compression.
        crops: uint8 (H, W, 3), to follow.
        held_out: Others.

    Raises:
        InputError: If the network fails.
        VvcNnrError: If it gives NaN or infinity.
    """

    def point(one: PictureCodec, weight: float | None) -> OperatingPoint:
        coded = [each for crop in held_out for each in one.code(crop[None])]
        errors = [_squared_error(each.picture, crop) for each, crop in zip(coded, held_out, strict=True)]
        n_pixels = sum(crop.shape[0] * crop.shape[1] for crop in held_out)
        mse = max(float(np.mean(errors)), MIN_MSE)
        bpp = 8 * sum(each.n_bytes for each in coded) / n_pixels
        return OperatingPoint(bpp, _mean_psnr_db(np.array(errors)), mse, 1 / mse if weight is None else weight)

    weight = point(codec, None).distortion_weight

    def run(network: nn.Module, picture: Tensor) -> Tensor:
        decoded, likelihoods = codec.reconstruct(network, picture)
        n_pixels = picture[:, 0].numel()
        n_values = decoded.numel() + sum(each.numel() for each in likelihoods)
        errors = 255 * math.sqrt(weight / 3 * n_values / n_pixels) * decoded
        scale = math.sqrt(n_values / n_pixels / (2 * math.log(2)))
        return torch.cat([errors.flatten(), *(-scale * torch.log(each).flatten() for each in likelihoods)])

    return Calibration(
        [Sample(padded(_planes(crop[None]), codec.stride)) for crop in crops],
        [Sample(padded(_planes(crop[None]), codec.stride)) for crop in held_out],
        run=run,
        accepts_small=True,
        measure=lambda changed: [point(with_network(codec, changed), weight)],
    )


def _operating_point(network: BundledAutoencoder, pictures: Pictures, point: int, weight: float) -> OperatingPoint:
    if isinstance(network, ContextAutoencoder):
        runs = context_coding.encode_pictures(network, pictures, point)
        latents = context_coding.latents_of(network, pictures, point)
        decoded = context_coding.pictures_of(network, latents, point)
    else:
        runs = autoencoder.encode_pictures(network, pictures)
        decoded = autoencoder.decode_pictures(network, runs, pictures.shape[2], pictures.shape[1])
    errors = np.array([_squared_error(one, picture) for one, picture in zip(decoded, pictures, strict=True)])
    bpp = 8 * sum(len(run.data) for run in runs) / math.prod(pictures.shape[:3])
    return OperatingPoint(bpp, _mean_psnr_db(errors), float(errors.mean()), weight)


def _squared_error(decoded: Pictures, picture: Pictures) -> float:
    return float(np.square(decoded.astype(np.float64) - picture).mean())


def _mean_psnr_db(errors: NDArray[np.float64]) -> float:
    return float((10 * np.log10(255**2 / np.maximum(errors, MIN_MSE))).mean())


def _analysed(network: BundledAutoencoder, pictures: Tensor, rate: Tensor) -> Tensor:
    return network.analyse(pictures, rate) if isinstance(network, ContextAutoencoder) else network.analyse(pictures)


def _decoded(network: BundledAutoencoder, latent: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures and likelihoods of latents."""
    if isinstance(network, ContextAutoencoder):
        return network.synthesise(latent, rate), mixture_likelihood(latent, network.context(latent, rate))
    return network.synthesise(latent), network.prior(latent)


def _planes(pictures: Pictures) -> Tensor:
    planes = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32) / 255)
    return planes.contiguous(memory_format=torch.channels_last)
