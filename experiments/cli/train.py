"""The command train: new in-loop filters and autoencoders from the user's own pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, get_args

from tyro.conf import UseAppendAction

from vvc_nnr.codec.sequence import Preset
from vvc_nnr.experiments.cli.common import Command, Outcome
from vvc_nnr.experiments.cli.flags import Flags
from vvc_nnr.experiments.cli.kinds import (
    FOLDER,
    NATURAL,
    POSITIVE,
    POSITIVE_REAL,
    POSITIVE_REALS,
    QPS,
    SEED,
    SHARE,
    Texts,
    choices,
    door,
)
from vvc_nnr.experiments.cli.pictures import TRAINING_EXECUTION_FLAGS, RawFlags, VideoFlags, cache_folder, sources_of
from vvc_nnr.experiments.plots import save_figure, training_figure
from vvc_nnr.experiments.records.provenance import gather_provenance
from vvc_nnr.filters.training.autoencoder import AutoencoderRun, train_autoencoder
from vvc_nnr.filters.training.context_autoencoder import ContextAutoencoderRun, train_context_autoencoder
from vvc_nnr.filters.training.in_loop import InLoopRun, train_inloop
from vvc_nnr.filters.training.loop import read_history
from vvc_nnr.filters.training.run import HISTORY, Trained
from vvc_nnr.units import ExecutorOptions

_NAMES = {"n_steps": "steps"}
_KINDS = {
    "data": FOLDER,
    "out": FOLDER,
    "n_steps": POSITIVE,
    "batch_size": POSITIVE,
    "learning_rate": POSITIVE_REAL,
    "seed": SEED,
    "checkpoint_every": POSITIVE,
}
INLOOP_FLAGS = Flags(
    InLoopRun,
    names=_NAMES
    | {
        "n_channels": "channels",
        "n_blocks": "blocks",
        "encoder_config": "vtm_config",
        "encoder_arguments": "encoder_argument",
    },
    kinds=_KINDS
    | {
        "qps": QPS,
        "presets": door(choices(*get_args(Preset)), "NAME,...", ",".join),
        "chroma_weight": POSITIVE_REAL,
        "encoder_config": UseAppendAction[tuple[Path, ...]],
        "encoder_arguments": Texts,
        "n_channels": POSITIVE,
        "n_blocks": POSITIVE,
        "scenes": POSITIVE,
        "quantised_share": SHARE,
    },
)
AUTOENCODER_FLAGS = Flags(
    AutoencoderRun,
    names=_NAMES | {"n_latents": "latents"},
    kinds=_KINDS
    | {
        "cifar_share": POSITIVE_REAL,
        "distortion_weight": POSITIVE_REAL,
        "n_latents": POSITIVE,
        "quantised_steps": NATURAL,
    },
)

CONTEXT_AUTOENCODER_FLAGS = Flags(
    ContextAutoencoderRun,
    names=_NAMES | {"n_latents": "latents"},
    kinds=_KINDS
    | {
        "cifar_share": POSITIVE_REAL,
        "distortion_weights": POSITIVE_REALS,
        "n_latents": POSITIVE,
        "prior_steps": NATURAL,
    },
)


@dataclass(frozen=True, kw_only=True)
class TrainInLoop(Command):
    """Train an in-loop filter, on pairs made by the real codec; resumes where it was cut off.

    Attributes:
        training: How it is trained.
        cache: Folder of finished encodings.
        raw: Raw .yuv files (else taken from a name like x_416x240_50fps_8bit_420.yuv).
        video: Video files.
        execution: Where training pairs are made; no pair depends on it.
    """

    training: Annotated[InLoopRun, INLOOP_FLAGS.arg]
    cache: Annotated[Path, FOLDER] = field(default_factory=cache_folder)
    raw: RawFlags = field(default_factory=RawFlags)
    video: VideoFlags = field(default_factory=VideoFlags)
    execution: Annotated[ExecutorOptions, TRAINING_EXECUTION_FLAGS.arg] = field(default_factory=ExecutorOptions)

    def run(self) -> Outcome:
        """Trains; a process of torchrun that is not the first says nothing.

        Raises:
            VvcNnrError: If pictures, options or the folder cannot be used, or the training fails.
        """
        options = self.training
        with INLOOP_FLAGS.as_typed():
            provenance = gather_provenance(device=options.device).to_header()
            opened = partial(sources_of, options.data, self.raw, self.video)
            trained = train_inloop(options, provenance, opened, self.cache, self.execution)
        return Outcome("", {}) if trained is None else _outcome(trained)


@dataclass(frozen=True, kw_only=True)
class TrainAutoencoder(Command):
    """Train an autoencoder for small RGB pictures, on patches of reduced photographs; resumes where it was cut off.

    Attributes:
        training: How it is trained.
    """

    training: Annotated[AutoencoderRun, AUTOENCODER_FLAGS.arg]

    def run(self) -> Outcome:
        """Trains.

        Raises:
            VvcNnrError: If pictures, options or the folder cannot be used, or the training fails.
        """
        with AUTOENCODER_FLAGS.as_typed():
            provenance = gather_provenance(device=self.training.device).to_header()
            return _outcome(train_autoencoder(self.training, provenance))


@dataclass(frozen=True, kw_only=True)
class TrainContextAutoencoder(Command):
    """Train an autoencoder with a prior that follows the picture, from one without; resumes where it was cut off.

    Attributes:
        training: How it is trained.
    """

    training: Annotated[ContextAutoencoderRun, CONTEXT_AUTOENCODER_FLAGS.arg]

    def run(self) -> Outcome:
        """Trains.

        Raises:
            VvcNnrError: If pictures, options or the folder cannot be used, or the training fails.
        """
        with CONTEXT_AUTOENCODER_FLAGS.as_typed():
            provenance = gather_provenance(device=self.training.device).to_header()
            return _outcome(train_context_autoencoder(self.training, provenance))


def _outcome(trained: Trained) -> Outcome:
    if history := read_history(trained.network.parent / HISTORY):
        save_figure(training_figure(history), trained.network.parent / "history.png")
    figures = ", ".join(f"{name} {value:.3f}" for name, value in trained.validation.items())
    return Outcome(f"{trained.network}: {trained.n_bytes} bytes; validation: {figures}", dict(trained.card))
