"""How the autoencoder learns: patches, rate-distortion loss, the integer tables at the end; and its runs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.errors import InputError, VvcNnrError
from vvc_nnr.files import remove_leftovers
from vvc_nnr.filters.networks.autoencoder import TABLE_RADIUS, Autoencoder, integer_tables
from vvc_nnr.filters.training.loop import Identity, TrainOptions, check_checkpoint, train
from vvc_nnr.filters.training.run import (
    CHECKPOINT,
    HISTORY,
    QUANTISED_CHECKPOINT,
    RunOptions,
    Trained,
    files_sha256,
    finish_run,
    pictures_sha256,
)
from vvc_nnr.filters.training.scenes import PATCH, reduced_pictures
from vvc_nnr.filters.zoo import load_autoencoder, network_metadata
from vvc_nnr.folder_lock import locked_folder
from vvc_nnr.sequences.cifar import load_cifar10
from vvc_nnr.sequences.images import image_files
from vvc_nnr.sequences.listing import distinct_files

Picture = NDArray[np.uint8]
VALIDATION_PATCHES = 500
VALIDATION_EVERY = 30
QUANTISED_RATE_SHARE = 0.3
CIFAR_SHARE, N_LATENTS = 0.45, 64
MIN_RANGE = 1e-6
# How much finer and coarser than they are quantiser steps are made to see what they do.
GAIN_RATIO = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderRun(RunOptions):
    """How an autoencoder is trained.

    Attributes:
        cifar: CIFAR-10 training images in any of their forms, mixed in.
        cifar_share: Share of the patches that comes from them.
        distortion_weight: Weight of the mean squared error (of 0 to 255) against 1 bit per pixel.
        n_latents: Latent channels.
        quantised_steps: Further steps with 8-bit weights, so that the network bears them.
    """

    n_steps: int = 22000
    batch_size: int = 32
    learning_rate: float = 1e-3
    cifar: Path | None = None
    cifar_share: float = CIFAR_SHARE
    distortion_weight: float = 0.029
    n_latents: int = N_LATENTS
    quantised_steps: int = 2500

    def check(self) -> None:
        """Raises InputError if pictures are not there, their share is none, or an option has no effect."""
        RunOptions.check(self)
        if self.cifar is not None and not os.path.lexists(self.cifar):
            raise InputError(f"cifar {self.cifar}: no such file or folder; must be CIFAR-10 in any of its forms")
        if not 0 < self.cifar_share < 1:
            raise InputError(f"cifar_share {self.cifar_share}: must be between 0 and 1")
        if self.cifar is None and self.cifar_share != CIFAR_SHARE:
            raise InputError(f"cifar_share {self.cifar_share}: has no effect without cifar, the images that it is of")
        if self.init and self.n_latents != N_LATENTS:
            raise InputError(f"n_latents {self.n_latents}, init: both set the shape of the network; give one of them")

    def quantised_training(self) -> TrainOptions | None:
        """The last steps: at a lower rate, with weights as the 8-bit quantiser leaves them; None for no such steps."""
        if not self.quantised_steps:
            return None
        return replace(
            self.training(),
            n_steps=self.quantised_steps,
            learning_rate=QUANTISED_RATE_SHARE * self.learning_rate,
            quantised_share=1.0,
        )


def train_autoencoder(options: AutoencoderRun, provenance: Mapping[str, str]) -> Trained:
    """Trains an autoencoder on patches of reduced photographs; goes on where a run in the folder was cut off.

    Args:
        options: How, the folder of photographs, and that of the run.
        provenance: Where the run comes from, for the card.

    Raises:
        InputError: If an option is out of range or not that of the run in the folder, or pictures cannot be used.
        BitstreamError: If a picture or the network to start from is damaged.
        VvcNnrError: If the loss becomes NaN.
    """
    options.check()
    with locked_folder(options.out):
        return _train_alone(options, provenance)


def _train_alone(options: AutoencoderRun, provenance: Mapping[str, str]) -> Trained:
    folder = options.out
    patches = training_patches(options.data, options.cifar, options.cifar_share, options.seed)
    torch.manual_seed(options.seed)
    network = load_autoencoder(options.init) if options.init else Autoencoder(options.n_latents)
    training, quantised = options.training(), options.quantised_training()
    identity: Identity = {
        "network": "autoencoder",
        **network_metadata(network),
        "initial_weights": options.initial_weights(network),
        **patches.identity,
        "distortion_weight": options.distortion_weight,
        "quantised_steps": options.quantised_steps,
    }
    check_checkpoint(folder / CHECKPOINT, identity, training)
    if quantised is not None:
        check_checkpoint(folder / QUANTISED_CHECKPOINT, identity, quantised)
    remove_leftovers(folder)
    task = AutoencoderTask(network, patches.sources, patches.validation, options.distortion_weight, options.seed)
    figures = train(task, training, folder / CHECKPOINT, identity=identity, history=folder / HISTORY)
    equalise_latents(network)
    if quantised is not None:
        figures = train(task, quantised, folder / QUANTISED_CHECKPOINT, identity=identity)
    task.fit_tables()
    return finish_run(
        folder, network, figures, training, identity, patches.names, network_metadata(network), provenance
    )


@dataclass(frozen=True, slots=True)
class PatchSource:
    """Where patches are cut from.

    Attributes:
        pictures: RGB pictures (H, W, 3), at least 32x32.
        share: Share of all patches that comes from this source.
    """

    pictures: Sequence[Picture]
    share: float

    def __post_init__(self) -> None:
        if not self.pictures or any(min(p.shape[:2]) < PATCH for p in self.pictures):
            raise InputError(f"autoencoder training needs pictures of at least {PATCH}x{PATCH}")


def random_patches(sources: Sequence[PatchSource], rng: np.random.Generator, n: int) -> Picture:
    """Patches (n, 32, 32, 3) from anywhere in the sources' pictures, mirrored at random."""
    shares = np.array([s.share for s in sources])
    out = np.empty((n, PATCH, PATCH, 3), np.uint8)
    for i, which in enumerate(rng.choice(len(sources), size=n, p=shares / shares.sum())):
        pictures = sources[which].pictures
        picture = pictures[int(rng.integers(len(pictures)))]
        top = int(rng.integers(picture.shape[0] - PATCH + 1))
        left = int(rng.integers(picture.shape[1] - PATCH + 1))
        patch = picture[top : top + PATCH, left : left + PATCH]
        out[i] = patch[:, ::-1] if rng.integers(2) else patch
    return out


