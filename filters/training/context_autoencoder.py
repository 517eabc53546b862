"""How an autoencoder with a context prior learns: from one with a factorised prior, the prior first, then all."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.files import remove_leftovers
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
from vvc_nnr.filters.training.autoencoder import (
    CIFAR_SHARE,
    PatchSource,
    bits_per_pixel,
    distortion_weight,
    random_patches,
    training_patches,
)
from vvc_nnr.filters.training.loop import Identity, TrainOptions, check_checkpoint, train
from vvc_nnr.filters.training.ms_ssim import ms_ssim
from vvc_nnr.filters.training.run import CHECKPOINT, HISTORY, RunOptions, Trained, finish_run
from vvc_nnr.filters.zoo import load_autoencoder, load_network, network_metadata
from vvc_nnr.folder_lock import locked_folder

Picture: TypeAlias = NDArray[np.uint8]
Distortion: TypeAlias = Literal["mse", "ms-ssim"]
PRIOR_CHECKPOINT = "checkpoint_prior.pt"
_PRIOR_RATE_RATIO = 3.0
_N_PROBED = 1000
_RATE_TOLERANCE, _LEAST_GAIN_RANGE = 2e-4, 1e-6
_LATENTS_PER_PIXEL = 1.5
"""So many carry bits, about: the rate rises by so much when all gains double."""
_MS_SSIM_SCALE = 1000.0
_SPREAD = 0.5
"""How far from the mean of a channel its components start, in its standard deviation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextAutoencoderRun(RunOptions):
    """How an autoencoder with a context prior is trained.

    Attributes:
        init: The network to start from: one with a factorised prior, whose transforms are taken, or one with a context
            prior, which is trained on.
        cifar: CIFAR-10 training images in any of their forms, mixed in.
        cifar_share: Share of the patches that comes from them.
        distortion_weights: Of each operating point, from the lowest rate on, the weight of the distortion against 1 bit
            per pixel.
        distortion: The mean squared error (of 0 to 255), or 1,000 times 1 - MS-SSIM, of which patches have two scales.
        n_latents: Latent channels that are kept of a network with a factorised prior: those that carry most bits.
        prior_steps: Steps for the prior alone, before all is trained; for a network with a factorised prior.
    """

    n_steps: int = 60000
    batch_size: int = 32
    learning_rate: float = 1e-3
    init: str | None = "autoencoder-4.2bpp"
    cifar: Path | None = None
    cifar_share: float = CIFAR_SHARE
    distortion_weights: tuple[float, ...] = (0.0075, 0.029, 0.115, 0.36)
    distortion: Distortion = "mse"
    n_latents: int = 32
    prior_steps: int = 3000

    def check(self) -> None:
        """Raises InputError if pictures are not there or an option is out of range."""
        RunOptions.check(self)
        if self.init is None:
            raise InputError("init: must be an autoencoder to start from, such as autoencoder-4.2bpp")
        if self.cifar is not None and not os.path.lexists(self.cifar):
            raise InputError(f"cifar {self.cifar}: no such file or folder; must be CIFAR-10 in any of its forms")
        if not 0 < self.cifar_share < 1:
            raise InputError(f"cifar_share {self.cifar_share}: must be between 0 and 1")
        if list(self.distortion_weights) != sorted(set(self.distortion_weights)) or not self.distortion_weights:
            raise InputError(f"distortion_weights {self.distortion_weights}: must rise from each to the next")

    def training(self) -> TrainOptions:
        """The part of them that the training loop has to know."""
        return replace(RunOptions.training(self), optimiser="muon")


def train_context_autoencoder(options: ContextAutoencoderRun, provenance: Mapping[str, str]) -> Trained:
    """Trains an autoencoder with a context prior; goes on where a run in the folder was cut off.

    Args:
        options: How, the folder of photographs, and that of the run.
        provenance: Where the run comes from, for the card.

    Raises:
        InputError: If an option is out of range or not that of the run in the folder, or pictures or the network to
            start from cannot be used.
        BitstreamError: If a picture or that network is damaged.
        VvcNnrError: If the loss becomes NaN.
    """
    options.check()
    with locked_folder(options.out):
        return _train_alone(options, provenance)


