"""A finished stream with a filter of its own: tuned to its pictures, coded, measured, and put into it where it pays.

What a gain is worth follows from the streams themselves: over the QPs the logarithm of the rate rises with luma's PSNR,
about by 0.2 for a dB; by that slope a gain is so many bytes. A filter and its update go into a stream only if they
take less there than they are worth.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Literal, TypeAlias

from torch import nn
from tqdm import tqdm

from vvc_nnr.bitstream.number_formats import NamedArrays
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.nnpf import NNPFA, NNPFC
from vvc_nnr.codec.sei import Placement, SeiMessage, insert_sei, sei_messages
from vvc_nnr.codec.stream_filters import FilterSettings, has_leading_pictures
from vvc_nnr.codec.vvc_stream import VvcStream, check_one_format, read_vvc_stream
from vvc_nnr.coding.update import apply_update
from vvc_nnr.compress import compress
from vvc_nnr.errors import InputError, UnsupportedError
from vvc_nnr.files import naming, read_bytes
from vvc_nnr.filters.adaptation.options import LUMA_SHARE_OF_YUV, AdaptOptions, Measure, UpdatesOf
from vvc_nnr.filters.adaptation.tuned_filter import LearningPicture
from vvc_nnr.filters.adaptation.tuning import TunedUpdate, coded_levels, tune
from vvc_nnr.filters.bundled import name_by_hash, network_by_hash
from vvc_nnr.filters.in_stream import (
    at_uri,
    characteristics_of,
    check_said_by_messages,
    filter_messages,
    network_of,
    planned_pictures,
    strength_qps,
    with_bitstream,
)
from vvc_nnr.filters.inference.choice import BackendChoice, Precision
from vvc_nnr.filters.inference.runner import DEFAULT_TILE, Runner
from vvc_nnr.filters.networks.factory import is_factory
from vvc_nnr.filters.networks.foreign import declared_layout
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.filters.networks.layout import LAYOUT_KEY, Layout
from vvc_nnr.filters.networks.onnx_network import OnnxNetwork
from vvc_nnr.filters.training.run import weights_sha256
from vvc_nnr.filters.zoo import filter_of_arrays, filter_of_nnc, load_filter, with_arrays
from vvc_nnr.model.onnx import import_onnx
from vvc_nnr.network_file import NetworkArrays, all_tensors, decoded_arrays, is_nnc, kind_of_file
from vvc_nnr.options import DEFAULT_MAX_ELEMENTS, thread_count
from vvc_nnr.sequences.frame import ChromaFormat, Frame
from vvc_nnr.sequences.metrics import PlaneScores, check_comparable, comparable, frame_psnr_db, may_be_padded
from vvc_nnr.sequences.source import Source

LEARNING_BYTES = 1 << 29
MOST_LEARNING_PICTURES = 256
"""Of each stream, at most; fewer where they would take more than those bytes of all."""
_log = logging.getLogger(__name__)

FILTER_ID = 1
DEFAULT_SLOPE = 0.2
"""By how much the logarithm of the rate rises for a dB, where one stream alone is there: about that of QP 22 to 37."""
EXACT_DB = 100.0
"""PSNR of a picture without any error in a mean of pictures: infinite, it would hide all others."""
UNLIKE_DB = 20.0
"""Pictures of a lower PSNR are hardly those of the original."""
DB_PER_LOSS = 10 / math.log(10)
"""dB of PSNR for a small change of the squared error, as a share of it."""

Sent: TypeAlias = Literal["nothing", "base", "update"]
"""What goes into a stream: nothing, a filter as it is, or with its update."""
BaseAt: TypeAlias = Literal["hash", "stream"]
"""Where a decoder gets the base: by its hash among the networks that it has, or out of the stream."""


@dataclass(frozen=True, eq=False)
class AdaptedBase:
    """The filter that is tuned, as a decoder has it.

    Attributes:
        data: Its ISO/IEC 15938-17 file.
        at: Where a decoder gets it.
        like: The module whose tensors the file holds, or a network of ONNX that has the file's graph; None: the file
            makes it, a bundled shape or a graph.
        said_layout: How pictures go into it; None: as module or file say.
    """

    data: bytes
    at: BaseAt
    like: nn.Module | None = None
    said_layout: Layout | None = None

    @classmethod
    def of(cls, path: Path, at: BaseAt | None = None, layout: str | None = None) -> AdaptedBase:
        """The base of a file: a coded network, or a model of ONNX, which is coded by the defaults of `compress`.

        Args:
            path: The file.
            at: Where a decoder gets it; None: by its hash, if it is a bundled one.
            layout: How pictures go into a network of the user's own; None: as its file says.

        Raises:
            InputError: If no network can be made of it, no one says its layout, or a decoder would not have it.
            BitstreamError, UnsupportedError: If it is damaged, or holds what this package does not read or a message
                does not say.
        """
        is_bundled = is_nnc(path) and network_by_hash(name_by_hash(read_bytes(path))) is not None
        if layout is not None and is_bundled:
            raise InputError(f"{path}: layout {layout}: is a bundled network, which says its own; omit it")
        data = _coded(path, layout)
        if at is None and not is_bundled:
            raise InputError(
                f"{path}: no network of the zoo, which a decoder would have; put it into the stream (--base stream), "
                "or let it be named by its hash (--base hash), for decoders that get the file (filter --base FILE)"
            )
        found = cls(data, at or "hash")
        with naming(path):
            check_said_by_messages(found.layout)  # what is no filter is not told to go into the stream
        return found

    @property
    def layout(self) -> Layout:
        """How pictures go into it."""
        return self.said_layout or declared_layout(self._as_coded)

    @property
    def is_known_to_decoders(self) -> bool:
        """Whether a decoder of this package has it without a file: it is in the stream, or a bundled one."""
        return self.at == "stream" or network_by_hash(name_by_hash(self.data)) is not None

    @property
    def is_bundled_shape(self) -> bool:
        """Whether it can be computed in integers."""
        return isinstance(self._as_coded, InLoopNetwork)

    def network(self, update: bytes | None = None) -> nn.Module:
        """The filter, ready to run; raises as `filter_of_nnc` and `with_arrays`.

        Args:
            update: What changes it; None: as it is coded, the same module each time.
        """
        return self._as_coded if update is None else self._made({**apply_update(self.arrays(), update).arrays})

    def arrays(self) -> NamedArrays:
        """Its tensors, small constants of a graph among them."""
        return self._tensors.arrays

    @cached_property
    def _as_coded(self) -> nn.Module:
        return self._made(self.arrays())

    @cached_property
    def _tensors(self) -> NetworkArrays:
        coded = decoded_arrays(self.data, DEFAULT_MAX_ELEMENTS, thread_count(None))
        return all_tensors(replace(coded, graph=self.like.graph) if isinstance(self.like, OnnxNetwork) else coded)

    def _made(self, arrays: NamedArrays) -> nn.Module:
        if self.like is not None and not isinstance(self.like, OnnxNetwork):
            return with_arrays(self.like, arrays, "the network")
        return filter_of_arrays(replace(self._tensors, arrays=arrays), "the network", self.said_layout)

    def messages(
        self, settings: FilterSettings, update: bytes | None = None, chroma_format: ChromaFormat = "420"
    ) -> tuple[SeiMessage, ...]:
        """The SEI messages by which it runs in a stream of a chroma format, with an update or as it is."""
        characteristics = characteristics_of(
            self._as_coded, settings.filter_id, chroma_format=chroma_format, layout=self.layout
        )
        placed = (
            with_bitstream(characteristics, self.data)
            if self.at == "stream"
            else at_uri(characteristics, name_by_hash(self.data))
        )
        return filter_messages(placed, settings, update)


def _coded(path: Path, layout: str | None) -> bytes:
    """The ISO/IEC 15938-17 file of a network file, with its layout if that is said beside it."""
    if is_factory(str(path)):
        raise InputError(f"{path}: a stream carries no Python: name the ONNX model that torch.onnx.export makes of it")
    if is_nnc(path):
        if layout is not None:
            raise InputError(f"{path}: layout {layout}: a coded file says its own; name the ONNX model itself")
        return read_bytes(path)
    kind = kind_of_file(path)
    if kind != "onnx":
        raise InputError(
            f"{path}: an update is for a coded filter (.nnc) or an ONNX model; take one of the zoo, or code yours "
            "first (vvc-nnr compress); of a module of your own name what torch.onnx.export makes of it"
        )
    loaded = load_filter(path, layout=layout)
    assert isinstance(loaded.network, OnnxNetwork)
    assert loaded.layout is not None
    return compress(import_onnx().load_from_string(loaded.network.model()), metadata={LAYOUT_KEY: loaded.layout.text})


@dataclass(frozen=True, slots=True)
class MeasuredPictures:
    """What a filter makes of the pictures of a stream.

    Attributes:
        psnr_db: Mean PSNR of each component; a picture without any error counts as `EXACT_DB`.
        md5: Of all pictures, as raw video.
    """

    psnr_db: tuple[float, ...]
    md5: bytes

    def gain_db(self, before: MeasuredPictures) -> tuple[float, ...]:
        """By how much each component is better."""
        pairs = zip(self.psnr_db, before.psnr_db, strict=True)
        return tuple(0.0 if own == other else own - other for own, other in pairs)


@dataclass(frozen=True, slots=True, eq=False)
class MadeUpdate:
    """An update and what it is for.

    Attributes:
        tuned: The update.
        lambda_rd: Loss that a bit of it had to save.
        streams: The places of the streams that it was tuned to.
        dropped_db: If what was learnt is dropped, so that the update changes nothing: the gain over the filter as it
            is that it had in the mean of those streams, of what decides; below 0. None: it is kept.
    """

    tuned: TunedUpdate
    lambda_rd: float
    streams: tuple[int, ...]
    dropped_db: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedStream:
    """A stream and what adaptation did for it.

    Attributes:
        name: Its file.
        n_pictures: Pictures that are output.
        n_bytes: Size before.
        counted_pictures: Pictures that its filter and update are for: what they add counts in a stream of so many.
        slope: By how much the logarithm of its rate rises for a dB of what decides.
        decoded: Its pictures without a filter.
        base: With the filter as it is.
        adapted: With the filter and its update.
        added_bytes: What a filter as it is, or with its update, adds to the stream.
        net_percent: What of the rate each of the three is worth, less what it adds; negative saves.
        sent: What pays best.
        data: The stream with that in it.
        made: The update of it: where there were several, the one that is worth most here.
    """

    name: str
    n_pictures: int
    n_bytes: int
    counted_pictures: int
    slope: float
    decoded: MeasuredPictures
    base: MeasuredPictures
    adapted: MeasuredPictures
    added_bytes: Mapping[Sent, int]
    net_percent: Mapping[Sent, float]
    sent: Sent
    data: bytes
    made: MadeUpdate

    @property
    def counted_bytes(self) -> float:
        """Size of a stream of the pictures that filter and update are for, of the same rate."""
        return self.n_bytes * (self.counted_pictures / self.n_pictures)

    @property
    def output(self) -> MeasuredPictures:
        """What a decoder of `data` gives."""
        return {"nothing": self.decoded, "base": self.base, "update": self.adapted}[self.sent]


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """Updates of a filter for some streams of one sequence.

    Attributes:
        updates: All that were made: of each stream, or for all, or both.
        streams: What the best of them does for each.
        description: What computed the pictures.
        base_bytes: Size of the coded network that the updates are for.
        measure: The PSNR that decided.
    """

    updates: tuple[MadeUpdate, ...]
    streams: tuple[AdaptedStream, ...]
    description: str
    base_bytes: int
    measure: Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAs:
    """How filters are run, in the encoder and then in the decoder.

    Attributes:
        precision: What they are computed in; int8 gives the same samples on every machine.
        backend: What computes.
        n_threads: Threads; None: one per core.
        at: Where the messages go.
    """

    precision: Precision = "int8"
    backend: BackendChoice = "auto"
    n_threads: int | None = None
    at: Placement = "once"

    def runner(self, network: nn.Module, layout: Layout | None = None) -> Runner:
        """A runner of a filter; of a layout, or the one that it declares."""
        return Runner(
            network,
            layout=layout,
            backend=self.backend,
            precision=self.precision,
            n_threads=self.n_threads,
            tile=DEFAULT_TILE,
        )


def adapt_streams(
    paths: Sequence[Path],
    original: Source,
    base: AdaptedBase,
    options: AdaptOptions,
    folder: Path,
    run_as: RunAs | None = None,
) -> Adaptation:
    """Tunes a filter to a sequence, for each stream or for all, and puts it into the streams where that pays.

    Args:
        paths: VVC streams of the same pictures, most often at several QPs.
        original: The pictures before coding.
        base: The filter.
        options: What is free, how long.
        folder: For checkpoints, from which a run that was cut off goes on.
        run_as: How the filter is run; None: as the defaults say.

    Raises:
        InputError: If streams and original do not fit together, a stream carries a filter already, or an update that is
            sent again and again is to be for so many pictures.
        BitstreamError, UnsupportedError: If a stream cannot be read.
        VvcNnrError: If the loss becomes NaN.
    """
    run_as = run_as or RunAs()
    if options.n_pictures is not None and run_as.at != "once":
        raise InputError(
            f"n_pictures: {options.n_pictures}, with messages at each {run_as.at}: more pictures bring more of them; "
            "take it away, or send them once"
        )
    network, layout = base.network(), base.layout
    runner = run_as.runner(network, layout)
    if original.format.chroma_format == "400":
        options = replace(options, measure="luma", chroma_weight=0.0)
    if layout.planes == "y":
        options = replace(options, chroma_weight=0.0)
    streams = [_read(path, original) for path in paths]
    groups = groups_of(len(streams), options.updates)
    _check_folder(folder, groups)
    learnt: list[list[LearningPicture]] = [[] for _ in streams]
    decoded, filtered = [], []
    for path, stream, into in zip(paths, streams, learnt, strict=True):
        take = _taking(stream, layout, len(streams), into)
        with naming(path):
            decoded.append(_measured(stream, original, None, layout, take))
            filtered.append(_measured(stream, original, runner, layout))
        if decoded[-1].psnr_db[0] < UNLIKE_DB:
            text = "%s: luma has %.1f dB against the original; are these its pictures?"
            _log.warning(text, path, decoded[-1].psnr_db[0])
    sizes = [len(stream.data) for stream in streams]
    slopes = rate_slopes(sizes, [measured_db(each.psnr_db, options.measure) for each in decoded])
    counted = [options.n_pictures or len(stream.output_order) for stream in streams]
    worth = [size * (n / len(s.output_order)) for size, n, s in zip(sizes, counted, streams, strict=True)]
    updates, measured = [], []
    for group in groups:
        pictures = [picture for place in group for picture in learnt[place]]
        lambda_rd = loss_per_bit(
            [worth[place] for place in group],
            [slopes[place] for place in group],
            options.learnt_chroma_weight,
            options.measure,
        )
        tuned = tune(network, base.arrays(), pictures, options, lambda_rd, folder / _folder_of(group), layout)
        updates.append(MadeUpdate(tuned, lambda_rd, group))
    learnt.clear()
    for number, update in enumerate(updates):
        run = run_as.runner(base.network(update.tuned.data), layout)
        adapted_to = {}
        for place in update.streams:
            with naming(paths[place]):
                adapted_to[place] = _measured(streams[place], original, run, layout)
        as_it_is = {place: filtered[place] for place in update.streams}
        dropped_db = _loss_db(as_it_is, adapted_to, options.measure)
        if dropped_db is not None:
            nothing = replace(update.tuned, data=coded_levels(base.arrays(), {}, {}))
            updates[number] = replace(update, tuned=nothing, dropped_db=dropped_db)
        measured.append(adapted_to if dropped_db is None else as_it_is)
    found = []
    for place, (path, stream) in enumerate(zip(paths, streams, strict=True)):
        made = []
        for update, results in ((u, r) for u, r in zip(updates, measured, strict=True) if place in u.streams):
            data, adapted = update.tuned.data, results[place]
            with naming(path):
                written: dict[Sent, bytes] = {
                    "nothing": stream.data,
                    "base": _written(stream, base, network, None, filtered[place], run_as),
                    "update": _written(stream, base, network, data, adapted, run_as),
                }
            pictures_of = decoded[place], filtered[place], adapted
            best = _with_best(stream, pictures_of, written, slopes[place], counted[place], options.measure, update)
            made.append(replace(best, name=str(path)))
        found.append(min(made, key=lambda each: each.net_percent["update"]))
    return Adaptation(tuple(updates), tuple(found), runner.description, len(base.data), options.measure)


def _loss_db(
    before: Mapping[int, MeasuredPictures], after: Mapping[int, MeasuredPictures], measure: Measure
) -> float | None:
    """What an update gains in the mean of its streams, if that is below 0; None: it makes them no worse."""
    gain_db = fmean(measured_db(pictures.gain_db(before[place]), measure) for place, pictures in after.items())
    return gain_db if gain_db < 0 else None


def groups_of(n_streams: int, updates: UpdatesOf) -> tuple[tuple[int, ...], ...]:
    """The places of the streams that each update is tuned to.

    >>> groups_of(3, "each"), groups_of(3, "shared"), groups_of(1, "auto")
    (((0,), (1,), (2,)), ((0, 1, 2),), ((0,),))
    """
    shared, each = (tuple(range(n_streams)),), tuple((place,) for place in range(n_streams))
    return tuple(dict.fromkeys({"each": each, "shared": shared, "auto": (*each, *shared)}[updates]))


def _folder_of(group: Sequence[int]) -> str:
    """Where the checkpoints of an update are, in the folder of all."""
    return f"of_{'_'.join(str(place) for place in group)}"


def _check_folder(folder: Path, groups: Sequence[Sequence[int]]) -> None:
    """Raises InputError if a folder holds checkpoints of updates that are not wanted."""
    others = sorted({path.name for path in folder.glob("of_*")} - {_folder_of(group) for group in groups})
    if others:
        raise InputError(
            f"{folder}: holds checkpoints of other updates than are asked for ({', '.join(others)}: of these streams, "
            "counted from 0); use the same --updates or another folder, or delete this one"
        )


def _read(path: Path, original: Source) -> VvcStream:
    """A stream that a filter can be put into.

    Raises:
        InputError: If its pictures are not those of the original, or it carries a filter already.
    """
    with naming(path):
        stream = read_vvc_stream(path)
        check_one_format(stream)
        _check_size(original, stream)
        check_comparable(original.format, stream.first.format)
        if any(placed.message.payload_type in (NNPFC, NNPFA) for placed in sei_messages(stream.data)):
            raise InputError("carries a filter already: take it out first (vvc-nnr sei remove)")
    return stream


def _check_size(original: Source, stream: VvcStream) -> None:
    """Raises InputError if the original is smaller than the coded pictures by what odd sides were padded with."""
    size, coded = ((each.width, each.height) for each in (original.format, stream.first.format))
    if size != coded and may_be_padded(original.format, stream.first.format):
        raise InputError(
            f"{coded[0]}x{coded[1]}, and the original is {size[0]}x{size[1]}: odd sides were coded as even ones; "
            "a filter is tuned to what was coded, so give an original with its last row and column repeated"
        )


def learning_stride(n_pictures: int, n_luma_samples: int, n_streams: int) -> int:
    """Each how manieth picture of streams is learnt on, so that they fit into memory: an odd number.

    Args:
        n_pictures: Pictures of each stream.
        n_luma_samples: Luma samples of a picture.
        n_streams: Streams whose pictures are kept at once.
    """
    samples = n_luma_samples * 3 / 2
    most = max(1, min(MOST_LEARNING_PICTURES, int(LEARNING_BYTES / (4 * samples * n_streams))))
    stride = -(-n_pictures // most)
    return stride + 1 - stride % 2  # an even one would meet few layers of a hierarchy of pictures


def _taking(
    stream: VvcStream, layout: Layout, n_streams: int, into: list[LearningPicture]
) -> Callable[[int, Frame, Frame, int], None]:
    """Keeps pictures to learn on, evenly spaced, of all temporal layers."""
    format = stream.first.format
    stride = learning_stride(len(stream.output_order), format.width * format.height, n_streams)

    def take(number: int, original: Frame, decoded: Frame, qp: int) -> None:
        if number % stride == 0:
            into.append(LearningPicture.of(original, decoded, qp, layout))

    return take


def _measured(
    stream: VvcStream,
    original: Source,
    runner: Runner | None,
    layout: Layout,
    take: Callable[[int, Frame, Frame, int], None] | None = None,
) -> MeasuredPictures:
    """The pictures of a stream, filtered if there is a runner, against the original."""
    qps = strength_qps(stream, rule=layout.qp_rule)
    frames: Iterator[Frame] = decode_vvc(stream)
    if runner is not None:
        frames = runner.filter_frames(zip(frames, qps, strict=False))
    digest = hashlib.md5(usedforsecurity=False)
    scores: list[PlaneScores] = []
    bar = tqdm(total=len(qps), unit="picture", desc="filter" if runner else "decode", disable=None)
    with bar:
        for number, (wanted, frame) in enumerate(_pairs(original, frames)):
            digest.update(frame.tobytes())
            reference, found = comparable(wanted, frame)
            scores.append(frame_psnr_db(reference, found))
            if take is not None:
                take(number, reference, found, qps[number])
            bar.update()
    components = [[each.y for each in scores]]
    if scores[0].cb is not None:
        components += [[each.cb or 0.0 for each in scores], [each.cr or 0.0 for each in scores]]
    means = (fmean(min(psnr_db, EXACT_DB) for psnr_db in each) for each in components)
    return MeasuredPictures(tuple(means), digest.digest())


def _pairs(original: Source, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Frame]]:
    """Each original with its picture; raises InputError if there are more of one kind."""
    wanted, given = iter(original.frames()), iter(frames)
    while True:
        first, second = next(wanted, None), next(given, None)
        if first is None and second is None:
            return
        if first is None or second is None:
            what = "fewer" if first is None else "more"
            raise InputError(f"the original {original.path} holds {what} pictures; must hold as many")
        yield first, second


def _with_best(
    stream: VvcStream,
    pictures: tuple[MeasuredPictures, MeasuredPictures, MeasuredPictures],
    data: Mapping[Sent, bytes],
    slope: float,
    counted_pictures: int,
    measure: Measure,
    update: MadeUpdate,
) -> AdaptedStream:
    """The stream with what pays best in it."""
    decoded, base, adapted = pictures
    kinds: dict[Sent, MeasuredPictures] = {"nothing": decoded, "base": base, "update": adapted}
    n_pictures, n_bytes = len(stream.output_order), len(stream.data)
    worth_bytes = n_bytes * (counted_pictures / n_pictures)
    added: dict[Sent, int] = {kind: len(each) - n_bytes for kind, each in data.items()}
    net: dict[Sent, float] = {
        kind: net_percent(measured_db(each.gain_db(decoded), measure), added[kind], slope, worth_bytes)
        for kind, each in kinds.items()
    }
    sent = min(net, key=net.__getitem__)
    return AdaptedStream(
        "", n_pictures, n_bytes, counted_pictures, slope, *pictures, added, net, sent, data[sent], update
    )


def _written(
    stream: VvcStream,
    base: AdaptedBase,
    network: nn.Module,
    update: bytes | None,
    pictures: MeasuredPictures,
    run_as: RunAs,
) -> bytes:
    """A stream with a filter in it, which a decoder was seen to find there.

    Raises:
        UnsupportedError: If the filter would not run on all pictures.
    """
    chroma_format = stream.first.format.chroma_format
    is_same_everywhere = is_same_on_machines(network, run_as.precision)
    settings = FilterSettings(
        filter_id=FILTER_ID,
        is_kept=run_as.at == "once",
        covers_leading=run_as.at != "picture" and has_leading_pictures(stream.data),
        precision=run_as.precision,
        output_md5=pictures.md5 if is_same_everywhere else None,
    )
    written = insert_sei(stream.data, base.messages(settings, update, chroma_format), at=run_as.at)
    bases = {name_by_hash(base.data): base.data}
    network_in = partial(network_of, chroma_format=chroma_format, bases=bases)
    plan = planned_pictures(read_vvc_stream(written), lambda found: declared_layout(network_in(found)).qp_rule)
    running = {each.filter for each in plan}
    (found,) = running if len(running) == 1 else (None,)
    if found is None:
        raise UnsupportedError(f"the filter would not run on all pictures with messages at {run_as.at}: take once")
    assert weights_sha256(network_in(found)) == weights_sha256(filter_of_nnc(base.data, "the network", update))
    return written


def is_same_on_machines(network: nn.Module, precision: Precision) -> bool:
    """Whether a filter gives the same samples on every machine, so that a stream can state their MD5."""
    return precision == "int8" and isinstance(network, InLoopNetwork) and network.feature_levels is not None


def rate_slopes(sizes_bytes: Sequence[float], psnrs_db: Sequence[float]) -> list[float]:
    """By how much the logarithm of the rate rises for a dB at each stream: the mean slope to its neighbours.

    Args:
        sizes_bytes: Sizes of streams of the same pictures.
        psnrs_db: Their mean PSNR of luma.
    """
    order = sorted(range(len(sizes_bytes)), key=lambda place: psnrs_db[place])
    found: list[list[float]] = [[] for _ in order]
    for low, high in pairwise(order):
        step_db, growth = psnrs_db[high] - psnrs_db[low], math.log(sizes_bytes[high] / sizes_bytes[low])
        if 0 < step_db < math.inf and growth > 0:
            found[low].append(growth / step_db)
            found[high].append(growth / step_db)
    return [fmean(each) if each else DEFAULT_SLOPE for each in found]


def measured_db(components_db: Sequence[float], measure: Measure) -> float:
    """The PSNR, or the gain, that decides, of those of the components; of pictures without chroma luma's.

    >>> measured_db((0.1, 0.3, 0.5), "luma"), round(measured_db((0.1, 0.3, 0.5), "yuv"), 6)
    (0.1, 0.175)
    """
    luma_db, *chroma_db = components_db
    if measure == "luma" or not chroma_db:
        return luma_db
    return LUMA_SHARE_OF_YUV * luma_db + (1 - LUMA_SHARE_OF_YUV) * fmean(chroma_db)


def loss_per_bit(
    sizes_bytes: Sequence[float], slopes: Sequence[float], chroma_weight: float, measure: Measure = "luma"
) -> float:
    """What of the loss a bit must save so that it is worth its place, in the mean over the streams.

    A bit more is a share of a stream's bits, and the loss is worth slope x dB of its rate.

    Args:
        sizes_bytes: Of the streams.
        slopes: By how much the logarithms of their rates rise for a dB of what decides.
        chroma_weight: Weight of each chroma plane in the loss, against 1 for luma.
        measure: What decides.
    """
    shares = fmean(1 / (8 * size) for size in sizes_bytes)
    luma = 1 / (1 + 2 * chroma_weight) / (1 if measure == "luma" else LUMA_SHARE_OF_YUV)
    return shares / (fmean(slopes) * DB_PER_LOSS) * luma


def net_percent(gain_db: float, added_bytes: float, slope: float, worth_bytes: float) -> float:
    """The change of the rate at equal luma in percent, with what is added; negative saves."""
    if math.isinf(gain_db):
        return -100.0 if gain_db > 0 else math.inf
    return 100 * (math.exp(-slope * gain_db) * (1 + added_bytes / worth_bytes) - 1)