@dataclass(frozen=True, slots=True)
class TrainingPatches:
    """What autoencoders are trained on, and what is kept to measure them.

    Attributes:
        sources: Where training patches come from.
        validation: RGB patches (N, 32, 32, 3) of other photographs.
        names: Names of the photographs of training and of validation.
        identity: What tells these pictures from others.
    """

    sources: Sequence[PatchSource]
    validation: Picture
    names: tuple[Sequence[str], Sequence[str]]
    identity: Identity


def training_patches(data: Path, cifar: Path | None, cifar_share: float, seed: int) -> TrainingPatches:
    """Patches of reduced photographs, of which every 30th is kept for validation, and perhaps of CIFAR-10.

    Args:
        data: Folder of photographs.
        cifar: CIFAR-10 training images in any of their forms.
        cifar_share: Share of the patches that comes from them.
        seed: Of the validation patches.

    Raises:
        InputError: If pictures cannot be used.
        BitstreamError: If one is damaged.
    """
    paths = distinct_files(image_files(data))
    kept = paths[VALIDATION_EVERY - 1 :: VALIDATION_EVERY] or paths[-1:]
    held_out = reduced_pictures(kept)
    trained_on = [path for path in paths if path not in kept]
    pictures = reduced_pictures(trained_on)
    validation = random_patches([PatchSource(held_out, 1.0)], np.random.default_rng(seed), VALIDATION_PATCHES)
    images = None if cifar is None else load_cifar10(cifar).images
    share = 0.0 if images is None else cifar_share
    sources = [PatchSource(pictures, 1 - share)]
    sources += [] if images is None else [PatchSource(list(images), share)]
    identity = {
        "pictures": files_sha256(paths),
        "cifar": "" if images is None else pictures_sha256([images]),
        "cifar_share": share,
    }
    return TrainingPatches(sources, validation, ([p.name for p in trained_on], [p.name for p in kept]), identity)


