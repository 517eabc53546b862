"""The tool-by-tool experiment: CNNs in the place of, or after, the in-loop filters of VVC pictures.

```
 picture ─ encode ─┬─ filters "all" ─────────── decode ─┬─ the codec alone (anchor)
                   │                                    └─ post-filters, with each of their weights ─┐
                   ├─ filters "deblock-sao" ─── decode ─── the codec alone (VTM 1.0's filters)       │
                   └─ filters "none" ────────── decode ─┬─ the codec alone                           │
                                                        └─ replacements, with each of their weights ─┤
                                     full strength everywhere / as the encoder decides, from coded   │
                                     decisions / so, with Wiener filters fitted to the picture   ◀───┘
```

Pictures are encoded and decoded here (`CodedHere`), or were so elsewhere (`manifest.ListedPictures`); from there on
there is one path. Inter pictures are coded with all filters alone: what took a filter's place would have to run inside
the encoder, since other pictures are predicted from what it makes.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, TypeVar

import numpy as np
from torch import nn
from tqdm import tqdm

from vvc_nnr.codec.configuration import ALL_INTRA, CONFIGURATIONS, ConfigName
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import EncoderName, VvcEncoder, encoder_identity, encoder_title
from vvc_nnr.codec.sequence import CodedPicture, LoopFilters, Preset, Sao, VvcOptions
from vvc_nnr.codec.vvc_stream import read_vvc_stream
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.provenance import SAO_NOTES, VTM_FILTERS_NOTE
from vvc_nnr.experiments.records.rows import ToolRow, Way
from vvc_nnr.experiments.records.settings import InputDigests, digest_of, source_digests
from vvc_nnr.experiments.records.tsv import RowWriter
from vvc_nnr.experiments.records.viewer_pictures import decoded_name, filtered_name, original_name, store_picture
from vvc_nnr.experiments.records.weights import NO_WEIGHTS, Compression, check_once
from vvc_nnr.experiments.runs.joint_ways import JointWays
from vvc_nnr.experiments.runs.networks import (
    BOTH_MODES,
    PAPER_NETWORKS,
    GivenNetwork,
    NetworkState,
    check_photographs,
)
from vvc_nnr.files import naming
from vvc_nnr.filters.decisions.block_decisions import (
    BLOCK_SIZES,
    STRENGTH_UNIT,
    UNIT_CHOICE,
    Correction,
    Decisions,
    apply_decisions,
    block_grid,
    correction_by,
)
from vvc_nnr.filters.decisions.coding import decode_decisions, encode_decisions
from vvc_nnr.filters.decisions.search import decide, with_wiener_filters
from vvc_nnr.filters.decisions.sequence_file import check_candidates
from vvc_nnr.filters.in_stream import qps_of_pictures
from vvc_nnr.filters.inference.choice import BackendChoice, Precision
from vvc_nnr.filters.inference.runner import DEFAULT_TILE, Runner
from vvc_nnr.filters.networks.layout import Layout
from vvc_nnr.filters.networks.told_qp import DEFAULT_RULE, PictureQps, QpRule, parse_rule
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.metrics import Peak, comparable, picture_scores
from vvc_nnr.sequences.source import VIDEO_SUFFIXES, Source

DecisionMode: TypeAlias = Literal["off", "on", "wiener"]
"""Networks at full strength only; also as the encoder decides; also with Wiener filters behind those decisions."""
LOOP_FILTER_SETS: tuple[LoopFilters, ...] = ("all", "deblock-sao", "none")
Coding: TypeAlias = tuple[ConfigName, LoopFilters]
"""How a codec makes pictures: in which configuration, and with which of its in-loop filters."""
ANCHOR_FILTERS: LoopFilters = "all"
CODED_HERE_RATE = "bits of the coded pictures and of their decisions; the network's bits only where a table says so"
WAYS_OF: dict[DecisionMode, tuple[Way, ...]] = {
    "off": ("full",),
    "on": ("full", "decisions"),
    "wiener": ("full", "decisions", "wiener"),
}
"""The ways that a network runs in, the strongest last."""
_ItemT = TypeVar("_ItemT")


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """What the experiment runs.

    Attributes:
        qps: QPs to encode at.
        configs: Coding configurations: ai (all intra), ra (random access), ldb (low delay B).
        preset: libvvenc's preset.
        max_pictures: Pictures per sequence at most, from the first on; None for all. As all of them determine how inter
            pictures are coded, their number stays the same in a folder with such pictures.
        psnr_peak: Peak of PSNR.
        tile: Side of the filter's tiles in luma samples.
        device: Where the networks run.
        backend: What computes the networks.
        precision: What they are computed in.
        n_threads: Threads of the encoder, and of the networks.
        sao: Whether the filter sets "all" and "deblock-sao" have SAO, or as the preset has it.
        encoder: Which VVC encoder.
        encoder_config: VTM's cfg/encoder_intra_vtm.cfg, or that of the configuration; given again, further files behind
            it. For one of several configurations NAME=FILE, as in ra=cfg/encoder_randomaccess_vtm.cfg.
        encoder_arguments: A further argument for VTM or vvencapp, as in --LMCSEnable=0.
        networks: Names of the zoo, files, or FILE.py:NAME functions. A coded network (.nnc) is run as its file has it.
        replacements: Those that take the place of the codec's in-loop filters, by name or as in `networks`; the others
            stand where their file says, else after all in-loop filters.
        originals: Networks as trained that some of the files were coded from, each by the same name or as NAME=FILE.
        archs: What makes the module of a file that does not say it: FILE.py:NAME. For one of several networks
            NAME=FILE.py:NAME.
        layouts: How pictures go into networks of your own, such as planes=y,output=residual. For one of several
            NAME=LAYOUT.
        compressions: What each network as trained is stored with and decoded from.
        decisions: Whether the encoder decides where and how strongly the networks run.
        qp_candidates: What it may tell a network beside its own QP, picture by picture: slice, first+3, base, 27 ...
            (docs/sei.md); decisions have to be on.
        photographs: Folder of photographs for the compression "calibrated".
        n_crops: Crops of them that it follows, and as many that measure its loss: fewer are sooner done. Default: 48.
        accept_small: Crops may be smaller than what an output depends on, as with global pooling and attention.
        viewer_picture: Number of the picture of each sequence that is kept for a viewer.

    Raises:
        InputError: If a value is out of its range, a compression is named twice, or photographs are missing.
    """

    qps: Sequence[int] = (22, 27, 32, 37)
    configs: Sequence[ConfigName] = ("ai",)
    preset: Preset = "faster"
    max_pictures: int | None = None
    psnr_peak: Peak = "vtm"
    tile: int | None = DEFAULT_TILE
    device: str = "cpu"
    backend: BackendChoice = "auto"
    precision: Precision = "float32"
    n_threads: int = 2
    sao: Sao = "on"
    encoder: EncoderName = "libvvenc"
    encoder_config: Sequence[Path] = ()
    encoder_arguments: Sequence[str] = ()
    networks: Sequence[str] = PAPER_NETWORKS
    replacements: Sequence[str] = ()
    originals: Sequence[str] = ()
    archs: Sequence[str] = ()
    layouts: Sequence[str] = ()
    compressions: tuple[Compression, ...] = BOTH_MODES
    decisions: DecisionMode = "off"
    qp_candidates: Sequence[str] = ()
    photographs: Path | None = None
    n_crops: int | None = None
    accept_small: bool = False
    viewer_picture: int = 0

    def __post_init__(self) -> None:
        if not self.qps or len(set(self.qps)) != len(self.qps):
            raise InputError(f"QPs {list(self.qps)}: must be at least one, each once")
        if not all(0 <= qp <= 63 for qp in self.qps):
            raise InputError(f"QPs {list(self.qps)}: must each be 0 to 63")
        if (
            not self.configs
            or len(set(self.configs)) != len(self.configs)
            or not set(self.configs) <= {*CONFIGURATIONS}
        ):
            known = ", ".join(CONFIGURATIONS)
            raise InputError(f"configurations {list(self.configs)}: must be at least one of {known}, each once")
        if self.max_pictures is not None and self.max_pictures < 1:
            raise InputError(f"at most {self.max_pictures} pictures: must be at least 1")
        if self.qp_candidates and self.decisions == "off":
            raise InputError(f"QP candidates {', '.join(self.qp_candidates)}: decisions are off; turn them on")
        check_candidates(self.candidates)
        if self.viewer_picture < 0:
            raise InputError(f"picture {self.viewer_picture} for the viewer: must be at least 0")
        check_once(self.compressions)
        check_photographs(self.compressions, self.photographs, self.n_crops, accept_small=self.accept_small)

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways that each network runs in."""
        return WAYS_OF[self.decisions]

    @property
    def is_inter(self) -> bool:
        """Whether pictures are predicted from others in some configuration."""
        return any(CONFIGURATIONS[config].is_inter for config in self.configs)

    @property
    def candidates(self) -> list[QpRule]:
        """The rules of what a network may be told beside its own."""
        return [parse_rule(text) for text in self.qp_candidates]

    def are_joint(self, config: ConfigName) -> bool:
        """Whether the decisions of a sequence's pictures are coded together: inter pictures have too few bits alone."""
        return self.decisions != "off" and (CONFIGURATIONS[config].is_inter or bool(self.qp_candidates))

    def config_files(self, config: ConfigName) -> list[Path]:
        """VTM's configuration files for a configuration: those that name it, and those that name none."""
        found = (_named_file(path) for path in self.encoder_config)
        return [path for name, path in found if name in (None, config)]

    def runner(self, network: nn.Module, layout: Layout | None) -> Runner:
        """A network of some layout made ready to run as these options have it.

        Raises:
            InputError: If the backend, precision or device is not there, or the tile is too small.
            VvcNnrError: If a weight is NaN or infinite.
        """
        return Runner(
            network,
            layout=layout,
            backend=self.backend,
            precision=self.precision,
            n_threads=self.n_threads,
            tile=self.tile,
            device=self.device,
        )


