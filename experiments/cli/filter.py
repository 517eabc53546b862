"""The command filter: a network over decoded pictures, everywhere or as the encoder decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.codec import FormatOf, stated, verified, vvc_stream, with_bar, with_damage, write_pictures
from vvc_nnr.experiments.cli.common import Command, Outcome, check_outputs
from vvc_nnr.experiments.cli.kinds import BIT_DEPTH, NATURAL, POSITIVE, QP, THREADS, OutputPath
from vvc_nnr.experiments.cli.pictures import InferenceFlags, RawFlags, VideoFlags, source_of
from vvc_nnr.filters.bundled import network_path
from vvc_nnr.filters.decisions.block_decisions import correction_by
from vvc_nnr.filters.decisions.sequence import MadeDecisions, filter_and_decide, filter_as_decided
from vvc_nnr.filters.inference.runner import DEFAULT_TILE, Runner
from vvc_nnr.filters.zoo import load_filter
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.source import Source, open_source

VVC_SUFFIXES = (".266", ".vvc")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionFlags:
    """Decisions by block: how strongly to filter, if at all.

    Attributes:
        original: Encoder: the pictures before coding.
        original_bit_depth: Bits per sample of an --original that is raw .yuv, 8 to 16.
        original_stream: Of an --original with several videos the one at this place, from 0.
        decisions_out: Encoder: the coded decisions to write.
        wiener: Encoder: fit a Wiener filter to each picture, behind the network; so it is without a word.
        no_wiener: Encoder: fit none.
        decisions: Decoder: the coded decisions to carry out.
    """

    original: Path | None = None
    original_bit_depth: Annotated[int | None, BIT_DEPTH] = None
    original_stream: Annotated[int | None, NATURAL] = None
    decisions_out: Annotated[OutputPath | None, arg(metavar="FILE")] = None
    wiener: bool = False
    no_wiener: bool = False
    decisions: Path | None = None

    def check(self) -> None:
        """Raises InputError if the options contradict each other."""
        makes = self.original is not None
        if makes != (self.decisions_out is not None):
            raise InputError("--original and --decisions-out: the encoder needs both, or neither")
        if makes and self.decisions is not None:
            raise InputError("--decisions: is the decoder's, and --original the encoder's; give one of them")
        if self.wiener and self.no_wiener:
            raise InputError("--wiener and --no-wiener: contradict each other")
        if makes:
            return
        if self.original_bit_depth is not None:
            raise InputError("--original-bit-depth: there is no --original")
        if self.original_stream is not None:
            raise InputError("--original-stream: there is no --original")
        if self.wiener or self.no_wiener:
            raise InputError("--wiener, --no-wiener: are the encoder's, and there is no --original")


@dataclass(frozen=True, slots=True)
class _Decoded:
    """The pictures to filter.

    Attributes:
        frames: The pictures.
        n_pictures: How many, None where it is not known.
        format_of: What their file states of each.
        damage: What is damaged in their file.
        verified: How many of a stream's pictures are held against a hash, as text.
        verified_data: The same as data.
    """

    frames: Iterator[Frame]
    n_pictures: int | None
    format_of: FormatOf
    damage: str | None
    verified: str = ""
    verified_data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Filter(Command):
    """Run a CNN filter over any decoder's output.

    Attributes:
        input: Decoded .yuv or .y4m, video, image, or a VVC stream (.266).
        output: .y4m or .yuv to write.
        model: Name of a bundled network, a network file, or FILE.py:NAME, what makes a module of your own.
        arch: FILE.py:NAME, what makes the module whose tensors the file has; dncnn.
        layout: How pictures go into a network of your own: planes=y,range=unit,qp=none,output=picture...
        qp: QP that the pictures were coded with, 0 to 63.
        tile: Side of the tiles, luma samples.
        threads: Threads of the network; default: one per core.
        inference: What computes the network.
        deciding: Decisions by block: how strongly to filter, if at all.
        raw: Raw .yuv files (else taken from a name like x_416x240_50fps_8bit_420.yuv).
        video: Video files.
    """

    input: Positional[Path]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    model: str
    qp: Annotated[int, QP]
    arch: str | None = None
    layout: str | None = None
    tile: Annotated[int, POSITIVE] = DEFAULT_TILE
    threads: Annotated[int | None, THREADS] = None
    inference: InferenceFlags = field(default_factory=InferenceFlags)
    deciding: DecisionFlags = field(default_factory=DecisionFlags)
    raw: RawFlags = field(default_factory=RawFlags)
    video: VideoFlags = field(default_factory=VideoFlags)

    def run(self) -> Outcome:
        """Writes the filtered pictures, and the decisions if they are made here.

        Raises:
            InputError: If files, options and network do not fit together, or a file cannot be written.
            BitstreamError, UnsupportedError: If a file cannot be read.
        """
        made_or_read = self.deciding
        made_or_read.check()
        inputs = [self.input, made_or_read.original, made_or_read.decisions, network_path(self.model)]
        check_outputs(inputs, [self.output, made_or_read.decisions_out])
        loaded = load_filter(self.model, arch=self.arch, layout=self.layout)
        runner = Runner(
            loaded.network,
            layout=loaded.layout,
            backend=self.inference.backend,
            precision=self.inference.precision,
            n_threads=self.threads,
            tile=self.tile,
            device=self.inference.device,
        )
        decoded = self._decoded()
        written = self._written(runner, with_bar(decoded.frames, "filter", decoded.n_pictures), decoded.format_of)
        inference = {"backend": runner.backend, "precision": runner.precision, "inference": runner.description}
        inference |= {"remark": runner.remark} if runner.remark else {}
        text = "; ".join(filter(None, (written.text, decoded.verified, runner.description, runner.remark)))
        return with_damage(Outcome(text, {**written.data, **decoded.verified_data, **inference}), decoded.damage)

    def _written(self, runner: Runner, frames: Iterator[Frame], format_of: FormatOf) -> Outcome:
        def write(filtered: Iterator[Frame]) -> Outcome:
            return write_pictures(self.input, self.output, filtered, format_of)

        deciding, name = self.deciding, str(self.input)
        correct = partial(correction_by, runner, qp=self.qp)
        if deciding.decisions is not None:
            return write(filter_as_decided(deciding.decisions, frames, correct, name=name))
        if deciding.decisions_out is None:
            return write(runner.filter_frames((frame, self.qp) for frame in frames))
        made = filter_and_decide(
            self._original(),
            frames,
            correct,
            deciding.decisions_out,
            write,
            qp=self.qp,
            wiener=not deciding.no_wiener,
            name=name,
        )
        return _with_bits(made, deciding.decisions_out)

    def _decoded(self) -> _Decoded:
        if self.input.suffix.lower() in VVC_SUFFIXES:
            if self.video.stream is not None or self.video.allow_damaged:
                raise InputError(f"{self.input}: --stream and --allow-damaged are for video files, this is a stream")
            if self.raw.bit_depth is not None or (self.raw.chroma_format and self.deciding.original is None):
                raise InputError(f"{self.input}: --bit-depth and --chroma-format are for raw files, this is a stream")
            width, height = self.raw.size or (None, None)
            stream = vvc_stream(self.input)
            frames = decode_vvc(stream, width=width, height=height)
            text, data = verified(stream)
            return _Decoded(frames, len(stream.output_order), stated(stream, self.raw.fps).holding, None, text, data)
        source = source_of(self.input, self.raw, self.video)
        return _Decoded(source.frames(), source.n_pictures, source.format.holding, source.damage())

    def _original(self) -> Source:
        assert self.deciding.original is not None
        width, height = self.raw.size or (None, None)
        return open_source(
            self.deciding.original,
            width=width,
            height=height,
            bit_depth=self.deciding.original_bit_depth,
            chroma_format=self.raw.chroma_format,
            stream=self.deciding.original_stream,
        )


def _with_bits(made: MadeDecisions[Outcome], path: Path) -> Outcome:
    """What was written, with the size of the decisions."""
    mean_bits = sum(made.picture_bits) / len(made.picture_bits)
    text = f"{path}: decisions of {made.n_bytes} bytes, {mean_bits:.1f} bits per picture, {made.n_off} off"
    data = {
        "decisions": str(path),
        "decision_bytes": made.n_bytes,
        "decision_picture_bits": list(made.picture_bits),
        "n_pictures_off": made.n_off,
    }
    return Outcome(f"{made.written.text}\n{text}", made.written.data | data)