class AutoencoderTask:
    """Trains for `weight * MSE + bpp`, MSE on the 0..255 scale.

    Args:
        network: What to train.
        sources: Where training patches come from.
        validation: RGB patches (N, 32, 32, 3), disjoint from the sources.
        distortion_weight: Weight of the mean squared error against bits per pixel.
        seed: Fixes the random choices together with the step number.
    """

    def __init__(
        self,
        network: Autoencoder,
        sources: Sequence[PatchSource],
        validation: Picture,
        distortion_weight: float,
        seed: int,
    ) -> None:
        self.network: Autoencoder = network
        self._sources = sources
        self._validation = validation
        self._weight = distortion_weight
        self._seed = seed

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """Rate-distortion loss of one batch."""
        torch.manual_seed(hash((self._seed, step)) & 0x7FFFFFFF)
        patches = self.patches(np.random.default_rng([self._seed, step]), batch_size)
        pictures = _tensor(patches, device)
        output, likelihood = self.network(pictures)
        mse = torch.mean((output - pictures) ** 2) * 255**2
        return self._weight * mse + bits_per_pixel(likelihood, pictures)

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """Mean PSNR and the prior's estimate of bits per pixel on the validation patches."""
        psnr_db: list[Tensor] = []
        bpp: list[float] = []
        for begin in range(0, len(self._validation), 100):
            pictures = _tensor(self._validation[begin : begin + 100], device)
            latent = torch.round(self.network.analyse(pictures))
            output = torch.round(self.network.synthesise(latent).clamp(0, 1) * 255) / 255
            psnr_db.append(-10 * torch.log10(torch.mean((output - pictures) ** 2, dim=(1, 2, 3)).clamp_min(1e-9)))
            bpp.append(float(bits_per_pixel(self.network.prior(latent), pictures)))
        return {"psnr_db": float(torch.cat(psnr_db).mean()), "estimated_bpp": float(np.mean(bpp))}

    def patches(self, rng: np.random.Generator, n: int) -> Picture:
        """Random training patches (n, 32, 32, 3), mirrored at random."""
        return random_patches(self._sources, rng, n)

    def fit_tables(self, n_patches: int = 20000) -> None:
        """Counts the latents of training patches and stores the integer tables in the network.

        Raises:
            VvcNnrError: If the network gives NaN.
        """
        counts = np.zeros((self.network.n_latents, 2 * TABLE_RADIUS + 1))
        device = next(self.network.parameters()).device
        for begin in range(0, n_patches, 200):
            patches = self.patches(np.random.default_rng([self._seed, 1 << 40, begin]), 200)
            with torch.no_grad():
                latent = torch.round(self.network.analyse(_tensor(patches, device))).clamp(-TABLE_RADIUS, TABLE_RADIUS)
            if torch.isnan(latent).any():
                raise VvcNnrError("the autoencoder's latent is not a number: its weights are damaged or overflow")
            for channel, values in enumerate(latent.transpose(0, 1).flatten(1).cpu().numpy().astype(np.int64)):
                counts[channel] += np.bincount(values + TABLE_RADIUS, minlength=2 * TABLE_RADIUS + 1)
        tables = integer_tables(counts, self._prior_table())
        self.network.frequencies.copy_(torch.from_numpy(tables))

    def _prior_table(self) -> NDArray[np.float64]:
        """The learned prior's probabilities of -127..127, (n_latents, 255)."""
        values = torch.arange(-TABLE_RADIUS, TABLE_RADIUS + 1, dtype=torch.float32)
        grid = values.view(-1, 1, 1, 1).expand(-1, self.network.n_latents, 1, 1)
        with torch.no_grad():
            table = self.network.prior(grid.to(self.network.log_gain.device)).flatten(1).T.double().cpu().numpy()
        return np.asarray(table)


