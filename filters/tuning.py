"""How each kind of network is tuned for its size: what it learns on, how fast, and what is left to do at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import nn

from vvc_nnr.calibrate.calibrated_network import CalibratedNetwork
from vvc_nnr.codec.encoders import encoder_identity
from vvc_nnr.codec.vvc import LoopFilters
from vvc_nnr.filters.autoencoder_training import (
    AutoencoderTask,
    PatchSource,
    distortion_weight,
    estimated_bpp,
    keep_rate,
    random_patches,
)
from vvc_nnr.filters.calibration_pictures import Crop, Degrade
from vvc_nnr.filters.inloop_training import InLoopTask
from vvc_nnr.filters.networks.autoencoder import Autoencoder
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.pairs import PairOptions, PairSet, check_pairs, make_pairs
from vvc_nnr.filters.rate_training import RateTask, priced
from vvc_nnr.filters.restoration_training import RestorationTask, read_pictures
from vvc_nnr.filters.run_identity import files_sha256, pictures_sha256
from vvc_nnr.filters.train import Identity
from vvc_nnr.filters.training_data import filter_pictures, reduced_pictures, split
from vvc_nnr.sequences.source import open_source

N_RATE_PATCHES = 1000
PEAK = 255


class Tuning(Protocol):
    """What fine-tuning asks of a kind of network."""

    batch_size: ClassVar[int]
    learning_rate: ClassVar[float]

    def identity(self) -> Identity:
        """What it learns from, by which one run is told from another; raises InputError if that cannot be read."""

    def task(self, network: nn.Module, before: CalibratedNetwork) -> RateTask:
        """What the network learns, with the bits priced as they were when it was compressed before."""

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
        return priced(task, before)

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
    """

    photographs: Sequence[Path]
    loop_filters: LoopFilters
    qps: Sequence[int]
    folder: Path
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
        assert isinstance(network, InLoopNetwork)
        sources = [open_source(path) for path in self.photographs]
        encodings = PairOptions(self.qps, (self.loop_filters,))
        if self.folder.exists():
            check_pairs(filter_pictures(sources), self.folder, encodings)
        names = make_pairs(filter_pictures(sources), self.folder, encodings)
        training, validation = (
            PairSet(self.folder, self.loop_filters, self.qps, [names[i] for i in part]) for part in split(names)
        )
        return priced(InLoopTask(network, training, validation, seed=0), before)

    def finish(self, network: nn.Module, original: nn.Module) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class AutoencoderTuning:
    """For autoencoders, whose pictures go on taking the bits that they took.

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
        """Rate and distortion, weighed as the network's quantiser steps weigh them."""
        assert isinstance(network, Autoencoder)
        sources = self._sources()
        weight = distortion_weight(network, _patches(sources))
        return priced(_autoencoder_task(network, sources, weight), before, error_weight=weight * PEAK**2)

    def finish(self, network: nn.Module, original: nn.Module) -> None:
        """Brings the rate of its pictures back to what it was, and makes the entropy tables anew."""
        assert isinstance(network, Autoencoder)
        assert isinstance(original, Autoencoder)
        sources = self._sources()
        patches = _patches(sources)
        keep_rate(network, patches, estimated_bpp(original, patches))
        _autoencoder_task(network, sources, 1.0).fit_tables()

    def _sources(self) -> list[PatchSource]:
        photographs = PatchSource(reduced_pictures(self.photographs), 1.0)
        return [photographs, PatchSource(self.images, 1.0)] if self.images else [photographs]


def _autoencoder_task(network: Autoencoder, sources: Sequence[PatchSource], weight: float) -> AutoencoderTask:
    return AutoencoderTask(network, sources, _patches(sources)[: N_RATE_PATCHES // 2], weight, seed=0)


def _patches(sources: Sequence[PatchSource]) -> Crop:
    return random_patches(sources, np.random.default_rng(0), N_RATE_PATCHES)