@dataclass(frozen=True, slots=True, eq=False)
class DecodedPicture:
    """One picture as a codec made it.

    Attributes:
        frame: The decoded picture.
        n_bits: Its size in the stream.
        encode_s: Its share of the encoder's processor time, None where that is not known.
        decode_s: Processor time of its decoding with the check of its MD5, None where that is not known.
        qps: Its QPs, by which networks are told theirs.
        coded: What its headers say of it, None where the pictures were decoded elsewhere.
    """

    frame: Frame
    n_bits: int
    encode_s: float | None
    decode_s: float | None
    qps: PictureQps
    coded: CodedPicture | None = None


class DecodedPictures(Protocol):
    """Where decoded pictures and their bits come from."""

    @property
    def codings(self) -> tuple[Coding, ...]:
        """The configurations and sets of in-loop filters that there are pictures of."""
        ...

    @property
    def loop_filters(self) -> str:
        """What tables say of the codec's filters."""
        ...

    @property
    def encoder(self) -> str:
        """What tables say of the encoder, empty for nothing."""
        ...

    @property
    def rate(self) -> str:
        """What tables say of the bits that are counted."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """What has to be the same before results may go into one folder."""
        ...

    def digests(self, sources: Sequence[Source]) -> InputDigests:
        """A digest of each picture of each original, by the sequence's name; then of what else the results are about.

        Raises:
            InputError, BitstreamError, UnsupportedError: If anything cannot be used.
        """
        ...

    def pictures(self, source: Source, qp: int, coding: Coding) -> Iterator[DecodedPicture]:
        """The decoded pictures of a sequence, in its order.

        Raises:
            InputError, BitstreamError, UnsupportedError: If pictures cannot be read, coded or decoded.
            ExternalToolError: If an encoder fails.
        """
        ...


class CodedHere:
    """Encodes and decodes, a `DecodedPictures`.

    Args:
        options: How to encode.
        cache: Folder of finished encodings.
    """

    rate = CODED_HERE_RATE

    def __init__(self, options: ToolOptions, cache: Path) -> None:
        self._options = options
        self._cache = cache
        identities = (self._identity_of(config) for config in options.configs)
        self._identity = "; ".join(dict.fromkeys(identities))

    @property
    def codings(self) -> tuple[Coding, ...]:
        """All sets of filters for intra pictures, all filters for inter pictures."""
        sets = {name: (ANCHOR_FILTERS,) if each.is_inter else LOOP_FILTER_SETS for name, each in CONFIGURATIONS.items()}
        return tuple((config, loop_filters) for config in self._options.configs for loop_filters in sets[config])

    @property
    def loop_filters(self) -> str:
        """What tables say of the codec's filters."""
        return VTM_FILTERS_NOTE if self._options.encoder == "vtm" else SAO_NOTES[self._options.sao]

    @property
    def encoder(self) -> str:
        """The encoder with its build and preset."""
        o = self._options
        titles = (encoder_title(o.encoder, o.config_files(each), o.encoder_arguments, each) for each in o.configs)
        return "; ".join(dict.fromkeys(titles)) + ("" if o.encoder == "vtm" else f", preset {o.preset}")

    @property
    def settings(self) -> Mapping[str, object]:
        """The encoder, its build and its configuration."""
        return {"encoder_identity": self._identity}

    def digests(self, sources: Sequence[Source]) -> InputDigests:
        """A digest of each picture of each original, and one of all where inter pictures depend on all of them.

        Raises:
            InputError, BitstreamError, UnsupportedError: As `source_digests`.
        """
        found = source_digests(sources, self._options.max_pictures)
        if not self._options.is_inter:
            return found
        whole = {
            f"{name} with as many pictures (which inter pictures depend on)": (digest_of(name, "".join(each).encode()),)
            for name, each in found.items()
        }
        return {**found, **whole}

    def pictures(self, source: Source, qp: int, coding: Coding) -> Iterator[DecodedPicture]:
        """Encodes a sequence and yields its decoded pictures one by one; raises as `DecodedPictures.pictures`."""
        o, (config, loop_filters) = self._options, coding
        encoder = VvcEncoder(
            VvcOptions(qp, o.preset, loop_filters, o.n_threads, o.sao, config),
            self._cache,
            encoder=o.encoder,
            config=o.config_files(config),
            arguments=o.encoder_arguments,
        )
        coded = encoder.encode(source.frames(count=o.max_pictures), source.format.fps)
        stream = read_vvc_stream(coded.stream)
        encode_s = None if coded.encode_cpu_s is None else coded.encode_cpu_s / len(coded.pictures)
        decoded = timed(decode_vvc(stream, width=source.format.width, height=source.format.height))
        for picture, qps, (frame, decode_s) in zip(coded.pictures, qps_of_pictures(stream, qp), decoded, strict=True):
            yield DecodedPicture(frame, picture.n_bits, encode_s, decode_s, qps, picture)

    def _identity_of(self, config: ConfigName) -> str:
        o = self._options
        return encoder_identity(o.encoder, o.config_files(config), o.encoder_arguments, config)


