"""The commands train and adapt: networks from the user's own pictures, and a filter tuned to one sequence."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from tyro.conf import Positional, UseAppendAction, arg

from vvc_nnr.codec.sei import SUFFIXES, Placement
from vvc_nnr.codec.sequence import Preset
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.common import Command, Outcome, check_outputs, check_writable
from vvc_nnr.experiments.cli.flags import Flags
from vvc_nnr.experiments.cli.kinds import (
    FOLDER,
    NATURAL,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_REAL,
    POSITIVE_REALS,
    QPS,
    SEED,
    SHARE,
    THREADS,
    OutputPath,
    Texts,
    choices,
    door,
    positive_real,
)
from vvc_nnr.experiments.cli.pictures import (
    TRAINING_EXECUTION_FLAGS,
    RawFlags,
    VideoFlags,
    cache_folder,
    original_of,
    sources_of,
)
from vvc_nnr.experiments.plots import save_figure, training_figure
from vvc_nnr.experiments.records.provenance import gather_provenance
from vvc_nnr.experiments.tables.adaptation_table import adaptation_bd_rates, adaptation_table
from vvc_nnr.experiments.tables.table import to_markdown
from vvc_nnr.files import is_stream, write_file
from vvc_nnr.filters.adaptation.adapt_streams import adapt_streams
from vvc_nnr.filters.adaptation.base_filter import AdaptedBase, BaseAt
from vvc_nnr.filters.adaptation.options import AdaptOptions, FreePart, RunAs
from vvc_nnr.filters.adaptation.results import Adaptation, AdaptedStream
from vvc_nnr.filters.bundled import network_path
from vvc_nnr.filters.inference.choice import BackendName, Precision
from vvc_nnr.filters.training.autoencoder import AutoencoderRun, train_autoencoder
from vvc_nnr.filters.training.context_autoencoder import ContextAutoencoderRun, train_context_autoencoder
from vvc_nnr.filters.training.in_loop import InLoopRun, train_inloop
from vvc_nnr.filters.training.loop import read_history
from vvc_nnr.filters.training.run import HISTORY, Trained
from vvc_nnr.folder_lock import locked_folder
from vvc_nnr.network_file import NNC_SUFFIX, is_nnc
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


ADAPT_FLAGS = Flags(
    AdaptOptions,
    names={"n_steps": "steps", "budget_min": "budget", "n_pictures": "pictures"},
    kinds={
        "free": door(choices(*get_args(FreePart)), "PART,...", ",".join),
        "budget_min": door(positive_real, "MINUTES"),
        "n_steps": POSITIVE,
        "batch_size": POSITIVE,
        "seed": SEED,
        "chroma_weight": NOT_NEGATIVE,
        "n_pictures": POSITIVE,
    },
)


@dataclass(frozen=True, kw_only=True)
class Adapt(Command):
    """Tune a filter to one sequence and put it with its update into the streams where that pays; resumable.

    Attributes:
        input: VVC streams (.266) of the same pictures, such as one for each QP.
        output: A stream to write for each input, in their order; or a .nnc file for each update, one in all with
            --updates shared, else one for each input; or both.
        original: The pictures before coding.
        model: Name of a bundled network, a coded network file (.nnc), or an ONNX model, which is coded: what is tuned.
        layout: How pictures go into an ONNX model: planes=yuv420-packed,qp=plane...
        base: Where a decoder gets that network: by its hash among the bundled ones and those that it is given (filter
            --base); out of the stream, which holds it. Default: hash, of bundled networks.
        base_output: .nnc file to write of an ONNX model, which a decoder needs that gets it by its hash.
        folder: Checkpoints, from which a run that was cut off goes on. Default: beside the first output, until it is
            written.
        at: Where the messages go: before the first picture; each that begins a sequence; each random access point.
        precision: What the network is computed in; int8, the default of the bundled shapes, gives the same samples on
            every machine; float32 is that of all others.
        backend: What computes it; auto: the fastest that is installed.
        threads: Threads of the network; default: one per core.
        original_stream: Of an original with several videos the one of this index among all streams (ffprobe's #0:N).
        tuning: What is free, how long.
        raw: Raw .yuv originals (else taken from a name like x_416x240_50fps_8bit_420.yuv).
    """

    input: Positional[tuple[Path, ...]]
    output: Annotated[UseAppendAction[tuple[OutputPath, ...]], arg(aliases=["-o"])] = ()
    original: Path
    model: str
    layout: str | None = None
    base: BaseAt | None = None
    base_output: Annotated[OutputPath | None, arg(metavar="FILE")] = None
    folder: Annotated[Path | None, FOLDER] = None
    at: Placement = "once"
    precision: Precision | None = None
    backend: Literal["auto"] | BackendName = "auto"
    threads: Annotated[int | None, THREADS] = None
    original_stream: Annotated[int | None, NATURAL] = None
    tuning: Annotated[AdaptOptions, ADAPT_FLAGS.arg] = field(default_factory=AdaptOptions)
    raw: RawFlags = field(default_factory=RawFlags)

    def run(self) -> Outcome:
        """Tunes, measures and writes.

        Raises:
            InputError: If files, options and streams do not fit together, or a file cannot be written.
            BitstreamError, UnsupportedError: If a file cannot be read.
        """
        with ADAPT_FLAGS.as_typed():
            streams, updates = self._outputs()
        model = network_path(self.model)
        outputs = [*self.output, *([] if self.base_output is None else [self.base_output])]
        check_outputs([*self.input, self.original, model], outputs)
        for path in outputs:
            check_writable(path)
        if self.folder is None and is_stream(self.output[0]):
            raise InputError(f"--folder: must be given where the first output is {self.output[0]}")
        folder = self.folder or self.output[0].with_name(f"{self.output[0].name}.adapting")
        base = AdaptedBase.of(model, self.base, self.layout)
        self._check_base_output(model, base)
        original = original_of(self.original, self.raw, self.raw.bit_depth, self.original_stream)
        precision = self.precision or ("int8" if base.is_bundled_shape else "float32")
        run_as = RunAs(precision=precision, backend=self.backend, n_threads=self.threads, at=self.at)
        with ADAPT_FLAGS.as_typed(), locked_folder(folder):
            found = adapt_streams(self.input, original, base, self.tuning, folder, run_as)
        for path, stream in zip(streams, found.streams, strict=False):
            write_file(path, stream.data)
        for path, data in zip(updates, _update_files(found), strict=False):
            write_file(path, data)
        if self.base_output is not None:
            write_file(self.base_output, base.data)
        if self.folder is None:
            shutil.rmtree(folder)
        outcome = _adapted(found, streams, updates, self.base_output)
        if not base.is_known_to_decoders and any(each.sent != "nothing" for each in found.streams):
            needed = f"A decoder needs the network that the streams name: filter --base {self.base_output or model}"
            found_and_needed = outcome.data | {"needed_base": str(self.base_output or model)}
            outcome = Outcome(f"{outcome.text}\n{needed}", found_and_needed)
        return outcome

    def _check_base_output(self, model: Path, base: AdaptedBase) -> None:
        """Raises InputError if a decoder that is to find the base by its hash would have no file of it."""
        if self.base_output is not None and not is_nnc(self.base_output):
            raise InputError(f"--base-output {self.base_output}: must be a {NNC_SUFFIX} file")
        if self.base_output is not None and is_nnc(model):
            raise InputError(f"--base-output: {model} is coded already, and is the file that a decoder needs; omit it")
        if self.base_output is None and not is_nnc(model) and base.at == "hash":
            raise InputError(
                f"--base hash: {model} is coded here, and a decoder needs that file: name it (--base-output FILE.nnc)"
            )

    def _outputs(self) -> tuple[list[Path], list[Path]]:
        """The streams to write, and the files of the update."""
        if self.raw.fps is not None:
            raise InputError("--fps: has no effect, the streams say their rate; omit it")
        if not self.input:
            raise InputError("missing: INPUT, the streams to adapt a filter to")
        if not self.output:
            raise InputError("missing: --output/-o, a stream for each input, or a .nnc file for the update")
        updates = [path for path in self.output if is_nnc(path)]
        streams = [path for path in self.output if not is_nnc(path)]
        for path in streams:
            if not is_stream(path) and SUFFIXES.get(path.suffix.lower()) != "vvc":
                raise InputError(
                    f"--output/-o {path}: must be a VVC stream (.266) or a file for an update ({NNC_SUFFIX}); filtered "
                    "pictures are made of the stream afterwards (vvc-nnr filter)"
                )
        n_updates = 1 if self.tuning.updates == "shared" else len(self.input)
        if updates and len(updates) != n_updates:
            raise InputError(
                f"--output/-o: {len(updates)} {NNC_SUFFIX} files, with --updates {self.tuning.updates} and "
                f"{len(self.input)} inputs; must be {n_updates}, one for each update"
            )
        if streams and len(streams) != len(self.input):
            raise InputError(f"--output/-o: {len(streams)} streams for {len(self.input)} inputs; must be one for each")
        return streams, updates


def _adapted(found: Adaptation, streams: Sequence[Path], updates: Sequence[Path], base_output: Path | None) -> Outcome:
    """What adaptation gave, as a table."""
    written = [f"{path}: {len(each.data)} bytes" for path, each in zip(streams, found.streams, strict=False)]
    written += [f"{path}: {len(data)} bytes" for path, data in zip(updates, _update_files(found), strict=False)]
    bases = [] if base_output is None else [base_output]
    written += [f"{path}: {found.base_bytes} bytes, the network that the update is for" for path in bases]
    text = "\n".join([*written, "", to_markdown(adaptation_table(found)).rstrip()])
    data = {
        "updates": [
            {
                "streams": [found.streams[place].name for place in each.streams],
                "n_bytes": len(each.tuned.data),
                "n_values": each.tuned.n_values,
                "n_steps": each.tuned.n_steps,
                "lambda": each.lambda_rd,
                "dropped_db": each.dropped_db,
            }
            for each in found.updates
        ],
        "inference": found.description,
        "bd_rate_percent": adaptation_bd_rates(found.streams),
        "yuv_bd_rate_percent": adaptation_bd_rates(found.streams, "yuv"),
        "measure": found.measure,
        "fixed": list(found.updates[0].tuned.fixed),
        "shown_size": found.shown_size and list(found.shown_size),
        "base_bytes": found.base_bytes,
        "outputs": [str(path) for path in (*streams, *updates, *bases)],
        "streams": [_stream_data(each) for each in found.streams],
    }
    return Outcome(text, data)


def _update_files(found: Adaptation) -> list[bytes]:
    """The updates as files: of each stream, or the one of all."""
    made = list(dict.fromkeys(stream.made for stream in found.streams)) if len(found.updates) == 1 else None
    return [each.tuned.data for each in made or [stream.made for stream in found.streams]]


def _stream_data(stream: AdaptedStream) -> dict[str, Any]:
    made = {"nothing": stream.decoded, "base": stream.base, "update": stream.adapted}
    return {
        "stream": stream.name,
        "n_pictures": stream.n_pictures,
        "n_bytes": stream.n_bytes,
        "counted_pictures": stream.counted_pictures,
        "slope_per_db": stream.slope,
        "psnr_db": {kind: list(each.psnr_db) for kind, each in made.items()},
        "added_bytes": dict(stream.added_bytes),
        "net_percent": dict(stream.net_percent),
        "sent": stream.sent,
        "update_bytes": len(stream.made.tuned.data),
        "update_is_shared": len(stream.made.streams) > 1,
        "output_bytes": len(stream.data),
        "output_md5": stream.output.md5.hex(),
    }