def _train_alone(options: ContextAutoencoderRun, provenance: Mapping[str, str]) -> Trained:
    folder, weights = options.out, options.distortion_weights
    patches = training_patches(options.data, options.cifar, options.cifar_share, options.seed)
    torch.manual_seed(options.seed)
    probed = random_patches(patches.sources, np.random.default_rng(options.seed), _N_PROBED)
    network, is_new = _initial_network(options, probed)
    training = options.training()
    identity: Identity = {
        "network": "context-autoencoder",
        **network_metadata(network),
        "initial_weights": options.initial_weights(network),
        **patches.identity,
        "distortion_weights": list(weights),
        "prior_steps": options.prior_steps,
    }
    if options.distortion != "mse":
        identity = {**identity, "distortion": options.distortion}
    prior_training = replace(
        training, n_steps=max(1, options.prior_steps), learning_rate=_PRIOR_RATE_RATIO * options.learning_rate
    )
    check_checkpoint(folder / CHECKPOINT, identity, training)
    check_checkpoint(folder / PRIOR_CHECKPOINT, identity, prior_training)
    remove_leftovers(folder)
    task = ContextAutoencoderTask(network, patches.sources, patches.validation, weights, options.seed, prior_only=True)
    if is_new and options.prior_steps and not (folder / CHECKPOINT).exists():
        train(task, prior_training, folder / PRIOR_CHECKPOINT, identity=identity)
    task = ContextAutoencoderTask(
        network, patches.sources, patches.validation, weights, options.seed, distortion=options.distortion
    )
    figures = train(task, training, folder / CHECKPOINT, identity=identity, history=folder / HISTORY)
    return finish_run(
        folder, network, figures, training, identity, patches.names, network_metadata(network), provenance
    )


def _initial_network(options: ContextAutoencoderRun, patches: Picture) -> tuple[ContextAutoencoder, bool]:
    """The network to start from, and whether its prior is new."""
    assert options.init is not None
    network, weights = load_network(options.init).network, options.distortion_weights
    if isinstance(network, ContextAutoencoder):
        if network.config["n_rates"] != len(weights):
            n_rates = network.config["n_rates"]
            raise InputError(f"distortion_weights: {len(weights)}, init {options.init} has {n_rates} operating points")
        return network, False
    factorised = load_autoencoder(options.init)
    # errors fall with the square of the gain, and the weight at which a gain is best with their inverse
    before = distortion_weight(factorised, patches)
    gains = [math.sqrt(weight / before) for weight in weights]
    return with_operating_points(from_factorised(factorised, patches, options.n_latents), gains), True


class ContextAutoencoderTask:
    """Trains for `weight * distortion + bpp` with a weight for each operating point.

    Args:
        network: What to train.
        sources: Where training patches come from.
        validation: RGB patches (N, 32, 32, 3), disjoint from the sources.
        distortion_weights: Weight of the distortion against bits per pixel at each operating point.
        seed: Fixes the random choices together with the step number.
        prior_only: Train the prior alone, on the latents of the encoder as it is.
        distortion: As `ContextAutoencoderRun.distortion`.
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
        distortion: Distortion = "mse",
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
        self._distortion = distortion

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
        errors = self._errors(pictures, output)
        # a step at a high rate must not drown one at a low rate: all weigh the same near their optimum
        weights = self._weights.to(device)
        mean_weight = torch.exp(torch.log(weights).mean())
        scale = (mean_weight / weights[rate]) ** 0.5
        bits = -torch.log2(likelihood).sum(dim=(1, 2, 3)) / (pictures.shape[2] * pictures.shape[3])
        loss: Tensor = (scale * (weights[rate] * errors + bits)).mean()
        return loss

    def _errors(self, pictures: Tensor, output: Tensor) -> Tensor:
        """The distortion of each picture."""
        if self._distortion == "ms-ssim":
            return _MS_SSIM_SCALE * (1 - ms_ssim(pictures, output))
        return ((output - pictures) ** 2).mean(dim=(1, 2, 3)) * 255**2

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """PSNR and estimated bits per pixel on the validation patches, at each operating point."""
        figures: dict[str, float] = {}
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


def keep_rates(network: ContextAutoencoder, original: ContextAutoencoder, pictures: Picture) -> None:
    """Scales the gains of each operating point so that its estimated rate is that of another network, within 0.02 %.

    Args:
        network: The autoencoder, changed in place.
        original: What tells the rates.
        pictures: RGB patches (N, 32, 32, 3).

    Raises:
        VvcNnrError: If no gain between a half and twice what it is gives a point's rate.
    """
    for point in range(network.config["n_rates"]):
        wanted = rate_and_psnr(original, pictures, point)[1]
        gain = network.log_gain[point].detach()
        own = gain.clone()
        low, high = -math.log(2), math.log(2)
        at, bpp = 0.0, rate_and_psnr(network, pictures, point)[1]
        while abs(bpp / wanted - 1) > _RATE_TOLERANCE:
            low, high = (low, at) if bpp > wanted else (at, high)
            # bits rise with the logarithm of the gain, by about as much for every pixel
            step = at - math.log(2) * (bpp - wanted) / _LATENTS_PER_PIXEL
            at = step if low < step < high else (low + high) / 2
            if high - low < _LEAST_GAIN_RANGE:
                raise VvcNnrError(f"autoencoder: no scale of its steps gives {wanted:.4f} bits per pixel at {point}")
            gain.copy_(own + at)
            bpp = rate_and_psnr(network, pictures, point)[1]


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