def _named_file(path: Path) -> tuple[str | None, Path]:
    """The configuration that a file is for, None for all, and the file."""
    name, is_named, rest = str(path).partition("=")
    return (name, Path(rest)) if is_named and name in CONFIGURATIONS else (None, path)


class ToolExperiment:
    """All networks in their places, ready to run over sequences.

    Args:
        options: What to run.
        states: The networks with each of their weights.
        decoded: Where the decoded pictures come from.
        pictures: Folder of the viewer's pictures.

    Raises:
        InputError: If the backend, the precision or the device is not there, or there are no decoded pictures for a
            network's place.
    """

    def __init__(
        self, options: ToolOptions, states: Sequence[NetworkState], decoded: DecodedPictures, pictures: Path
    ) -> None:
        self._options = options
        self._decoded = decoded
        self._pictures = pictures
        self._states = tuple(states)
        self._runners = [options.runner(state.network, state.layout) for state in states]
        for network, remark in {s.row.network: r.remark for s, r in zip(states, self._runners, strict=True)}.items():
            if remark:
                tqdm.write(f"{network}: {remark}", file=sys.stderr)
        self._viewed = {state.row.network: state for state in states}  # the last of each network: decoded weights
        self._ready_for: list[tuple[int, int] | None] = [None] * len(self._runners)
        self._joint: dict[int, JointWays] = {}

    def run(self, sources: Sequence[Source], writer: RowWriter[ToolRow]) -> None:
        """Measures what the writer does not hold yet, and appends a picture's rows as soon as they are known.

        Raises:
            UnsupportedError: If a sequence is not 4:2:0 or 4:0:0.
            InputError: If a sequence cannot be read.
            BitstreamError: If a sequence is damaged.
            ExternalToolError: If the encoder fails.
        """
        done = {row.key for row in writer.existing}

        def has(place: Place, state: NetworkState | None) -> bool:
            is_kept = all(path.exists() for path in self._viewer_files(place, state))
            return is_kept and done.issuperset(self._keys(place, state))

        @functools.cache
        def has_all(first: Place, state: NetworkState | None) -> bool:
            """Of a sequence whose pictures' decisions are coded together, since each follows from those before."""
            pictures = range(n_pictures_of(first.source, self._options.max_pictures))
            return all(has(_at(first, index), state) for index in pictures)

        def is_open(place: Place, state: NetworkState | None) -> bool:
            if state is not None and self._options.are_joint(place.config):
                return not has_all(_at(place, 0), state)
            return not has(place, state)

        def is_missing(place: Place) -> bool:
            return any(is_open(place, state) for state in (None, *self._at(place)))

        for picture in sweep(sources, self._options, self._decoded, is_missing):
            place = picture.place
            for state in (None, *self._at(place)):
                if is_open(place, state):
                    with naming(place.source.path):
                        rows = self._measure(picture, state)
                    writer.append(row for row in rows if row.key not in done)

    def _at(self, place: Place) -> Iterator[NetworkState]:
        return (state for state in self._states if state.row.place == place.loop_filters)

    def _measure(self, picture: SweptPicture, state: NetworkState | None) -> list[ToolRow]:
        """The rows of the codec alone, or of a network; keeps the picture for the viewer."""
        outputs = self._filtered(picture, state) if state else [_Output("codec", picture.decoded)]
        shown = [outputs[-1].frame] if state else [picture.reference, picture.decoded]
        for path, frame in zip(self._viewer_files(picture.place, state), shown, strict=False):
            store_picture(path, frame)
        return [self._row(picture, state, output) for output in outputs]

    def _filtered(self, picture: SweptPicture, state: NetworkState) -> list[_Output]:
        """The network in each of its ways; what is decided is measured as it is decoded from its bytes."""
        runner, qp, decoded = self._ready_runner(picture, state), _told_qp(picture, state), picture.decoded
        start_s = time.process_time()
        correction = correction_by(runner, decoded, qp)
        network_s = time.process_time() - start_s
        full, full_s = _timed_application(decoded, correction, None)
        outputs = [_Output("full", full, 0, network_s + full_s, network_s + full_s)]
        if self._options.are_joint(picture.place.config):
            return [*outputs, *self._jointly(picture, state, correction, network_s)]
        for way, decisions, search_s in _searched(picture, correction, self._options.ways):
            start_s = time.process_time()
            data = encode_decisions(decisions)
            code_s = time.process_time() - start_s
            output, apply_s = _timed_application(decoded, correction, data)
            decode_s = network_s + apply_s
            outputs.append(_Output(way, output, 8 * len(data), decode_s + search_s + code_s, decode_s))
        return outputs

    def _jointly(
        self, picture: SweptPicture, state: NetworkState, correction: Correction, network_s: float
    ) -> Iterator[_Output]:
        """The network in each decided way, its decisions coded together with those of the pictures before."""
        index, decoded = self._states.index(state), picture.decoded
        told = [_told_qp(picture, state), *(rule.qp(picture.qps) for rule in self._options.candidates)]
        if picture.place.index == 0:
            self._joint[index] = JointWays(decoded.format(), self._options.ways, len(told))
        start_s = time.process_time()
        corrections = [correction, *(correction_by(self._runners[index], decoded, qp) for qp in told[1:])]
        candidates_s = network_s + time.process_time() - start_s
        for each in self._joint[index].decided(picture.reference, decoded, corrections, picture.own_qp):
            start_s = time.process_time()
            output = apply_decisions(decoded, corrections[each.decisions.qp_candidate], each.decisions)
            apply_s = time.process_time() - start_s
            costs_s = (candidates_s + each.search_s + apply_s, network_s + apply_s)
            yield _Output(each.way, output, each.n_bits, *costs_s, told[each.decisions.qp_candidate])

    def _ready_runner(self, picture: SweptPicture, state: NetworkState) -> Runner:
        """The network's runner, after a picture of this size: some backends compile for each size, which is loading."""
        index, size = self._states.index(state), (picture.decoded.width, picture.decoded.height)
        if self._ready_for[index] != size:
            correction_by(self._runners[index], picture.decoded, _told_qp(picture, state))
            self._ready_for[index] = size
        return self._runners[index]

    def _row(self, picture: SweptPicture, state: NetworkState | None, output: _Output) -> ToolRow:
        scores, coded = picture_scores(picture.reference, output.frame, peak=self._options.psnr_peak), picture.coded
        return ToolRow(
            sequence=picture.place.source.name,
            ctc_class=picture.place.source.ctc_class,
            picture=picture.place.index,
            width=picture.reference.width,
            height=picture.reference.height,
            bit_depth=picture.reference.bit_depth,
            qp=picture.place.qp,
            loop_filters=picture.place.loop_filters,
            way=output.way,
            network=state.row.network if state else "",
            weights=state.row.weights if state else NO_WEIGHTS,
            network_sha256=state.row.network_sha256 if state else "",
            n_bits=picture.n_bits,
            n_decision_bits=output.n_decision_bits,
            **scores.by_column(),
            encode_s=None if picture.encode_s is None else picture.encode_s + output.encode_s,
            decode_s=None if picture.decode_s is None else picture.decode_s + output.decode_s,
            config=picture.place.config,
            slice_type=coded.slice_type if coded else "",
            temporal_layer=coded.temporal_layer if coded else None,
            slice_qp=coded.qp if coded else None,
            network_qp=None if state is None else _told_qp(picture, state) if output.qp is None else output.qp,
        )

    def _viewer_files(self, place: Place, state: NetworkState | None) -> list[Path]:
        """What a viewer gets of the codec (original, decoded), or of a network with its last weights; often nothing."""
        where = (place.source.name, place.index)
        is_viewed = place.index == self._options.viewer_picture and any(self._at(place))
        if not is_viewed or (state and state is not self._viewed[state.row.network]):
            return []
        if state is None:
            names = [original_name(*where), decoded_name(*where, place.qp, place.loop_filters, place.config)]
        else:
            way, row = self._options.ways[-1], state.row
            names = [filtered_name(*where, place.qp, way, row.network, row.network_sha256, place.config)]
        return [self._pictures / name for name in names]

    def _keys(self, place: Place, state: NetworkState | None) -> set[tuple[str | int, ...]]:
        """The keys (`ToolRow.key`) of the rows that the codec alone, or a network, leads to."""
        picture = (place.config, place.source.name, place.index, place.qp, place.loop_filters)
        if state is None:
            return {(*picture, "codec", "", NO_WEIGHTS, "")}
        row = state.row
        return {(*picture, way, row.network, row.weights, row.network_sha256) for way in self._options.ways}


