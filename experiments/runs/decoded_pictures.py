"""Where decoded pictures and their bits come from in tool-by-tool: coded here, or as `manifest` lists them.

What makes the pictures of one sequence at one QP can go to another process and make some of them there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from vvc_nnr.codec.configuration import CONFIGURATIONS, ConfigName
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.encoders import EncoderName, VvcEncoder, encoder_identity, encoder_title
from vvc_nnr.codec.sequence import CodedPicture, LoopFilters, VvcOptions
from vvc_nnr.codec.vvc_stream import read_vvc_stream
from vvc_nnr.errors import InputError
from vvc_nnr.experiments.records.provenance import SAO_NOTES, VTM_FILTERS_NOTE
from vvc_nnr.experiments.records.settings import InputDigests, digest_of, source_digests
from vvc_nnr.experiments.runs.tool_options import ToolOptions
from vvc_nnr.filters.in_stream import qps_of_pictures
from vvc_nnr.filters.networks.told_qp import PictureQps
from vvc_nnr.sequences.frame import Frame
from vvc_nnr.sequences.source import VIDEO_SUFFIXES, Source

LOOP_FILTER_SETS: tuple[LoopFilters, ...] = ("all", "deblock-sao", "none")
Coding: TypeAlias = tuple[ConfigName, LoopFilters]
"""How a codec makes pictures: in which configuration, and with which of its in-loop filters."""
ANCHOR_FILTERS: LoopFilters = "all"
CODED_HERE_RATE = "bits of the coded pictures and of their decisions; the network's bits only where a table says so"
_ItemT = TypeVar("_ItemT")


@dataclass(frozen=True, slots=True, eq=False)
class DecodedPicture:
    """One picture as a codec made it.

    Attributes:
        frame: The decoded picture, of the size of the original.
        n_bits: Its size in the stream.
        encode_s: Its share of the encoder's processor time, None where that is not known.
        decode_s: Processor time of its decoding with the check of its MD5, None where that is not known.
        qps: Its QPs, by which networks are told theirs.
        coded: What its headers say of it, None where the pictures were decoded elsewhere.
        padded: The same with what odd or small sides were padded with, as a decoder filters it; None: it has none of
            that, or was cut elsewhere.
    """

    frame: Frame
    n_bits: int
    encode_s: float | None
    decode_s: float | None
    qps: PictureQps
    coded: CodedPicture | None = None
    padded: Frame | None = None


class PictureMaker(Protocol):
    """Makes the decoded pictures of one sequence coded one way; it can be pickled."""

    @property
    def step(self) -> int | None:
        """How many pictures are made together, from the first on: any whole number of such steps; None: all."""
        ...

    @property
    def picture_s(self) -> float:
        """About how many seconds one picture takes on one core."""
        ...

    def elsewhere(self) -> PictureMaker:
        """The same for a process that may be in another folder."""
        ...

    def pictures(self, start: int, count: int, n_threads: int) -> Iterator[DecodedPicture]:
        """The decoded pictures from `start` on, in their order.

        Args:
            start: A multiple of the step.
            count: So many.
            n_threads: Threads of the encoder; no bit depends on them.

        Raises:
            InputError, BitstreamError, UnsupportedError: If pictures cannot be read, coded or decoded.
            ExternalToolError: If an encoder fails.
        """
        ...


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

    def decoded_name(self, source: Source, qp: int, coding: Coding) -> str:
        """What `digests` calls the decoded pictures of a sequence; empty where they are made of the originals here."""
        ...

    def maker(self, source: Source, qp: int, coding: Coding) -> PictureMaker:
        """What makes the decoded pictures of a sequence.

        Raises:
            InputError: If there are none.
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
        self._cache = cache.absolute()
        self._identities = {config: self._identity_of(config) for config in options.configs}

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
        return {"encoder_identity": "; ".join(dict.fromkeys(self._identities.values()))}

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

    def decoded_name(self, source: Source, qp: int, coding: Coding) -> str:
        """Empty."""
        return ""

    def maker(self, source: Source, qp: int, coding: Coding) -> PictureMaker:
        """The encoder and decoder of a sequence."""
        o, (config, loop_filters) = self._options, coding
        return PictureCoder(
            source,
            VvcOptions(qp, o.preset, loop_filters, sao=o.sao, config=config),
            self._cache,
            o.encoder,
            tuple(path.absolute() for path in o.config_files(config)),
            tuple(o.encoder_arguments),
            self._identities[config],
        )

    def _identity_of(self, config: ConfigName) -> str:
        o = self._options
        return encoder_identity(o.encoder, o.config_files(config), o.encoder_arguments, config)


@dataclass(frozen=True, slots=True)
class PictureCoder:
    """Encodes and decodes one sequence, a `PictureMaker`.

    Attributes:
        source: The sequence.
        options: How to encode.
        cache: Folder of finished encodings.
        encoder: Which encoder.
        config: Its configuration files.
        arguments: Further arguments.
        identity: Which build it must be.
    """

    source: Source
    options: VvcOptions
    cache: Path
    encoder: EncoderName
    config: tuple[Path, ...]
    arguments: tuple[str, ...]
    identity: str

    @property
    def step(self) -> int | None:
        """As many pictures as one run of the encoder takes."""
        return self._encoder(1).chunk_pictures(self.source.format.fps)

    @property
    def picture_s(self) -> float:
        """Encoding; decoding is a small part of that."""
        return self._encoder(1).picture_s(self.source.format)

    def elsewhere(self) -> PictureCoder:
        """The same by the source's whole path; all others are whole."""
        return replace(self, source=replace(self.source, path=self.source.path.absolute()))

    def pictures(self, start: int, count: int, n_threads: int) -> Iterator[DecodedPicture]:
        """Encodes pictures and yields them decoded, one by one; raises as `PictureMaker.pictures`."""
        here = encoder_identity(self.encoder, self.config, self.arguments, self.options.config)
        if here != self.identity:
            raise InputError(f"encoder {self.encoder}: another build here ({here}) than this run has ({self.identity})")
        format = self.source.format
        coded = self._encoder(n_threads).encode(self.source.frames(start, count), format.fps)
        stream = read_vvc_stream(coded.stream)
        encode_s = None if coded.encode_cpu_s is None else coded.encode_cpu_s / len(coded.pictures)
        told = qps_of_pictures(stream, self.options.qp)
        for picture, qps, (whole, decode_s) in zip(coded.pictures, told, timed(decode_vvc(stream)), strict=True):
            frame = whole.cropped(format.width, format.height)
            padded = whole if (whole.width, whole.height) != (format.width, format.height) else None
            yield DecodedPicture(frame, picture.n_bits, encode_s, decode_s, qps, picture, padded)

    def _encoder(self, n_threads: int) -> VvcEncoder:
        options = replace(self.options, n_threads=n_threads)
        return VvcEncoder(options, self.cache, encoder=self.encoder, config=self.config, arguments=self.arguments)


def n_pictures_of(source: Source, limit: int | None) -> int:
    """How many pictures of a sequence are taken; counted where the file only claims a number."""
    if source.n_pictures is None or source.path.suffix.lower() in VIDEO_SUFFIXES:
        return sum(1 for _ in source.frames(count=limit))
    return source.n_pictures if limit is None else min(limit, source.n_pictures)


def timed(items: Iterator[_ItemT]) -> Iterator[tuple[_ItemT, float]]:
    """Yields each item with the processor seconds of this process that it took to come."""
    start_s = time.process_time()
    for item in items:
        yield item, time.process_time() - start_s
        start_s = time.process_time()