def equalise_latents(network: Autoencoder) -> None:
    """Rescales the latent channels so that their weights have equal ranges; what the network computes stays the same.

    One range per tensor is all that a min/max quantiser has, so a channel with small weights would get few levels.
    A channel's scale is free: what the encoder's last layer gains, the quantiser's gain and the decoder's first
    layer lose (Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019).
    """
    last, first = network.encoder[-1], network.decoder[0]
    assert isinstance(last, nn.Conv2d)
    assert isinstance(first, nn.Conv2d)
    assert last.bias is not None
    with torch.no_grad():
        written = last.weight.abs().amax(dim=(1, 2, 3)).clamp_min(MIN_RANGE)
        read = first.weight.abs().amax(dim=(0, 2, 3)).clamp_min(MIN_RANGE)
        scale = torch.sqrt(read / read.mean() / (written / written.mean()))
        last.weight *= scale.view(-1, 1, 1, 1)
        last.bias *= scale
        first.weight /= scale.view(1, -1, 1, 1)
        network.log_gain.sub_(torch.log(scale).view(-1, 1, 1))


def distortion_weight(network: Autoencoder, pictures: Picture) -> float:
    """The weight of the MSE (0..255) against bits per pixel at which the network's quantiser steps are the best ones.

    Steps are made a little finer and coarser: what that does to rate over what it does to distortion is the slope of
    the curve where the network stands, and training with it stays there.

    Args:
        network: A trained autoencoder; it is not changed.
        pictures: RGB patches (N, 32, 32, 3).

    Raises:
        VvcNnrError: If finer steps do not both cost bits and save error: the network is not trained.
    """
    tensor = _tensor(pictures, next(network.parameters()).device)
    coarse, fine = (_operating_point(network, tensor, gain) for gain in (1 / GAIN_RATIO, GAIN_RATIO))
    if not (fine[0] < coarse[0] and fine[1] > coarse[1]):
        raise VvcNnrError("autoencoder: finer quantiser steps do not make its pictures better: is it trained?")
    return (fine[1] - coarse[1]) / (coarse[0] - fine[0])


def keep_rate(network: Autoencoder, pictures: Picture, bpp: float) -> None:
    """Scales all quantiser gains so that the prior's estimate of the rate is as before, within 0.01 %.

    Args:
        network: The autoencoder, changed in place.
        pictures: RGB patches (N, 32, 32, 3).
        bpp: Estimated bits per pixel to aim at, see `estimated_bpp`.

    Raises:
        VvcNnrError: If no gain between a half and twice what it is gives that rate.
    """
    low, high = 0.5, 2.0
    if not estimated_bpp(network, pictures, low) < bpp < estimated_bpp(network, pictures, high):
        raise VvcNnrError(f"autoencoder: no scale of its quantiser steps gives {bpp:.4f} bits per pixel")
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if estimated_bpp(network, pictures, middle) < bpp else (low, middle)
    with torch.no_grad():
        network.log_gain.add_(math.log(low))


def estimated_bpp(network: Autoencoder, pictures: Picture, gain: float = 1.0) -> float:
    """The prior's estimate of bits per pixel, with all quantiser gains times a factor."""
    return _operating_point(network, _tensor(pictures, next(network.parameters()).device), gain)[1]


def _operating_point(network: Autoencoder, pictures: Tensor, gain: float) -> tuple[float, float]:
    """MSE (0..255) and estimated bits per pixel, with all quantiser gains times a factor."""
    with torch.no_grad():
        latent = torch.round(network.analyse(pictures) * gain)
        mse = torch.mean((network.synthesise(latent / gain) - pictures) ** 2) * 255**2
        return float(mse), float(bits_per_pixel(network.prior(latent), pictures))


def bits_per_pixel(likelihood: Tensor, pictures: Tensor) -> Tensor:
    """Information content of the latent, in bits, per pixel of the pictures (N, 3, H, W)."""
    n, _, height, width = pictures.shape
    return -torch.log(likelihood).sum() / (math.log(2) * n * height * width)


def _tensor(patches: Picture, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(patches)).to(device)
    return (tensor.permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=torch.channels_last)