@dataclass(frozen=True, slots=True, eq=False)
class _Output:
    """A picture as one way of filtering leaves it, what that costs beyond the codec, and another QP if one was told."""

    way: Way
    frame: Frame
    n_decision_bits: int = 0
    encode_s: float = 0.0
    decode_s: float = 0.0
    qp: int | None = None


def check_places(networks: Sequence[GivenNetwork], codings: Sequence[Coding]) -> None:
    """Refuses networks for whose place there are no decoded pictures.

    Raises:
        InputError: Naming the first such network.
    """
    inter = [config for config, _ in codings if CONFIGURATIONS[config].is_inter]
    loop_filter_sets = [loop_filters for _, loop_filters in codings]
    for network in networks:
        if inter and network.place != ANCHOR_FILTERS:
            title = CONFIGURATIONS[inter[0]].title
            raise InputError(
                f"{network.name}: stands in the place of the codec's in-loop filters, and in {title} other "
                "pictures are predicted from what it makes: run behind the decoder it would drift from the "
                "encoder. Name networks that filter after all in-loop filters (--networks inloop-lop), or --config ai"
            )
        if network.place not in loop_filter_sets:
            there = ", ".join(dict.fromkeys(loop_filter_sets))
            raise InputError(
                f"{network.name}: filters pictures that are decoded with loop_filters {network.place}, and there are "
                f"only such with {there}; list those too, or name other networks"
            )


