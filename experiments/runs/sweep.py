"""Sequences, QPs and in-loop filter sets: the coded pictures that every VVC experiment walks over."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import EncoderName, VvcEncoder
from vvc_nnr.codec.sequence import CODED_BIT_DEPTH, LoopFilters, Preset, Sao, VvcOptions
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.naming import naming
from vvc_nnr.experiments.records.provenance import PsnrPeak
from vvc_nnr.filters.inference.choice import BackendChoice, Precision
from vvc_nnr.filters.inference.runner import DEFAULT_TILE, Runner
from vvc_nnr.filters.networks.in_loop import InLoopNetwork
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.source import VIDEO_SUFFIXES, Source

_ItemT = TypeVar("_ItemT")


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """What every VVC experiment has to know.

    Attributes:
        qps: QPs to encode at.
        preset: libvvenc's preset.
        max_pictures: Pictures per sequence at most, from the first on; None for all.
        psnr_peak: Peak of PSNR.
        tile: Side of the filter's tiles in luma samples.
        device: Where the networks run.
        backend: What computes the networks.
        precision: What they are computed in.
        n_threads: Threads of the encoder, and of the networks.
        sao: Whether the filter sets "all" and "deblock-sao" have SAO, or as the preset has it.
        encoder: Which VVC encoder.
        encoder_config: VTM's configuration file.

    Raises:
        InputError: If a value is out of its range.
    """

    qps: Sequence[int] = (22, 27, 32, 37)
    preset: Preset = "faster"
    max_pictures: int | None = None
    psnr_peak: PsnrPeak = "vtm"
    tile: int | None = DEFAULT_TILE
    device: str = "cpu"
    backend: BackendChoice = "auto"
    precision: Precision = "float32"
    n_threads: int = 2
    sao: Sao = "on"
    encoder: EncoderName = "libvvenc"
    encoder_config: Path | None = None

    def __post_init__(self) -> None:
        if not self.qps or len(set(self.qps)) != len(self.qps):
            raise InputError(f"QPs {list(self.qps)}: want at least one, each once")
        if not all(0 <= qp <= 63 for qp in self.qps):
            raise InputError(f"QPs {list(self.qps)}: must each be 0 to 63")
        if self.max_pictures is not None and self.max_pictures < 1:
            raise InputError(f"at most {self.max_pictures} pictures: must be at least 1")

    def runner(self, network: InLoopNetwork) -> Runner:
        """A network made ready to run as these options have it.

        Raises:
            InputError: If the backend, precision or device is not there, or the tile is too small.
            VvcNnrError: If a weight is NaN or infinite.
        """
        return Runner(
            network,
            backend=self.backend,
            precision=self.precision,
            n_threads=self.n_threads,
            tile=self.tile,
            device=self.device,
        )


@dataclass(frozen=True, slots=True)
class Place:
    """One picture in a sweep.

    Attributes:
        source: Its sequence.
        index: Its number in the sequence, from 0.
        qp: The QP that it is coded with.
        loop_filters: The codec's in-loop filters.
    """

    source: Source
    index: int
    qp: int
    loop_filters: LoopFilters


@dataclass(frozen=True, slots=True, eq=False)
class SweptPicture:
    """One picture before and after coding.

    Attributes:
        place: Which one.
        reference: The original at the depth of coding.
        decoded: What the codec made of it, in the same format.
        n_bits: Its size in the stream.
        encode_s: Its share of the encoder's processor time, None where a cached encoding does not know it.
        decode_s: Processor time of its decoding with the check of its MD5.
    """

    place: Place
    reference: Frame
    decoded: Frame
    n_bits: int
    encode_s: float | None
    decode_s: float


def sweep(
    sources: Sequence[Source],
    filter_sets: Sequence[LoopFilters],
    options: SweepOptions,
    cache: Path,
    is_missing: Callable[[Place], bool],
    title: str,
) -> Iterator[SweptPicture]:
    """Yields every coded picture that something is missing of; only encodings with such pictures are made.

    Args:
        sources: The sequences.
        filter_sets: In-loop filters of the codec, one encoding each.
        options: How to encode.
        cache: Folder of finished encodings.
        is_missing: Whether a picture has to be coded.
        title: Name of the experiment in the progress bar.

    Raises:
        UnsupportedError: If a sequence is not 4:2:0 or 4:0:0.
        InputError: If a sequence cannot be read.
        BitstreamError: If a sequence is damaged.
        ExternalToolError: If the encoder fails.
    """
    jobs = list(product(sources, options.qps, filter_sets))
    n_pictures = functools.cache(lambda source: _n_pictures(source, options.max_pictures))
    bar = tqdm(jobs, unit="encoding", desc=title, disable=None)
    for source, qp, loop_filters in bar:
        bar.set_postfix_str(f"{source.name} QP {qp} {loop_filters}")
        first = Place(source, 0, qp, loop_filters)
        with naming(source.path):
            # Pictures are counted only where the first one is done: counting decodes those of a video.
            if is_missing(first) or any(is_missing(_at(first, i)) for i in range(n_pictures(source))):
                for picture in _coded(first, options, cache):
                    if is_missing(picture.place):
                        yield picture


def _n_pictures(source: Source, limit: int | None) -> int:
    """How many pictures of a sequence are taken; counted where the file only claims a number."""
    if source.n_pictures is None or source.path.suffix.lower() in VIDEO_SUFFIXES:
        return sum(1 for _ in source.frames(count=limit))
    return source.n_pictures if limit is None else min(limit, source.n_pictures)


def _coded(first: Place, o: SweepOptions, cache: Path) -> Iterator[SweptPicture]:
    """Encodes a sequence and yields its pictures one by one."""
    source = first.source
    options = VvcOptions(first.qp, o.preset, first.loop_filters, o.n_threads, o.sao)
    encoder = VvcEncoder(options, cache, encoder=o.encoder, config=o.encoder_config)
    coded = encoder.encode(source.frames(count=o.max_pictures), source.format.fps)
    encode_s = None if coded.encode_cpu_s is None else coded.encode_cpu_s / len(coded.pictures)
    decoded = timed(decode_vvc(coded.stream, width=source.format.width, height=source.format.height))
    pairs = zip(source.frames(count=o.max_pictures), decoded, strict=True)
    for index, (original, (picture, decode_s)) in enumerate(pairs):
        reference = original.to_bit_depth(CODED_BIT_DEPTH)
        n_bits = coded.pictures[index].n_bits
        yield SweptPicture(_at(first, index), reference, _like(picture, reference), n_bits, encode_s, decode_s)


def timed(items: Iterator[_ItemT]) -> Iterator[tuple[_ItemT, float]]:
    """Yields each item with the processor seconds of this process that it took to come."""
    start_s = time.process_time()
    for item in items:
        yield item, time.process_time() - start_s
        start_s = time.process_time()


def _at(first: Place, index: int) -> Place:
    return Place(first.source, index, first.qp, first.loop_filters)


def _like(picture: Frame, reference: Frame) -> Frame:
    """The decoded picture in the reference's chroma format: 4:0:0 was coded as 4:2:0 with flat chroma."""
    if reference.chroma_format == "400":
        return Frame(picture.planes[:1], picture.bit_depth, "400")
    return picture
