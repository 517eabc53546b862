"""The command filter: a network over decoded pictures, everywhere or as the encoder decides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from torch import nn
from tyro.conf import Positional, UseAppendAction, arg

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.sei import SUFFIXES
from vvc_nnr.codec.slice_qp import picture_qps
from vvc_nnr.codec.vvc_stream import VvcStream
from vvc_nnr.errors import BitstreamError, InputError, UnsupportedError
from vvc_nnr.experiments.cli.codec import (
    FormatOf,
    size_misfit,
    stated,
    verified,
    vvc_stream,
    with_bar,
    with_damage,
    with_outside,
    with_warnings,
    write_pictures,
)
from vvc_nnr.experiments.cli.common import Command, Outcome, check_outputs
from vvc_nnr.experiments.cli.kinds import BIT_DEPTH, FOLDER, NATURAL, POSITIVE, QP, QP_CANDIDATES, THREADS, OutputPath
from vvc_nnr.experiments.cli.pictures import InferenceFlags, RawFlags, VideoFlags, original_of, source_of
from vvc_nnr.experiments.cli.score import score_data, score_notes, score_table
from vvc_nnr.experiments.runs.networks import PAPER_NETWORKS
from vvc_nnr.files import check_regular_file, make_folder, naming, read_bytes
from vvc_nnr.filters.bundled import name_by_hash, network_path
from vvc_nnr.filters.decisions.block_decisions import correction_by
from vvc_nnr.filters.decisions.sequence import MadeDecisions, filter_and_decide, filter_as_decided, read_decisions
from vvc_nnr.filters.decisions.sequence_file import check_candidates, parse_sequence
from vvc_nnr.filters.filtering import Filtering, filtering_at_qp, filtering_by, filtering_of
from vvc_nnr.filters.in_stream import digested
from vvc_nnr.filters.inference.choice import Precision, chosen_backend
from vvc_nnr.filters.inference.runner import DEFAULT_TILE, Runner
from vvc_nnr.filters.inference.tiles import check_tile
from vvc_nnr.filters.inference.torch import choose_device
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.told_qp import PictureQps, QpRule, parse_candidate
from vvc_nnr.filters.zoo import LOOP_FILTERS_KEY, LoadedNetwork, load_filter
from vvc_nnr.network_file import NNC_SUFFIX, is_nnc
from vvc_nnr.sequences.containers import container_name_of, taking_out
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.metrics import BeforeAndAfter, check_comparable, mean_scores, peak_value
from vvc_nnr.sequences.source import VIDEO_SUFFIXES, Source
from vvc_nnr.sequences.yuv import qps_from_name

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
        original_stream: Of an --original with several videos the one of this index among all streams (ffprobe's #0:N).
        decisions_out: Encoder: the coded decisions to write.
        wiener: Encoder: fit a Wiener filter to each picture, behind the network; so it is without a word.
        no_wiener: Encoder: fit none.
        decisions: Decoder: the coded decisions to carry out.
        qp_candidates: Encoder: what it may tell the network beside its own QP, picture by picture: slice, 27, +5 ...
    """

    original: Path | None = None
    original_bit_depth: Annotated[int | None, BIT_DEPTH] = None
    original_stream: Annotated[int | None, NATURAL] = None
    decisions_out: Annotated[OutputPath | None, arg(metavar="FILE")] = None
    wiener: bool = False
    no_wiener: bool = False
    decisions: Path | None = None
    qp_candidates: Annotated[tuple[str, ...], QP_CANDIDATES] = ()

    @property
    def makes_none(self) -> bool:
        """Whether decisions are neither made nor given."""
        return self.decisions_out is None and self.decisions is None

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
        if self.qp_candidates and self.decisions_out is None:
            raise InputError("--qp-candidates: are the encoder's, and there is no --decisions-out")
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
        frames: The pictures, as a decoder gives them.
        n_pictures: How many, None where it is not known.
        format: That of the first one, as the user wants it.
        format_of: What their file states of each.
        damage: What is damaged in their file.
        verified: How many of a stream's pictures are held against a hash, as text.
        verified_data: The same as data.
        stream: What the headers of a VVC stream say, None of other files.
        size: Width and height that the user wants of a stream's pictures; None: those of the stream.
        n_outside_edit_list: As that of `Source`.
    """

    frames: Iterator[Frame]
    n_pictures: int | None
    format: VideoFormat
    format_of: FormatOf
    damage: str | None
    verified: str = ""
    verified_data: Mapping[str, object] = field(default_factory=dict)
    stream: VvcStream | None = None
    size: tuple[int, int] | None = None
    n_outside_edit_list: int = 0


@dataclass(frozen=True, slots=True)
class _Job:
    """One file to filter: where from, and where to."""

    input: Path
    output: Path

    @property
    def is_stream(self) -> bool:
        """Whether it is a VVC stream, by its name."""
        return SUFFIXES.get(self.input.suffix.lower()) == "vvc"


@dataclass(frozen=True, kw_only=True)
class Filter(Command):
    """Run a CNN filter over any decoder's output, or the one that a stream carries.

    Attributes:
        input: Decoded .yuv or .y4m, videos, images, or VVC streams (.266).
        output: .y4m or .yuv to write, one for each input.
        out_dir: Folder to write into, under the inputs' names, instead of --output.
        model: Name of a bundled network, a network file, or FILE.py:NAME, what makes a module of your own; default: the
            one that the stream carries.
        qp: QP that the pictures were coded with, 0 to 63; default: as a stream says, that of each picture's slices; of
            other files that of the name, as in x_qp32.yuv; a network that takes none needs none.
        arch: FILE.py:NAME, what makes the module whose tensors the file has; dncnn.
        layout: How pictures go into a network of your own: planes=y,range=unit,qp=none,output=picture...
        base: Coded network (.nnc) of your own that a stream names by its hash; given again, further ones.
        filter_id: Of several filters in a stream the one that is to run.
        output_bit_depth: Bits per sample of the output, at least those of the pictures, up to 16, to which what the
            network gives is rounded; default: those of the pictures.
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
    model: str | None = None
    qp: Annotated[int | None, QP] = None
    arch: str | None = None
    layout: str | None = None
    base: UseAppendAction[tuple[Path, ...]] = ()
    filter_id: Annotated[int | None, NATURAL] = None
    output_bit_depth: Annotated[int | None, BIT_DEPTH] = None
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
        self._candidates()
        self._check_inference()
        jobs = self._jobs()
        model = network_path(self.model) if self.model is not None else None
        inputs = [*self.input, made_or_read.original, made_or_read.decisions, model, *self.base]
        check_outputs(inputs, [*(job.output for job in jobs), made_or_read.decisions_out])
        loaded = None if self.model is None else load_filter(self.model, arch=self.arch, layout=self.layout)
        if loaded is None or self._needs_qp(loaded):
            for path in (job.input for job in jobs if not job.is_stream):
                self._qp_of(path)
        runner = None if loaded is None else self._named_runner(loaded)
        found = []  # what cannot be read is known before any is filtered
        for job in jobs:
            decoded = self._decoded(job)
            with naming(job.input):
                self._check_depth(decoded.format.bit_depth)
                of_range = None if runner is None else runner.in_range(decoded.format.colour_range)
                found.append((job, decoded, self._filtering(job, decoded.stream, loaded, of_range)))
        if self.out_dir is not None:
            make_folder(self.out_dir)
        outcomes = [self._filtered(job, decoded, filtering) for job, decoded, filtering in found]
        if len(outcomes) == 1:
            return outcomes[0]
        return Outcome("\n".join(each.text for each in outcomes), {"files": [each.data for each in outcomes]})

    def _check_inference(self) -> None:
        """Raises InputError for what no network can be computed with here; of a stream's filter, as far as is said."""
        inference = self.inference
        with naming("--tile"):
            check_tile(self.tile)
        with naming("--device"):
            choose_device(inference.device)
        if self.model is not None or inference.precision is not None:
            with naming("--backend"):
                chosen_backend(inference.backend, self.inference.precision or "float32", inference.device)

    def _candidates(self) -> list[QpRule]:
        """What the encoder may tell the network beside its own QP, by rules that a decoder can follow."""
        rules = [_for_decoders(parse_candidate(text), self.qp) for text in self.deciding.qp_candidates]
        check_candidates(rules)
        return rules

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
        if self.model is None and (self.arch is not None or self.layout is not None):
            raise InputError("--arch and --layout: are for a --model, and none is given")
        if self.model is not None and self.base:
            raise InputError("--base: is of the filter that a stream carries, and --model another; give one of them")
        if self.model is not None and self.filter_id is not None:
            raise InputError("--filter-id: chooses a filter of the stream, and --model another; give one of them")
        outputs = self.output or tuple(self._in_folder(path) for path in self.input)
        jobs = [_Job(path, out) for path, out in zip(self.input, outputs, strict=True)]
        if files := [job.input for job in jobs if not job.is_stream]:
            if self.model is None and SUFFIXES.get(files[0].suffix.lower()) is not None:
                raise InputError(
                    f"{files[0]}: filters that AVC and HEVC streams carry are listed and taken out (vvc-nnr sei list, "
                    "extract), not run: give --model, the one that you take out or another"
                )
            if self.model is None:
                is_video = files[0].suffix.lower() in VIDEO_SUFFIXES
                command = taking_out("vvc", container_name_of(files[0]))
                or_stream = f", or the VVC stream that is in it ({command})" if is_video else ""
                raise InputError(f"{files[0]}: is no VVC stream, which might carry a network: give --model{or_stream}")
            if self.filter_id is not None:
                raise InputError(f"--filter-id: chooses a filter of a stream, and {files[0]} is none")
        if self.output_bit_depth is not None and not self.deciding.makes_none:
            raise InputError("--output-bit-depth: decisions are of pictures of the input's bit depth; omit it")
        return jobs

    def _in_folder(self, path: Path) -> Path:
        assert self.out_dir is not None
        return self.out_dir / (path.name if path.suffix.lower() in (".yuv", ".y4m") else f"{path.stem}.y4m")

    def _qp_of(self, path: Path) -> int:
        if self.qp is not None:
            return self.qp
        if path.is_dir():
            check_regular_file(path)
        said = qps_from_name(path.name)
        if len(said) != 1 or not isinstance(said[0], int) or said[0] > 63:
            got = f"says QP {' and '.join(map(str, said))}" if said else "says no QP, as x_qp32.yuv would"
            raise InputError(f"{path}: its name {got}; give --qp, 0 to 63")
        return said[0]

    def _needs_qp(self, network: LoadedNetwork) -> bool:
        return not self.deciding.makes_none or network.layout is None or network.layout.takes_qp

    def _check_depth(self, bit_depth: int) -> None:
        """Raises InputError if the output is to have fewer bits per sample than pictures of a bit depth."""
        if self.output_bit_depth is not None and self.output_bit_depth < bit_depth:
            raise InputError(
                f"--output-bit-depth {self.output_bit_depth}: must be at least the {bit_depth} bit of its pictures"
            )

    def _named_runner(self, loaded: LoadedNetwork) -> Runner:
        with naming(loaded.path):
            return self._runner(loaded.network, self.inference.precision or "float32", loaded.layout)

    def _filtering(
        self, job: _Job, stream: VvcStream | None, loaded: LoadedNetwork | None, runner: Runner | None
    ) -> Filtering:
        """The network that the user names, or the filters that the stream carries."""
        if loaded is not None and runner is not None:
            if stream is not None:
                return filtering_by(loaded, runner, stream, self.qp)
            qp = self._qp_of(job.input) if self._needs_qp(loaded) else self.qp
            return filtering_at_qp(loaded, runner, qp)
        assert stream is not None
        return filtering_of(
            stream,
            self._runner,
            precision=self.inference.precision,
            qp=self.qp,
            filter_id=self.filter_id,
            bases=self._bases(),
            own_decisions=self.deciding.makes_none,
            output_bit_depth=self.output_bit_depth,
        )

    def _bases(self) -> dict[str, bytes]:
        """The coded networks that a stream may name, by their names."""
        if unknown := [path for path in self.base if not is_nnc(path)]:
            raise InputError(f"--base {unknown[0]}: must be a coded network ({NNC_SUFFIX}), whose hash the stream has")
        return {name_by_hash(data): data for data in map(read_bytes, self.base)}

    def _runner(self, network: nn.Module, precision: Precision, layout: Layout | None = None) -> Runner:
        return Runner(
            network,
            layout=layout,
            backend=self.inference.backend,
            precision=precision,
            n_threads=self.threads,
            tile=self.tile,
            device=self.inference.device,
            output_bit_depth=self.output_bit_depth,
        )

    def _filtered(self, job: _Job, decoded: _Decoded, filtering: Filtering) -> Outcome:
        scores, runner = self._scores(job, decoded), filtering.runner
        frames = with_bar(decoded.frames, "filter", decoded.n_pictures)
        # What a stream says of its filter is of the pictures that a decoder gives; decisions are of the user's size.
        runs_as_sent = filtering.plan is not None and filtering.decisions is None and self.deciding.makes_none
        size_behind = decoded.size if runs_as_sent else None
        if size_behind is None:
            frames = _cropped(frames, decoded.size)
        taken = scores.taking(frames, size_behind) if scores else frames
        written, digest = self._written(filtering, job, taken, decoded.format_of, scores, size_behind)
        data: dict[str, Any] = {"backend": runner.backend, "precision": runner.precision}
        data |= {"inference": runner.description, "output_md5": digest}
        data |= {"remark": runner.remark} if runner.remark else {}
        own = ""
        if filtering.plan is not None:
            own = f"{filtering.n_filtered} of {len(filtering.plan)} pictures by the stream's own filter"
            data["n_pictures_filtered"] = filtering.n_filtered
        warnings = [_filter_misfit(filtering.loaded, decoded), _qp_misfit(self.qp, decoded)]
        if decoded.stream is not None:
            warnings.append(size_misfit(decoded.stream.first.format, decoded.size))
        text = "; ".join(filter(None, (written.text, decoded.verified, own, runner.description, runner.remark)))
        if filtering.ignored:
            text += f"\n{job.input}: carries what is not used with these options: {'; '.join(filtering.ignored)}"
            data["ignored"] = list(filtering.ignored)
        data = {**written.data, "qp": filtering.made_qp, **decoded.verified_data, **data}
        outcome = with_warnings(Outcome(text, data), job.input, warnings)
        outcome = with_damage(with_outside(outcome, decoded.n_outside_edit_list), decoded.damage)
        return _with_scores(outcome, scores, decoded.format.bit_depth, self.output_bit_depth) if scores else outcome

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
        self,
        filtering: Filtering,
        job: _Job,
        frames: Iterator[Frame],
        format_of: FormatOf,
        scores: BeforeAndAfter | None,
        size: tuple[int, int] | None,
    ) -> tuple[Outcome, str]:
        """What was written, cropped to a size behind the filter, and the MD5 of the filtered pictures before that."""
        digest = hashlib.md5(usedforsecurity=False)

        def write(filtered: Iterator[Frame]) -> Outcome:
            checked = _cropped(digested(filtered, digest, filtering.output_md5, str(job.input)), size)
            return write_pictures(job.input, job.output, scores.giving(checked) if scores else checked, format_of)

        deciding, name = self.deciding, str(job.input)
        correct = partial(correction_by, filtering.runner)
        carried = filtering.decisions if deciding.decisions_out is None else None
        if deciding.decisions is not None or carried is not None:
            origin = job.input if deciding.decisions is None else deciding.decisions
            with naming(origin):
                sequence = parse_sequence(carried) if carried is not None and deciding.decisions is None else None
                sequence = sequence or read_decisions(origin)
                sequence.check_made_with(filtering.made_with)
            told = filtering.told_qps(sequence.candidates)
            pictures = zip(frames, told, strict=False)
            written = write(filter_as_decided(sequence, pictures, correct, origin=origin, name=name))
        elif deciding.decisions_out is not None:
            rules = self._candidates()
            made = filter_and_decide(
                self._original(),
                zip(frames, filtering.told_qps(rules), strict=False),
                correct,
                deciding.decisions_out,
                write,
                made_with=filtering.made_with,
                wiener=not deciding.no_wiener,
                name=name,
                coded_qps=filtering.coded_qps,
                candidates=rules if rules or filtering.is_inter else None,
            )
            written = _with_bits(made, deciding.decisions_out)
        else:
            written = write(filtering.filtered(frames, self.output_bit_depth))
        return written, digest.hexdigest()

    def _decoded(self, job: _Job) -> _Decoded:
        path = job.input
        if job.is_stream:
            if self.video.stream is not None or self.video.allow_damaged:
                raise InputError(f"{path}: --stream and --allow-damaged are for video files, this is a stream")
            if self.raw.bit_depth is not None or (self.raw.chroma_format and self.deciding.original is None):
                raise InputError(f"{path}: --bit-depth and --chroma-format are for raw files, this is a stream")
            width, height = self.raw.size or (None, None)
            stream = vvc_stream(path, self.raw.fps)
            text, data = verified(stream)
            format = stated(stream, self.raw.fps)
            cropped = replace(format, width=width or format.width, height=height or format.height)
            return _Decoded(
                decode_vvc(stream),
                len(stream.output_order),
                cropped,
                format.holding,
                None,
                text,
                data,
                stream,
                self.raw.size,
            )
        source = source_of(path, self.raw, self.video)
        return _Decoded(
            source.frames(),
            source.n_pictures,
            source.format,
            source.format.holding,
            source.damage(),
            n_outside_edit_list=source.n_outside_edit_list,
        )

    def _original(self) -> Source:
        deciding = self.deciding
        assert deciding.original is not None
        return original_of(deciding.original, self.raw, deciding.original_bit_depth, deciding.original_stream)