def _searched(
    picture: SweptPicture, correction: Correction, ways: Sequence[Way]
) -> Iterator[tuple[Way, Decisions, float]]:
    """Yields each way that is decided, its decisions, and the processor time of their search."""
    if "decisions" not in ways:
        return
    qp, decoded = picture.own_qp, picture.decoded
    start_s = time.process_time()
    decisions = decide(picture.reference, decoded, correction, qp)
    decide_s = time.process_time() - start_s
    yield "decisions", decisions, decide_s
    if "wiener" in ways:
        start_s = time.process_time()
        with_filters = with_wiener_filters(decisions, picture.reference, decoded, correction, qp)
        yield "wiener", with_filters, decide_s + time.process_time() - start_s


def _timed_application(decoded: Frame, correction: Correction, data: bytes | None) -> tuple[Frame, float]:
    """The picture as a decoder makes it from coded decisions, None for full strength, and its processor time."""
    start_s = time.process_time()
    decisions = _full_strength(decoded) if data is None else decode_decisions(data, decoded.format())
    output = apply_decisions(decoded, correction, decisions)
    return output, time.process_time() - start_s


def _full_strength(decoded: Frame) -> Decisions:
    """The decisions of a picture to which the correction is added as it is."""
    block_size, n_planes = max(BLOCK_SIZES), len(decoded.planes)
    choices = np.full(block_grid(decoded.width, decoded.height, block_size), UNIT_CHOICE, np.uint8)
    return Decisions(block_size, (round(1 / STRENGTH_UNIT),) * n_planes, (choices,) * n_planes)


