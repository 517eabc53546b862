"""A training as a user starts it: what all kinds of networks share, in one folder with checkpoint, network and card.

One run is told from another by digests of its weights, files and pictures, so that it never goes on with others. Its
note `pictures.json` lies beside the checkpoint: the name of each picture's sub-folder in the pair set, and a digest of
its samples.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import nn

from vvc_nnr.errors import BitstreamError, InputError
from vvc_nnr.files import read_bytes, write_file
from vvc_nnr.filters.inference.torch import choose_device
from vvc_nnr.filters.training.loop import Identity, TrainOptions
from vvc_nnr.filters.training.pairs import folder_name, load_original, packed_original
from vvc_nnr.filters.zoo import network_tensors
from vvc_nnr.json_text import parse_json
from vvc_nnr.model.safetensors import write_float
from vvc_nnr.sequences.frame import Frame


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 of a module's parameters and buffers with their names, shapes and number formats."""
    found = hashlib.sha256()
    for name, value in network.state_dict().items():
        tensor = value.detach().cpu().contiguous().numpy()
        found.update(f"{name} {tensor.shape} {tensor.dtype}\0".encode() + tensor.tobytes())
    return found.hexdigest()


def files_sha256(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by their names; one that is there twice under one name has a number behind it.

    Raises:
        InputError: If one cannot be read.
    """
    found: dict[str, str] = {}
    for path in paths:
        name, number = path.name, 2
        while name in found:
            name, number = f"{path.name} ({number})", number + 1
        found[name] = hashlib.sha256(read_bytes(path)).hexdigest()
    return found


def pictures_sha256(pictures: Iterable[NDArray[np.uint8]]) -> str:
    """SHA-256 of pictures in their order, with their shapes."""
    found = hashlib.sha256()
    for picture in pictures:
        found.update(f"{picture.shape}\0".encode() + picture.tobytes())
    return found.hexdigest()


CHECKPOINT, QUANTISED_CHECKPOINT = "checkpoint.pt", "checkpoint_quantised.pt"
NETWORK, CARD, HISTORY = "network.safetensors", "card.json", "history.tsv"

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

    def initial_weights(self, network: nn.Module) -> str:
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
    network: nn.Module,
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
        metadata: What the network's file says.
        provenance: Where the run comes from, for the card.
    """
    training, validation = pictures
    path = folder / NETWORK
    n_bytes = write_float(path, network_tensors(network), metadata)
    card = {
        "network": str(path),
        "n_bytes": n_bytes,
        "validation": dict(figures),
        "training_pictures": list(training),
        "validation_pictures": list(validation),
        "training": asdict(options) | {"device": choose_device(options.device).type},
        "identity": identity,
        "provenance": dict(provenance),
    }
    write_file(folder / CARD, json.dumps(card, indent=2).encode() + b"\n")
    return Trained(path, n_bytes, figures, card)


Digests = Mapping[str, str]


def pair_digests(pairs: Path, names: Sequence[str]) -> Digests:
    """SHA-256 of each picture's packed samples, by name.

    Raises:
        InputError: If a picture cannot be read.
    """
    return {name: hashlib.sha256(load_original(pairs / name).tobytes()).hexdigest() for name in names}


def frame_digests(pictures: Iterable[tuple[str, Frame]]) -> Digests:
    """The same of pictures that need not be in a pair set yet.

    Args:
        pictures: Names and pictures, as of `make_pairs`.
    """
    return {
        folder_name(index, name): hashlib.sha256(packed_original(frame).tobytes()).hexdigest()
        for index, (name, frame) in enumerate(pictures)
    }


def pictures_before(checkpoint: Path, note: Path) -> Digests | None:
    """The pictures of the run that a checkpoint is of; None without a checkpoint.

    Args:
        checkpoint: The run's checkpoint.
        note: Where the run's pictures are noted.

    Raises:
        InputError: If the note is missing or cannot be read.
    """
    if not checkpoint.exists():
        return None
    if not note.exists():
        raise InputError(
            f"{note}: is missing, which pictures {checkpoint.name} was trained on is not known: "
            "bring it back, or train in another folder"
        )
    return noted_pictures(note)


def check_same_pictures(before: Digests, now: Digests, checkpoint: Path) -> None:
    """Refuses to go on with other pictures than those that a checkpoint was trained on.

    Raises:
        InputError: Naming the first picture that was added, is missing or has changed.
    """
    different = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if different:
        name = different[0]
        how = "is new" if name not in before else "is missing" if name not in now else "has changed"
        raise InputError(
            f"{checkpoint}: a checkpoint of a run on other pictures ({name} {how}); "
            "use the same pictures or another folder"
        )


def note_pictures(note: Path, pictures: Digests) -> None:
    """Writes a run's note.

    Raises:
        InputError: If it cannot be written.
    """
    write_file(note, json.dumps(dict(pictures), indent=1).encode() + b"\n")


def noted_pictures(note: Path) -> Digests:
    """Reads a run's note.

    Raises:
        InputError: If it cannot be read or is no such note.
    """
    try:
        found = parse_json(read_bytes(note))
    except BitstreamError as error:
        raise InputError(f"{note}: cannot be read: {error}; bring it back, or train in another folder") from error
    if not isinstance(found, dict) or not all(isinstance(digest, str) for digest in found.values()):
        raise InputError(f"{note}: not a list of a run's pictures; bring it back, or train in another folder")
    return found
