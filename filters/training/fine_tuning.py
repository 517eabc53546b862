"""How each kind of network is tuned for its size: what it learns on, how fast, and what is left to do at the end.

The bits of the weights are in the loss as a function that training can go down: for each matrix the code length of an
index is read off the indices that its weights would have now, about the entropy that the coder's adaptive contexts
reach. Between indices it is interpolated, so that a weight feels what one index less would save.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vvc_nnr.calibrate.allocation import CalibratedNetwork
from vvc_nnr.codec.encoders import encoder_identity
from vvc_nnr.codec.sequence import LoopFilters
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.networks.context_autoencoder import ContextAutoencoder
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.training.autoencoder import (
    AutoencoderTask,
    PatchSource,
    distortion_weight,
    estimated_bpp,
    keep_rate,
    random_patches,
)
from vvc_nnr.filters.training.calibration_pictures import Crop, Degrade
from vvc_nnr.filters.training.context_autoencoder import ContextAutoencoderTask, keep_rates
from vvc_nnr.filters.training.in_loop import InLoopTask, RestorationTask, read_pictures
from vvc_nnr.filters.training.loop import Identity, TrainingTask, TrainOptions, train
from vvc_nnr.filters.training.pairs import PairOptions, PairSet, check_pairs, make_pairs
from vvc_nnr.filters.training.run import files_sha256, pictures_sha256
from vvc_nnr.filters.training.scenes import reduced_pictures, split, training_scenes
from vvc_nnr.sequences.source import open_source

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


# Steps over which weights are averaged, at the end of short and of long runs.
MIN_AVERAGED_STEPS, MAX_AVERAGED_STEPS = 50, 1000
AVERAGED_SHARE = 0.05


class RateTask:
    """Another task with lambda of the weights' bits in its loss.

    Args:
        task: What the network learns.
        proxy: What the bits are.
        lambda_rd: In units of the task's loss.
    """

    def __init__(self, task: TrainingTask, proxy: RateProxy, lambda_rd: float) -> None:
        self._task, self._proxy, self._lambda_rd = task, proxy, lambda_rd

    @property
    def network(self) -> nn.Module:
        """What is trained."""
        return self._task.network

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """Loss of the task, and bits times lambda."""
        bits = self._proxy.bits(self.network)
        return self._task.loss(step, batch_size, device) + self._lambda_rd * bits

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """The task's figures and the bits, in KB."""
        return {**self._task.validate(device), "size_kb": float(self._proxy.bits(self.network)) / 8192}


def with_rate(
    task: TrainingTask, compressed: CalibratedNetwork, *, error_weight: float | None = None, pressure: float = 1.0
) -> RateTask:
    """A task whose bits cost what they did when its network was compressed.

    Args:
        task: What the network learns.
        compressed: What calibrated compression made of the network before: the steps and lambda.
        error_weight: What the task's loss gives for a squared error of 1 per sample; None: its loss is relative to
            the error that the network leaves, about 1.
        pressure: Lambda, times that at which the network was compressed.
    """
    found = compressed.calibrated or compressed
    steps = {t.name: t.step for t in found.tensors if t.step is not None and t.sensitivity is not None}
    weight = 1 / found.reference_mse if error_weight is None else error_weight
    return RateTask(task, RateProxy(steps), pressure * found.lambda_rd * weight)


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """How long a network is tuned.

    Attributes:
        n_steps: Optimiser steps.
        batch_size: Samples per step.
        learning_rate: Peak rate.
        seed: Of all random choices.
        checkpoint_every: Steps between checkpoints.
    """

    n_steps: int = 2000
    batch_size: int = 8
    learning_rate: float = 2e-4
    seed: int = 0
    checkpoint_every: int = 100