@dataclass(frozen=True, slots=True)
class Place:
    """One picture in a sweep.

    Attributes:
        source: Its sequence.
        index: Its number in the sequence, from 0.
        qp: The QP that it is coded with.
        loop_filters: The codec's in-loop filters.
        config: The coding configuration.
    """

    source: Source
    index: int
    qp: int
    loop_filters: LoopFilters
    config: ConfigName = ALL_INTRA.name


@dataclass(frozen=True, slots=True, eq=False)
class SweptPicture:
    """One picture before and after coding.

    Attributes:
        place: Which one.
        reference: The original at the depth of the decoded picture.
        decoded: What the codec made of it, in the same format.
        n_bits: Its size in the stream.
        encode_s: Its share of the encoder's processor time, None where a cached encoding does not know it.
        decode_s: Processor time of its decoding with the check of its MD5, None where that is not known.
        qps: Its QPs, by which networks are told theirs.
        coded: What its headers say of it, None where it was decoded elsewhere.
    """

    place: Place
    reference: Frame
    decoded: Frame
    n_bits: int
    encode_s: float | None
    decode_s: float | None
    qps: PictureQps
    coded: CodedPicture | None = None

    @property
    def own_qp(self) -> int:
        """The QP that it was coded with, 0 to 63, which says what a bit is worth in it; else that of the encoding."""
        return self.place.qp if self.coded is None else max(0, self.coded.qp)


