"""Fine-tuning for size: a network goes on learning its task, and pays for the bits that its weights will take.

The result is a network in float32 like any other, near the original, which calibrated compression codes in fewer bytes
at the same loss. The loop, its checkpoints and its resuming are those of `train.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vvc_nnr.calibrated_network import CalibratedNetwork
from vvc_nnr.errors import InputError
from vvc_nnr.filters.calibration_pictures import Degrade, as_picture
from vvc_nnr.filters.train import TrainingTask, TrainOptions, train
from vvc_nnr.quantize.rate_proxy import RateProxy
from vvc_nnr.sequences.images import read_image


class RestorationTask:
    """Learns to undo a degradation; the loss is the squared error over that of the network as it was.

    Args:
        network: What to train.
        pictures: Photographs, uint8 (H, W, 3).
        degrade: What the network undoes; None: it learns to go on doing what it did.
        n_planes: 1 for grey, 3.
        side: Of the crops.
        seed: Fixes the random choices together with the step number.
        reference_mse: What the network leaves before.
    """

    def __init__(
        self,
        network: nn.Module,
        pictures: Sequence[NDArray[np.uint8]],
        degrade: Degrade | None,
        *,
        n_planes: int = 1,
        side: int = 48,
        seed: int = 0,
        reference_mse: float,
    ) -> None:
        self.network: nn.Module = network
        self._pictures = [picture for picture in pictures if min(picture.shape[:2]) >= side]
        if not self._pictures:
            raise InputError(f"fine-tuning needs pictures of at least {side}x{side}")
        self._degrade = degrade
        self._n_planes, self._side, self._seed = n_planes, side, seed
        self._reference_mse = reference_mse
        self._teacher = None if degrade is not None else _frozen_copy(network)

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """Squared error of one batch; 1 is what the network left before."""
        rng = np.random.default_rng([self._seed, step])
        pictures = torch.cat([as_picture(self._crop(rng), self._n_planes) for _ in range(batch_size)])
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        if self._degrade is None:
            assert self._teacher is not None
            with torch.no_grad():
                inputs, targets = pictures.to(device), self._teacher.to(device)(pictures.to(device)).float()
        else:
            generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
            degraded = [self._degrade(picture[None], generator) for picture in pictures]
            inputs, targets = torch.cat(degraded).to(device), pictures.to(device)
        output: Tensor = self.network(inputs.contiguous(memory_format=torch.channels_last))
        return torch.mean((output.float() - targets) ** 2) / self._reference_mse

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """Nothing: the coded file is what is validated."""
        return {}

    def _crop(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        picture = self._pictures[int(rng.integers(len(self._pictures)))]
        top, left = (int(rng.integers(size - self._side + 1)) for size in picture.shape[:2])
        crop = picture[top : top + self._side, left : left + self._side]
        crop = crop[:, ::-1] if rng.integers(2) else crop
        return crop.transpose(1, 0, 2) if rng.integers(2) else crop


def _frozen_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


class RateTask:
    """Another task with the price of the weights' bits in its loss.

    Args:
        task: Whose loss is relative to the network's error, about 1 at the start.
        proxy: What the bits are.
        price_per_bit: In units of that loss.
    """

    def __init__(self, task: TrainingTask, proxy: RateProxy, price_per_bit: float) -> None:
        self._task, self._proxy, self._price = task, proxy, price_per_bit

    @property
    def network(self) -> nn.Module:
        """What is trained."""
        return self._task.network

    def loss(self, step: int, batch_size: int, device: torch.device) -> Tensor:
        """Loss of the task, and bits times their price."""
        bits = self._proxy.bits(self.network)
        return self._task.loss(step, batch_size, device) + self._price * bits

    def validate(self, device: torch.device) -> Mapping[str, float]:
        """The task's figures and the bits, in KB."""
        return {**self._task.validate(device), "size_kb": float(self._proxy.bits(self.network)) / 8192}


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """How long and how strongly a network is tuned.

    Attributes:
        n_steps: Optimiser steps.
        batch_size: Crops per step.
        learning_rate: Peak rate.
        pressure: Price of a bit, times that at which the network was compressed before.
        seed: Of all random choices.
        checkpoint_every: Steps between checkpoints.
    """

    n_steps: int = 2000
    batch_size: int = 8
    learning_rate: float = 2e-4
    pressure: float = 1.0
    seed: int = 0
    checkpoint_every: int = 100


def tune_for_size(
    task: TrainingTask, compressed: CalibratedNetwork, options: TuneOptions, checkpoint: Path
) -> Mapping[str, float]:
    """Trains the task's network in place, at the steps and the price that its compression came to.

    Args:
        task: As for `RateTask`.
        compressed: What calibrated compression made of the network before.
        options: Length and strength.
        checkpoint: File to save to and, when it exists, to go on from.

    Raises:
        InputError: If the checkpoint is damaged or of another run, or an option is out of range.
        VvcNnrError: If the loss becomes NaN.
    """
    steps = {t.name: t.step for t in compressed.tensors if t.step is not None and t.sensitivity is not None}
    price = options.pressure * compressed.price_per_bit / compressed.reference_mse
    training = TrainOptions(
        n_steps=options.n_steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup_steps=min(50, options.n_steps // 10 + 1),
        weight_decay=0.0,
        ema_decay=0.98,
        seed=options.seed,
        checkpoint_every=options.checkpoint_every,
    )
    return train(RateTask(task, RateProxy(steps), price), training, checkpoint)


def read_pictures(paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
    """Photographs into memory; raises as `read_image`."""
    return [read_image(path) for path in paths]