def _cropped(frames: Iterator[Frame], size: tuple[int, int] | None) -> Iterator[Frame]:
    """Pictures cropped to a width and height, or as they are."""
    return frames if size is None else (frame.cropped(*size) for frame in frames)


def _for_decoders(rule: QpRule, base: int | None) -> QpRule:
    """A rule that a decoder can follow, which does not know the QP that the encoder was asked for."""
    return QpRule("qp", rule.qp(PictureQps(0, 0, base))) if rule.anchor == "base" else rule


def _qp_misfit(qp: int | None, decoded: _Decoded) -> str:
    """How far a given QP is from that of a stream's first picture, beyond usual offsets of intra pictures."""
    if qp is None or decoded.stream is None:
        return ""
    try:
        coded_qp = picture_qps(decoded.stream)[decoded.stream.output_order[0]]
    except (BitstreamError, UnsupportedError):  # where it is not read, nothing is said
        return ""
    if abs(coded_qp - qp) <= MAX_QP_OFFSET:
        return ""
    return f"its first picture was coded with QP {coded_qp}, and the network is given QP {qp}"


def _filter_misfit(network: LoadedNetwork | None, decoded: _Decoded) -> str:
    """What of a stream's in-loop filters does not go with the place that a network says it was trained for."""
    in_loop_filters = None if decoded.stream is None else decoded.stream.first.in_loop_filters
    if in_loop_filters is None or network is None:
        return ""
    place = network.metadata.get(LOOP_FILTERS_KEY) or _PLACES.get(network.name, "")
    if place == "none" and in_loop_filters:
        there = ", ".join(in_loop_filters)
        return f"{network.name} takes the place of all in-loop filters, and the stream has {there} on"
    if place == "all" and not in_loop_filters:
        return f"{network.name} goes after the in-loop filters, and the stream has none on"
    return ""


def _with_scores(outcome: Outcome, scores: BeforeAndAfter, bit_depth: int, output_bit_depth: int | None) -> Outcome:
    """The outcome with the mean scores before and after the filter, and the peaks where the bit depths differ."""
    before, after = mean_scores(scores.before), mean_scores(scores.after)
    lines = [outcome.text, score_table([("before", before), ("after", after)]), *score_notes([before])]
    if output_bit_depth not in (None, bit_depth):
        peaks = [f"{peak_value(depth)} at {depth} bit" for depth in (bit_depth, output_bit_depth)]
        lines.append(f"PSNR peak: {peaks[0]} before, {peaks[1]} after; the original is shifted to each.")
    return Outcome("\n".join(lines), outcome.data | {"before": score_data(before), "after": score_data(after)})


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