def _told_qp(picture: SweptPicture, state: NetworkState) -> int:
    """The QP that a network is told of a picture, by its own rule."""
    return (DEFAULT_RULE if state.layout is None else state.layout.qp_rule).qp(picture.qps)


def sweep(
    sources: Sequence[Source],
    options: ToolOptions,
    decoded: DecodedPictures,
    is_missing: Callable[[Place], bool],
) -> Iterator[SweptPicture]:
    """Yields every coded picture that something is missing of; only encodings with such pictures are made.

    Args:
        sources: The sequences.
        options: Which QPs and pictures.
        decoded: Where the decoded pictures come from.
        is_missing: Whether a picture has to be coded.

    Raises:
        UnsupportedError: If a sequence is not 4:2:0 or 4:0:0.
        InputError: If a sequence cannot be read.
        BitstreamError: If a sequence is damaged.
        ExternalToolError: If the encoder fails.
    """
    jobs = list(product(sources, options.qps, decoded.codings))
    n_pictures = functools.cache(lambda source: n_pictures_of(source, options.max_pictures))
    bar = tqdm(jobs, unit="encoding", desc="tool-by-tool", disable=None)
    for source, qp, (config, loop_filters) in bar:
        bar.set_postfix_str(f"{source.name} {config} QP {qp} {loop_filters}")
        first = Place(source, 0, qp, loop_filters, config)
        with naming(source.path):
            # Pictures are counted only where the first one is done: counting decodes those of a video.
            if is_missing(first) or any(is_missing(_at(first, i)) for i in range(n_pictures(source))):
                for picture in _swept(first, decoded, options.max_pictures):
                    if is_missing(picture.place):
                        yield picture


