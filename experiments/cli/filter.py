"""The command filter: a network over decoded pictures, everywhere or as the encoder decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.cli.codec import FormatOf, stated, verified, vvc_stream, with_bar, with_damage, write_pictures
from vvc_nnr.experiments.cli.common import Command, Outcome, check_outputs
from vvc_nnr.experiments.cli.kinds import BIT_DEPTH, FOLDER, NATURAL, POSITIVE, QP, THREADS, OutputPath
from vvc_nnr.experiments.cli.pictures import InferenceFlags, RawFlags, VideoFlags, original_of, source_of
from vvc_nnr.experiments.cli.score import score_data, score_table
from vvc_nnr.experiments.runs.networks import PAPER_NETWORKS
from vvc_nnr.files import make_folder, naming
from vvc_nnr.filters.bundled import network_path
from vvc_nnr.filters.decisions.block_decisions import correction_by
from vvc_nnr.filters.decisions.sequence import MadeDecisions, filter_and_decide, filter_as_decided
from vvc_nnr.filters.inference.runner import DEFAULT_TILE, Runner
from vvc_nnr.filters.zoo import LOOP_FILTERS_KEY, LoadedNetwork, load_filter
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.scores import BeforeAndAfter, check_comparable, mean_scores
from vvc_nnr.sequences.source import Source
from vvc_nnr.sequences.yuv_name import qps_from_name

VVC_SUFFIXES = (".266", ".vvc")
MAX_QP_OFFSET = 4
"""Encoders code intra pictures up to so much off the QP that they are given."""
_PLACES = dict(zip(PAPER_NETWORKS, ("none", "all"), strict=True))
"""Of the bundled networks whose files do not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionFlags:
    """Decisions by block: how strongly to filter, if at all.

    Attributes:
        original: The pictures before coding: scores before and after are printed, and decisions may be made.
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
        if self.decisions_out is not None and self.decisions is not None:
            raise InputError("--decisions: is the decoder's, and --decisions-out the encoder's; give one of them")
        if self.decisions_out is not None and self.original is None:
            raise InputError("--decisions-out: there is no --original to decide by")
        if self.wiener and self.no_wiener:
            raise InputError("--wiener and --no-wiener: contradict each other")
        if (self.wiener or self.no_wiener) and self.decisions_out is None:
            raise InputError("--wiener, --no-wiener: are the encoder's, and there is no --decisions-out")
        if self.original is not None:
            return
        if self.original_bit_depth is not None:
            raise InputError("--original-bit-depth: there is no --original")
        if self.original_stream is not None:
            raise InputError("--original-stream: there is no --original")


@dataclass(frozen=True, slots=True)
class _Decoded:
    """The pictures to filter.

    Attributes:
        frames: The pictures.
        n_pictures: How many, None where it is not known.
        format: That of the first one.
        format_of: What their file states of each.
        damage: What is damaged in their file.
        verified: How many of a stream's pictures are held against a hash, as text.
        verified_data: The same as data.
        in_loop_filters: Those that a stream has on, None where that is not known.
        coded_qp: The QP of a stream's first picture, None likewise.
    """

    frames: Iterator[Frame]
    n_pictures: int | None
    format: VideoFormat
    format_of: FormatOf
    damage: str | None
    verified: str = ""
    verified_data: Mapping[str, object] = field(default_factory=dict)
    in_loop_filters: tuple[str, ...] | None = None
    coded_qp: int | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    """One file to filter: where from, where to, and the QP that it was coded with."""

    input: Path
    output: Path
    qp: int


@dataclass(frozen=True, kw_only=True)
class Filter(Command):
    """Run a CNN filter over any decoder's output.

    Attributes:
        input: Decoded .yuv or .y4m, videos, images, or VVC streams (.266).
        output: .y4m or .yuv to write, one for each input.
        out_dir: Folder to write into, under the inputs' names, instead of --output.
        model: Name of a bundled network, a network file, or FILE.py:NAME, what makes a module of your own.
        qp: QP that the pictures were coded with, 0 to 63; default: that of each file's name, as in x_qp32.yuv.
        arch: FILE.py:NAME, what makes the module whose tensors the file has; dncnn.
        layout: How pictures go into a network of your own: planes=y,range=unit,qp=none,output=picture...
        tile: Side of the tiles, luma samples.
        threads: Threads of the network; default: one per core.
        inference: What computes the network.
        deciding: Decisions by block: how strongly to filter, if at all.
        raw: Raw .yuv files (else taken from a name like x_416x240_50fps_8bit_420.yuv).
        video: Video files.
    """

    input: Positional[tuple[Path, ...]]
    output: Annotated[UseAppendAction[tuple[OutputPath, ...]], arg(aliases=["-o"])] = ()
    out_dir: Annotated[Path | None, FOLDER] = None
    model: str
    qp: Annotated[int | None, QP] = None
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
        jobs = self._jobs()
        inputs = [*self.input, made_or_read.original, made_or_read.decisions, network_path(self.model)]
        check_outputs(inputs, [*(job.output for job in jobs), made_or_read.decisions_out])
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
        found = [(job, self._decoded(job.input)) for job in jobs]  # what cannot be read is known before any is filtered
        if self.out_dir is not None:
            make_folder(self.out_dir)
        outcomes = [self._filtered(runner, loaded, job, decoded) for job, decoded in found]
        if len(outcomes) == 1:
            return outcomes[0]
        return Outcome("\n".join(each.text for each in outcomes), {"files": [each.data for each in outcomes]})

    def _jobs(self) -> list[_Job]:
        if not self.input:
            raise InputError("missing: INPUT, the pictures to filter")
        if self.out_dir is None and not self.output:
            raise InputError("missing: --output/-o, or --out-dir")
        if self.out_dir is not None and self.output:
            raise InputError("--output/-o and --out-dir: contradict each other")
        if self.output and len(self.output) != len(self.input):
            raise InputError(f"--output/-o: {len(self.output)} for {len(self.input)} inputs; must be one for each")
        if len(self.input) > 1 and (self.deciding.decisions or self.deciding.decisions_out):
            raise InputError(f"--decisions, --decisions-out: are for one input, got {len(self.input)}")
        outputs = self.output or tuple(self._in_folder(path) for path in self.input)
        return [_Job(path, out, self._qp_of(path)) for path, out in zip(self.input, outputs, strict=True)]

    def _in_folder(self, path: Path) -> Path:
        assert self.out_dir is not None
        return self.out_dir / (path.name if path.suffix.lower() in (".yuv", ".y4m") else f"{path.stem}.y4m")

    def _qp_of(self, path: Path) -> int:
        if self.qp is not None:
            return self.qp
        said = qps_from_name(path.name)
        if len(said) != 1 or said[0] > 63:
            got = f"says QP {' and '.join(map(str, said))}" if said else "says no QP, as x_qp32.yuv would"
            raise InputError(f"{path}: its name {got}; give --qp, 0 to 63")
        return said[0]

    def _filtered(self, runner: Runner, loaded: LoadedNetwork, job: _Job, decoded: _Decoded) -> Outcome:
        scores = self._scores(job, decoded)
        frames = with_bar(decoded.frames, "filter", decoded.n_pictures)
        written = self._written(runner, job, scores.taking(frames) if scores else frames, decoded.format_of, scores)
        inference = {"backend": runner.backend, "precision": runner.precision, "inference": runner.description}
        warnings = [each for each in (_filter_misfit(loaded, decoded), _qp_misfit(job.qp, decoded)) if each]
        inference |= {"remark": runner.remark} if runner.remark else {}
        text = "; ".join(filter(None, (written.text, decoded.verified, runner.description, runner.remark)))
        text += "".join(f"\n{job.input}: warning: {each}" for each in warnings)
        data = {**written.data, "qp": job.qp, **decoded.verified_data, **inference}
        data |= {"warnings": warnings} if warnings else {}
        outcome = with_damage(Outcome(text, data), decoded.damage)
        return _with_scores(outcome, scores) if scores else outcome

    def _scores(self, job: _Job, decoded: _Decoded) -> BeforeAndAfter | None:
        """What scores the pictures; None without an original, or where decisions are made for what cannot be scored."""
        if self.deciding.original is None:
            return None
        original = self._original()
        try:
            with naming(job.input):
                check_comparable(original.format, decoded.format)
        except InputError:
            if self.deciding.decisions_out is not None:
                return None
            raise
        return BeforeAndAfter(original, str(job.input))

    def _written(
        self, runner: Runner, job: _Job, frames: Iterator[Frame], format_of: FormatOf, scores: BeforeAndAfter | None
    ) -> Outcome:
        def write(filtered: Iterator[Frame]) -> Outcome:
            return write_pictures(job.input, job.output, scores.giving(filtered) if scores else filtered, format_of)

        deciding, name = self.deciding, str(job.input)
        correct = partial(correction_by, runner, qp=job.qp)
        if deciding.decisions is not None:
            return write(filter_as_decided(deciding.decisions, frames, correct, name=name))
        if deciding.decisions_out is None:
            return write(runner.filter_frames((frame, job.qp) for frame in frames))
        made = filter_and_decide(
            self._original(),
            frames,
            correct,
            deciding.decisions_out,
            write,
            qp=job.qp,
            wiener=not deciding.no_wiener,
            name=name,
        )
        return _with_bits(made, deciding.decisions_out)

    def _decoded(self, path: Path) -> _Decoded:
        if path.suffix.lower() in VVC_SUFFIXES:
            if self.video.stream is not None or self.video.allow_damaged:
                raise InputError(f"{path}: --stream and --allow-damaged are for video files, this is a stream")
            if self.raw.bit_depth is not None or (self.raw.chroma_format and self.deciding.original is None):
                raise InputError(f"{path}: --bit-depth and --chroma-format are for raw files, this is a stream")
            width, height = self.raw.size or (None, None)
            stream = vvc_stream(path)
            frames = decode_vvc(stream, width=width, height=height)
            text, data = verified(stream)
            format = stated(stream, self.raw.fps)
            cropped = replace(format, width=width or format.width, height=height or format.height)
            return _Decoded(
                frames,
                len(stream.output_order),
                cropped,
                format.holding,
                None,
                text,
                data,
                stream.first.in_loop_filters,
                stream.first.qp,
            )
        source = source_of(path, self.raw, self.video)
        return _Decoded(source.frames(), source.n_pictures, source.format, source.format.holding, source.damage())

    def _original(self) -> Source:
        deciding = self.deciding
        assert deciding.original is not None
        return original_of(deciding.original, self.raw, deciding.original_bit_depth, deciding.original_stream)


def _qp_misfit(qp: int, decoded: _Decoded) -> str:
    """How far the given QP is from that of a stream's first picture, beyond usual offsets of intra pictures."""
    if decoded.coded_qp is None or abs(decoded.coded_qp - qp) <= MAX_QP_OFFSET:
        return ""
    return f"its first picture was coded with QP {decoded.coded_qp}, and the network is given QP {qp}"


def _filter_misfit(network: LoadedNetwork, decoded: _Decoded) -> str:
    """What of a stream's in-loop filters does not go with the place that a network says it was trained for."""
    in_loop_filters = decoded.in_loop_filters
    if in_loop_filters is None:
        return ""
    place = network.metadata.get(LOOP_FILTERS_KEY) or _PLACES.get(network.name, "")
    if place == "none" and in_loop_filters:
        there = ", ".join(in_loop_filters)
        return f"{network.name} takes the place of all in-loop filters, and the stream has {there} on"
    if place == "all" and not in_loop_filters:
        return f"{network.name} goes after the in-loop filters, and the stream has none on"
    return ""


def _with_scores(outcome: Outcome, scores: BeforeAndAfter) -> Outcome:
    """The outcome with the mean scores of the pictures before and after the filter."""
    before, after = mean_scores(scores.before), mean_scores(scores.after)
    table = score_table([("before", before), ("after", after)])
    return Outcome(
        f"{outcome.text}\n{table}", outcome.data | {"before": score_data(before), "after": score_data(after)}
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
