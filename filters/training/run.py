"""A training as a user starts it: what all kinds of networks share, in one folder with checkpoint, network and card."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vvc_nnr.errors import InputError
from vvc_nnr.files import AtomicFile
from vvc_nnr.filters.training.loop import Identity, TrainOptions
from vvc_nnr.filters.training.run_identity import weights_sha256
from vvc_nnr.filters.zoo import Network, network_metadata, network_tensors
from vvc_nnr.model.safetensors import write_float

CHECKPOINT, QUANTISED_CHECKPOINT = "checkpoint.pt", "checkpoint_quantised.pt"
NETWORK, CARD = "network.safetensors", "card.json"

TrainDevice: TypeAlias = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What every training has to know.

    Attributes:
        data: Folder of training pictures.
        out: Folder of the run: checkpoint, network, card.
        n_steps: Optimiser steps.
        batch_size: Samples per step.
        learning_rate: Peak rate of the optimiser.
        seed: Seed of weights and data.
        init: Start from this network, a bundled one by its name or a file, instead of random weights.
        device: Where to train; auto: on a GPU where there is one.
        checkpoint_every: Steps between checkpoints.
    """

    data: Path
    out: Path
    n_steps: int
    batch_size: int
    learning_rate: float
    seed: int = 0
    init: str | None = None
    device: TrainDevice = "auto"
    checkpoint_every: int = 500

    def check(self) -> None:
        """Raises InputError if the pictures are not there."""
        if not os.path.lexists(self.data):
            raise InputError(f"data {self.data}: no such folder; must be a folder of pictures to train on")

    def training(self) -> TrainOptions:
        """The part of them that the training loop has to know.

        Raises:
            InputError: If one is out of range.
        """
        return TrainOptions(
            n_steps=self.n_steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            checkpoint_every=self.checkpoint_every,
            device=self.device,
        )

    def initial_weights(self, network: Network) -> str:
        """SHA-256 of the weights that `init` gave; empty for random ones, which follow from the seed."""
        return weights_sha256(network) if self.init else ""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training left in its folder.

    Attributes:
        network: The network's file.
        n_bytes: Its size.
        validation: Figures on the pictures that were not trained on.
        card: What the card says, as JSON has it.
    """

    network: Path
    n_bytes: int
    validation: Mapping[str, float]
    card: Mapping[str, Any]


def finish_run(
    folder: Path,
    network: Network,
    figures: Mapping[str, float],
    options: TrainOptions,
    identity: Identity,
    pictures: tuple[Sequence[str], Sequence[str]],
    metadata: Mapping[str, str],
    provenance: Mapping[str, str],
) -> Trained:
    """Writes the network and its card.

    Args:
        folder: Folder of the run.
        network: What was trained.
        figures: Its scores on the validation pictures.
        options: How it was trained.
        identity: What determines the result besides these.
        pictures: Names of those of training and of validation.
        metadata: What the network's file says beside its architecture.
        provenance: Where the run comes from, for the card.
    """
    training, validation = pictures
    path = folder / NETWORK
    n_bytes = write_float(path, network_tensors(network), {**network_metadata(network), **metadata})
    card = {
        "network": str(path),
        "n_bytes": n_bytes,
        "validation": dict(figures),
        "training_pictures": list(training),
        "validation_pictures": list(validation),
        "training": asdict(options),
        "identity": identity,
        "provenance": dict(provenance),
    }
    with AtomicFile(folder / CARD) as file:
        file.write(json.dumps(card, indent=2).encode() + b"\n")
    return Trained(path, n_bytes, figures, card)