def n_pictures_of(source: Source, limit: int | None) -> int:
    """How many pictures of a sequence are taken; counted where the file only claims a number."""
    if source.n_pictures is None or source.path.suffix.lower() in VIDEO_SUFFIXES:
        return sum(1 for _ in source.frames(count=limit))
    return source.n_pictures if limit is None else min(limit, source.n_pictures)


def _swept(first: Place, decoded: DecodedPictures, max_pictures: int | None) -> Iterator[SweptPicture]:
    """The decoded pictures of a sequence with their originals."""
    originals = first.source.frames(count=max_pictures)
    pictures = decoded.pictures(first.source, first.qp, (first.config, first.loop_filters))
    for index, (original, each) in enumerate(zip(originals, pictures, strict=True)):
        reference, frame = comparable(original, each.frame)
        costs = (each.n_bits, each.encode_s, each.decode_s)
        yield SweptPicture(_at(first, index), reference, frame, *costs, each.qps, each.coded)


def timed(items: Iterator[_ItemT]) -> Iterator[tuple[_ItemT, float]]:
    """Yields each item with the processor seconds of this process that it took to come."""
    start_s = time.process_time()
    for item in items:
        yield item, time.process_time() - start_s
        start_s = time.process_time()


def _at(first: Place, index: int) -> Place:
    return replace(first, index=index)
