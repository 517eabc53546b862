"""The command filter: a network over decoded pictures, everywhere or as the encoder decides."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from torch import nn
from tyro.conf import Positional, arg

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.sei import SUFFIXES
from vvc_nnr.codec.stream_filters import FilterSettings, StreamFilter
from vvc_nnr.codec.vvc_stream import VvcStream
from vvc_nnr.errors import InputError, UnsupportedError
from vvc_nnr.experiments.cli.codec import FormatOf, stated, verified, vvc_stream, with_bar, with_damage, write_pictures
from vvc_nnr.experiments.cli.common import Command, Outcome, check_outputs
from vvc_nnr.experiments.cli.kinds import BIT_DEPTH, NATURAL, POSITIVE, QP, THREADS, OutputPath
from vvc_nnr.experiments.cli.pictures import InferenceFlags, RawFlags, VideoFlags, source_of
from vvc_nnr.files import naming
from vvc_nnr.filters.bundled import network_path
from vvc_nnr.filters.decisions.block_decisions import correction_by
from vvc_nnr.filters.decisions.coding import MadeWith, parse_sequence
from vvc_nnr.filters.decisions.sequence import MadeDecisions, filter_and_decide, filter_as_decided, read_decisions
from vvc_nnr.filters.in_stream import (
    PlannedPicture,
    bitstream_of,
    digested,
    filter_as_planned,
    network_of,
    one_qp,
    planned_pictures,
    sha256_of,
    strength_qps,
)
from vvc_nnr.filters.inference.choice import Precision
from vvc_nnr.filters.inference.runner import DEFAULT_TILE, Runner
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.zoo import load_filter
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.source import Source, open_source


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
        stream: What the headers of a VVC stream say, None of other files.
    """

    frames: Iterator[Frame]
    n_pictures: int | None
    format_of: FormatOf
    damage: str | None
    stream: VvcStream | None = None


@dataclass(frozen=True, slots=True)
class _Filtering:
    """Who filters: runners for what is planned, and what decisions must have been made with.

    Attributes:
        plan: What is done to each picture; None: the one network on all.
        qps: The QP of each picture.
        runner_of: Makes a filter of the plan ready.
        runner: The one network, or that of the first filter.
        network_sha256: Of its file.
        made_qp: The QP of all pictures, None: those of slices.
        decisions: The decisions that travel with it.
        output_md5: What the filtered pictures must have.
    """

    plan: tuple[PlannedPicture, ...] | None
    qps: Iterable[int]
    runner_of: Callable[[StreamFilter], Runner]
    runner: Runner
    network_sha256: bytes
    made_qp: int | None
    decisions: bytes | None = None
    output_md5: bytes | None = None

    @property
    def made_with(self) -> MadeWith:
        """What decisions are made with here."""
        return MadeWith(self.network_sha256, self.made_qp, self.runner.precision)