def tune_for_size(
    task: RateTask, options: TuneOptions, checkpoint: Path, identity: Identity | None = None
) -> Mapping[str, float]:
    """Trains the task's network in place; returns the last validation figures.

    Args:
        task: From `with_rate`.
        options: Length.
        checkpoint: File to save to and, when it exists, to go on from.
        identity: What determines the result besides the options, see `train`.

    Raises:
        InputError: If the checkpoint is damaged or of another run, or an option is out of range.
        VvcNnrError: If the loss becomes NaN.
    """
    averaged = min(max(AVERAGED_SHARE * options.n_steps, MIN_AVERAGED_STEPS), MAX_AVERAGED_STEPS)
    training = TrainOptions(
        n_steps=options.n_steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup_steps=min(50, options.n_steps // 10 + 1),
        weight_decay=0.0,
        ema_decay=1 - 1 / averaged,
        seed=options.seed,
        checkpoint_every=options.checkpoint_every,
    )
    return train(task, training, checkpoint, identity=identity)


N_RATE_PATCHES = 1000
PEAK = 255


class Tuning(Protocol):
    """What fine-tuning asks of a kind of network."""

    batch_size: ClassVar[int]
    learning_rate: ClassVar[float]

    def identity(self) -> Identity:
        """What it learns from, by which one run is told from another; raises InputError if that cannot be read."""

    def task(self, network: nn.Module, before: CalibratedNetwork) -> RateTask:
        """What the network learns, with the bits weighed as they were when it was compressed before."""

    def finish(self, network: nn.Module, original: nn.Module) -> None:
        """What is left to do when it was trained."""


@dataclass(frozen=True, slots=True)
class RestorationTuning:
    """For networks that restore pictures.

    Attributes:
        photographs: To train on.
        degrade: What the network undoes; None: it learns to go on doing what it did.
        n_planes: Planes that it takes, 1 or 3.
    """

    photographs: Sequence[Path]
    degrade: Degrade | None
    n_planes: int
    batch_size: ClassVar[int] = 8
    learning_rate: ClassVar[float] = 2e-4

    def identity(self) -> Identity:
        """Photographs, planes, and what the degradation makes of one picture."""
        example = torch.linspace(0, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)[:, : self.n_planes].contiguous()
        seen = example if self.degrade is None else self.degrade(example, torch.Generator().manual_seed(0))
        degraded = "" if self.degrade is None else hashlib.sha256(seen.numpy().tobytes()).hexdigest()
        return {"pictures": files_sha256(self.photographs), "n_planes": self.n_planes, "degraded_example": degraded}

    def task(self, network: nn.Module, before: CalibratedNetwork) -> RateTask:
        """Squared error over that of the network as it was."""
        pictures = read_pictures(self.photographs)
        task = RestorationTask(
            network, pictures, self.degrade, n_planes=self.n_planes, reference_mse=before.reference_mse
        )
        return with_rate(task, before)

    def finish(self, network: nn.Module, original: nn.Module) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class InLoopTuning:
    """For in-loop filters.

    Attributes:
        photographs: To train on.
        loop_filters: What the codec runs before the filter.
        qps: To train for.
        folder: Where the pairs are made; it is kept.
        layout: How pictures go into the filter.
    """

    photographs: Sequence[Path]
    loop_filters: LoopFilters
    qps: Sequence[int]
    folder: Path
    layout: Layout
    batch_size: ClassVar[int] = 8
    learning_rate: ClassVar[float] = 6e-4

    def identity(self) -> Identity:
        """Photographs, in-loop filters, QPs and the encoder."""
        return {
            "pictures": files_sha256(self.photographs),
            "loop_filters": self.loop_filters,
            "qps": list(self.qps),
            "encoder": encoder_identity("libvvenc"),
        }

    def task(self, network: nn.Module, before: CalibratedNetwork) -> RateTask:
        """Squared error over that of the codec."""
        sources = [open_source(path) for path in self.photographs]
        encodings = PairOptions(self.qps, (self.loop_filters,))
        if self.folder.exists():
            check_pairs(training_scenes(sources), self.folder, encodings)
        names = make_pairs(training_scenes(sources), self.folder, encodings)
        training, validation = (
            PairSet(self.folder, self.loop_filters, self.qps, [names[i] for i in part]) for part in split(names)
        )
        return with_rate(InLoopTask(network, training, validation, seed=0, layout=self.layout), before)

    def finish(self, network: nn.Module, original: nn.Module) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class AutoencoderTuning:
    """For autoencoders, whose pictures go on taking the bits that they took, at each operating point.

    Attributes:
        photographs: To train on.
        images: Small pictures (32, 32, 3), of which half of the patches are then, if there are any.
    """

    photographs: Sequence[Path]
    images: Sequence[Crop]
    batch_size: ClassVar[int] = 32
    learning_rate: ClassVar[float] = 3e-4

    def identity(self) -> Identity:
        """Photographs and small pictures."""
        return {"pictures": files_sha256(self.photographs), "small_pictures": pictures_sha256(self.images)}

    def task(self, network: nn.Module, before: CalibratedNetwork) -> RateTask:
        """Rate and distortion, weighed as the network says or, of a factorised prior, as its quantiser steps do."""
        sources = self._sources()
        if isinstance(network, ContextAutoencoder):
            validation = _patches(sources)[: N_RATE_PATCHES // 2]
            weights = network.distortion_weights.tolist()
            return with_rate(
                ContextAutoencoderTask(network, sources, validation, weights, seed=0), before, error_weight=1.0
            )
        assert isinstance(network, Autoencoder)
        weight = distortion_weight(network, _patches(sources))
        return with_rate(_autoencoder_task(network, sources, weight), before, error_weight=weight * PEAK**2)

    def finish(self, network: nn.Module, original: nn.Module) -> None:
        """Brings the rate of its pictures back to what it was; makes the entropy tables of a factorised prior anew."""
        sources = self._sources()
        patches = _patches(sources)
        if isinstance(network, ContextAutoencoder):
            assert isinstance(original, ContextAutoencoder)
            keep_rates(network, original, patches)
            return
        assert isinstance(network, Autoencoder)
        assert isinstance(original, Autoencoder)
        keep_rate(network, patches, estimated_bpp(original, patches))
        _autoencoder_task(network, sources, 1.0).fit_tables()

    def _sources(self) -> list[PatchSource]:
        photographs = PatchSource(reduced_pictures(self.photographs), 1.0)
        return [photographs, PatchSource(self.images, 1.0)] if self.images else [photographs]


def _autoencoder_task(network: Autoencoder, sources: Sequence[PatchSource], weight: float) -> AutoencoderTask:
    return AutoencoderTask(network, sources, _patches(sources)[: N_RATE_PATCHES // 2], weight, seed=0)


def _patches(sources: Sequence[PatchSource]) -> Crop:
    return random_patches(sources, np.random.default_rng(0), N_RATE_PATCHES)
