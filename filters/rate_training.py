"""Fine-tuning for size: a network goes on learning its task, and pays for the bits that its weights will take.

The result is a network in float32 like any other, near the original, which calibrated compression codes in fewer bytes
at the same loss. The loop, its checkpoints and its resuming are those of `train.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vvc_nnr.calibrate.calibrated_network import CalibratedNetwork
from vvc_nnr.calibrate.rate_proxy import RateProxy
from vvc_nnr.filters.train import Identity, TrainingTask, TrainOptions, train

# Steps over which weights are averaged, at the end of short and of long runs.
MIN_AVERAGED_STEPS, MAX_AVERAGED_STEPS = 50, 1000
AVERAGED_SHARE = 0.05


class RateTask:
    """Another task with the price of the weights' bits in its loss.

    Args:
        task: What the network learns.
        proxy: What the bits are.
        price_per_bit: In units of the task's loss.
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


def priced(
    task: TrainingTask, compressed: CalibratedNetwork, *, error_weight: float | None = None, pressure: float = 1.0
) -> RateTask:
    """A task whose bits cost what they did when its network was compressed.

    Args:
        task: What the network learns.
        compressed: What calibrated compression made of the network before: the steps and the price.
        error_weight: What the task's loss gives for a squared error of 1 per sample; None: its loss is relative to
            the error that the network leaves, about 1.
        pressure: Price of a bit, times that at which the network was compressed.
    """
    steps = {t.name: t.step for t in compressed.tensors if t.step is not None and t.sensitivity is not None}
    weight = 1 / compressed.reference_mse if error_weight is None else error_weight
    return RateTask(task, RateProxy(steps), pressure * compressed.price_per_bit * weight)


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
        task: From `priced`.
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