@dataclass(frozen=True, kw_only=True)
class Filter(Command):
    """Run a CNN filter over any decoder's output, or the one that a stream carries.

    Attributes:
        input: Decoded .yuv or .y4m, video, image, or a VVC stream (.266).
        output: .y4m or .yuv to write.
        model: Name of a bundled network, a network file, or FILE.py:NAME, what makes a module of your own; default: the
            one that the stream carries.
        arch: FILE.py:NAME, what makes the module whose tensors the file has; dncnn.
        layout: How pictures go into a network of your own: planes=y,range=unit,qp=none,output=picture...
        qp: QP that the pictures were coded with, 0 to 63; default: as the stream says, that of each picture's slices.
        filter_id: Of several filters in a stream the one that is to run.
        tile: Side of the tiles, luma samples.
        threads: Threads of the network; default: one per core.
        inference: What computes the network.
        deciding: Decisions by block: how strongly to filter, if at all.
        raw: Raw .yuv files (else taken from a name like x_416x240_50fps_8bit_420.yuv).
        video: Video files.
    """

    input: Positional[Path]
    output: Annotated[OutputPath, arg(aliases=["-o"])]
    model: str | None = None
    arch: str | None = None
    layout: str | None = None
    qp: Annotated[int | None, QP] = None
    filter_id: Annotated[int | None, NATURAL] = None
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
        model = network_path(self.model) if self.model is not None else None
        inputs = [self.input, made_or_read.original, made_or_read.decisions, model]
        check_outputs(inputs, [self.output, made_or_read.decisions_out])
        self._check_options()
        decoded = self._decoded()
        filtering = self._filtering(decoded.stream)
        frames = with_bar(decoded.frames, "filter", decoded.n_pictures)
        written, digest = self._written(filtering, frames, decoded.format_of)
        runner = filtering.runner
        data: dict[str, Any] = {"backend": runner.backend, "precision": runner.precision}
        data |= {"inference": runner.description, "output_md5": digest}
        texts = [written.text]
        if decoded.stream is not None:
            text, verified_data = verified(decoded.stream)
            texts.append(text)
            data = verified_data | data
        if filtering.plan is not None:
            n_filtered = sum(each.filter is not None for each in filtering.plan)
            texts.append(f"{n_filtered} of {len(filtering.plan)} pictures by the stream's own filter")
            data["n_pictures_filtered"] = n_filtered
        texts += filter(None, (runner.description, runner.remark))
        data |= {"remark": runner.remark} if runner.remark else {}
        return with_damage(Outcome("; ".join(texts), written.data | data), decoded.damage)

    def _check_options(self) -> None:
        if self.model is None and (self.arch is not None or self.layout is not None):
            raise InputError("--arch and --layout: are for a --model, and none is given")
        if self.model is not None and self.filter_id is not None:
            raise InputError("--filter-id: chooses a filter of the stream, and --model another; give one of them")
        if self._is_stream:
            return
        if self.model is None or self.qp is None:
            raise InputError(f"{self.input}: is no VVC stream, which might say them: give --model and --qp")
        if self.filter_id is not None:
            raise InputError("--filter-id: chooses a filter of a stream, and this is none")

    @property
    def _is_stream(self) -> bool:
        return SUFFIXES.get(self.input.suffix.lower()) == "vvc"

    def _filtering(self, stream: VvcStream | None) -> _Filtering:
        """The network that the user names, or the filters that the stream carries."""
        if self.model is not None:
            loaded = load_filter(self.model, arch=self.arch, layout=self.layout)
            runner = self._runner(loaded.network, loaded.layout, self.inference.precision)
            sha256 = bytes.fromhex(loaded.sha256)
            if stream is None:
                assert self.qp is not None
                return _Filtering(None, itertools.repeat(self.qp), lambda _: runner, runner, sha256, self.qp)
            with naming(self.input):
                qps = strength_qps(stream, self.qp)
            return _Filtering(None, qps, lambda _: runner, runner, sha256, one_qp(qps))
        assert stream is not None
        with naming(self.input):
            return self._carried(stream, planned_pictures(stream, qp=self.qp, filter_id=self.filter_id))

    def _carried(self, stream: VvcStream, plan: tuple[PlannedPicture, ...]) -> _Filtering:
        first = next(each.filter for each in plan if each.filter is not None)
        settings = first.settings or FilterSettings(filter_id=first.id)
        runners: dict[StreamFilter, Runner] = {}

        def runner_of(found: StreamFilter) -> Runner:
            if found not in runners:
                runners[found] = self._runner(network_of(found), None, settings.precision or self.inference.precision)
            return runners[found]

        decisions = first.decisions.data if first.decisions is not None else None
        if decisions is not None and any(each.filter != first for each in plan):
            raise UnsupportedError("decisions of a stream whose filters change, or do not run on all pictures")
        return _Filtering(
            plan,
            [each.qp for each in plan],
            runner_of,
            runner_of(first),
            sha256_of(bitstream_of(first.base)),
            one_qp([each.qp for each in plan]),
            decisions,
            settings.output_md5 if self.qp is None and self.deciding == DecisionFlags() else None,
        )

    def _runner(self, network: nn.Module, layout: Layout | None, precision: Precision) -> Runner:
        return Runner(
            network,
            layout=layout,
            backend=self.inference.backend,
            precision=precision,
            n_threads=self.threads,
            tile=self.tile,
            device=self.inference.device,
        )

    def _written(self, filtering: _Filtering, frames: Iterator[Frame], format_of: FormatOf) -> tuple[Outcome, str]:
        """What was written, and the MD5 of the filtered pictures."""
        digest = hashlib.md5(usedforsecurity=False)

        def write(filtered: Iterator[Frame]) -> Outcome:
            checked = digested(filtered, digest, filtering.output_md5, str(self.input))
            return write_pictures(self.input, self.output, checked, format_of)

        deciding, name = self.deciding, str(self.input)
        pictures = zip(frames, filtering.qps, strict=False)
        correct = partial(correction_by, filtering.runner)
        if deciding.decisions is not None or (filtering.decisions is not None and deciding.original is None):
            origin = deciding.decisions if deciding.decisions is not None else self.input
            if deciding.decisions is not None:
                sequence = read_decisions(deciding.decisions)
            else:
                assert filtering.decisions is not None
                with naming(origin):
                    sequence = parse_sequence(filtering.decisions)
            with naming(origin):
                sequence.check_made_with(filtering.made_with)
            written = write(filter_as_decided(sequence, pictures, correct, origin=origin, name=name))
        elif deciding.decisions_out is not None:
            made = filter_and_decide(
                self._original(),
                pictures,
                correct,
                deciding.decisions_out,
                write,
                made_with=filtering.made_with,
                wiener=not deciding.no_wiener,
                name=name,
            )
            written = _with_bits(made, deciding.decisions_out)
        elif filtering.plan is None:
            written = write(filtering.runner.filter_frames(pictures))
        else:
            planned = zip(frames, filtering.plan, strict=False)
            written = write(filter_as_planned(planned, filtering.runner_of))
        return written, digest.hexdigest()

    def _decoded(self) -> _Decoded:
        if self._is_stream:
            if self.video.stream is not None or self.video.allow_damaged:
                raise InputError(f"{self.input}: --stream and --allow-damaged are for video files, this is a stream")
            if self.raw.bit_depth is not None or (self.raw.chroma_format and self.deciding.original is None):
                raise InputError(f"{self.input}: --bit-depth and --chroma-format are for raw files, this is a stream")
            width, height = self.raw.size or (None, None)
            stream = vvc_stream(self.input)
            frames = decode_vvc(stream, width=width, height=height)
            return _Decoded(frames, len(stream.output_order), stated(stream, self.raw.fps).holding, None, stream)
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
