"""A sequence as a VVC encoder codes it: what it is given, how, what comes out, and the one loop over any encoder.

Every encoder gets 10-bit 4:2:0 pictures with even sides of at least 16 and codes them in a configuration of JVET.
`encode` deals out the pictures in chunks, asks the cache, runs the encoder, holds what it wrote against what was asked
for, and puts the chunks together. What encoders differ in is an `EncoderProgram`. The cache holds
finished encodings on disk, found again by the hash of all that determines their bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, cast, get_args

import numpy as np

from vvc_nnr.codec.configuration import CONFIGURATIONS, ConfigName, Configuration, SliceType, check_qp
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.nal import picture_units
from vvc_nnr.codec.programs import LoggedPicture, children_cpu_s, work_folder
from vvc_nnr.codec.slice_qp import picture_qps
from vvc_nnr.codec.vvc_stream import VvcStream, read_vvc_stream
from vvc_nnr.errors import BitstreamError, ExternalToolError, InputError, UnsupportedError
from vvc_nnr.files import make_folder, write_file
from vvc_nnr.json_text import parse_json
from vvc_nnr.sequences.frame import DEFAULT_FPS, ColourRange, Frame, VideoFormat

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EncoderRun:
    """What an encoder's run gave.

    Attributes:
        stream: The VVC byte stream.
        log: What the encoder printed.
        encode_s: Seconds that it ran.
        encode_cpu_s: Processor seconds of all its threads, None where they were not measured.
    """

    stream: bytes
    log: str
    encode_s: float
    encode_cpu_s: float | None


class EncodingCache:
    """A folder of `<first two hex digits>/<hash>.266` files with a `.json` beside each.

    The JSON is written last and holds a hash of all that the entry says and of its key, so an entry that a crash cut
    short, that was damaged since or that has another's name is no entry; nor is one with a time below 0 or not finite.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> EncoderRun | None:
        """The encoding under a key; None if absent or damaged."""
        stream_path, log_path = self._paths(key)
        try:
            entry = parse_json(log_path.read_bytes())
            stream = stream_path.read_bytes()
            found = EncoderRun(stream, str(entry["log"]), entry["encode_s"], entry["encode_cpu_s"])
            is_possible = _is_time(found.encode_s) and (found.encode_cpu_s is None or _is_time(found.encode_cpu_s))
            return found if is_possible and entry["sha256"] == _digest(key, found) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def put(self, key: str, encoding: EncoderRun) -> None:
        """Stores an encoding; several processes may store the same key at once.

        Where something else than a file has an entry's name, the entry is not stored, and a warning says so.

        Raises:
            InputError: If the folder cannot be written.
        """
        make_folder(self._folder)
        stream_path, log_path = self._paths(key)
        if in_the_way := _in_the_way(stream_path.parent, (stream_path, log_path)):
            _log.warning("%s: has the name of a cached encoding, which is not kept; remove it", in_the_way)
            return
        make_folder(stream_path.parent)
        entry = {
            "sha256": _digest(key, encoding),
            "encode_s": float(encoding.encode_s),
            "encode_cpu_s": None if encoding.encode_cpu_s is None else float(encoding.encode_cpu_s),
            "log": encoding.log,
        }
        for path, data in ((stream_path, encoding.stream), (log_path, json.dumps(entry).encode())):
            write_file(path, data)

    def _paths(self, key: str) -> tuple[Path, Path]:
        folder = self._folder / key[:2]
        return folder / f"{key}.266", folder / f"{key}.json"


def _in_the_way(folder: Path, files: Iterable[Path]) -> Path | None:
    """What has the place of an entry's folder and is none, or that of a file and is a folder."""
    if os.path.lexists(folder) and not folder.is_dir():
        return folder
    return next((path for path in files if path.is_dir()), None)


def _is_time(value_s: object) -> bool:
    """Whether a value out of a file is a time: JSON has texts, true and NaN as well."""
    return isinstance(value_s, float) and math.isfinite(value_s) and value_s >= 0


def _digest(key: str, run: EncoderRun) -> str:
    """Of all that an entry says: JSON gives every float back as it was."""
    cpu_s = None if run.encode_cpu_s is None else float(run.encode_cpu_s)
    said = json.dumps([key, run.log, float(run.encode_s), cpu_s]).encode()
    return hashlib.sha256(hashlib.sha256(run.stream).digest() + said).hexdigest()


LoopFilters: TypeAlias = Literal["all", "deblock-sao", "none"]
Sao: TypeAlias = Literal["on", "preset"]
Preset: TypeAlias = Literal["faster", "fast", "medium", "slow", "slower"]

CODED_BIT_DEPTH = 10
MIN_CODED_SIDE = 16
MOST_PADDING = 7
"""Samples that encoders add to a side beyond the least one, to fill up whole coding units of 8."""


def may_be_padding(n_cut: int, coded_side: int) -> bool:
    """Whether what is cut of a side of decoded pictures may be what an encoder padded it with."""
    return 0 <= n_cut <= MOST_PADDING or (n_cut >= 0 and coded_side <= MIN_CODED_SIDE)


DEFAULT_PRESET: Preset = "faster"


@dataclass(frozen=True, slots=True)
class VvcOptions:
    """How to encode.

    Attributes:
        qp: Quantisation parameter, 0 to 63: of every picture if all are intra, else what theirs are derived from.
        preset: The speed preset of libvvenc and vvencapp; VTM has none.
        loop_filters: "all" (deblocking, SAO, ALF, CC-ALF), "deblock-sao" (those of VTM 1.0) or "none".
        n_threads: Encoder threads; the bits do not depend on it. VTM has one.
        sao: Whether the first two sets have SAO: "on", or as the "preset" has it. libvvenc's preset faster, left to
            itself, has none.
        config: "ai" (all intra), "ra" (random access) or "ldb" (low delay B).
    """

    qp: int
    preset: Preset = DEFAULT_PRESET
    loop_filters: LoopFilters = "all"
    n_threads: int = 2
    sao: Sao = "on"
    config: ConfigName = "ai"

    def __post_init__(self) -> None:
        check_qp(self.qp)
        if self.preset not in get_args(Preset):
            raise InputError(f"preset {self.preset!r}: must be one of {', '.join(get_args(Preset))}")
        if self.loop_filters not in get_args(LoopFilters):
            raise InputError(f"loop filters {self.loop_filters!r}: must be one of {', '.join(get_args(LoopFilters))}")
        if self.n_threads < 1:
            raise InputError(f"{self.n_threads} threads: must be at least 1")
        if self.sao not in get_args(Sao):
            raise InputError(f"SAO {self.sao!r}: must be one of {', '.join(get_args(Sao))}")
        if self.config not in CONFIGURATIONS:
            raise InputError(f"configuration {self.config!r}: must be one of {', '.join(CONFIGURATIONS)}")

    @property
    def configuration(self) -> Configuration:
        """How pictures depend on each other."""
        return CONFIGURATIONS[self.config]


@dataclass(frozen=True, slots=True)
class CodedPicture:
    """One coded picture.

    Attributes:
        poc: Its place in the order of output, through the whole sequence.
        qp: The QP of its first slice.
        n_bits: Its size with parameter sets; SEI is not counted.
        slice_type: "I", "P" or "B".
        temporal_layer: Its temporal sublayer, 0 to 6; no picture of a lower one is predicted from it.
    """

    poc: int
    qp: int
    n_bits: int
    slice_type: SliceType
    temporal_layer: int


@dataclass(frozen=True, slots=True)
class EncodedSequence:
    """A finished, verified encoding.

    Attributes:
        stream: The VVC byte stream.
        pictures: One entry per picture, in the order of output.
        format: The format of the source pictures.
        encoder: Name and version of the encoder.
        encode_s: Seconds that the encoder ran (those of the first run where the cache answered).
        cached: True if no encoder ran at all.
        encode_cpu_s: Processor seconds of all threads of the encoder (those of the first run where the cache
            answered), None where the cache does not know them.
    """

    stream: bytes
    pictures: tuple[CodedPicture, ...]
    format: VideoFormat
    encoder: str
    encode_s: float
    cached: bool
    encode_cpu_s: float | None = None

    @property
    def n_bits(self) -> int:
        """Bits of all pictures with their parameter sets, SEI not counted, as the encoder logs them."""
        return sum(p.n_bits for p in self.pictures)


@dataclass(frozen=True, slots=True)
class EncoderJob:
    """What one run of an encoder reads and writes.

    Attributes:
        raw: 10-bit 4:2:0 raw video.
        target: The stream to write.
        width: Luma samples per row, even.
        height: Luma rows, even.
        fps: Pictures per second.
        n_pictures: Pictures in `raw`.
        colour_range: As the source states it.
        pixel_aspect: As the source states it.
    """

    raw: Path
    target: Path
    width: int
    height: int
    fps: Fraction
    n_pictures: int
    colour_range: ColourRange | None = None
    pixel_aspect: Fraction | None = None

    @property
    def format(self) -> VideoFormat:
        """The format of the pictures in `raw`, with what the source states of them."""
        plain = VideoFormat(self.width, self.height, CODED_BIT_DEPTH, "420", self.fps)
        return replace(plain, colour_range=self.colour_range, pixel_aspect=self.pixel_aspect)


class EncoderProgram(Protocol):
    """What the loop must know of an encoder.

    Attributes:
        name: By which messages call it.
        max_pictures: Intra pictures that one run takes; None: any number.
        fails_silently: Whether it may report success and write damaged pictures or none. What it writes is then
            decoded as a check, and a run that failed is repeated once on one thread.
    """

    name: str
    max_pictures: int | None
    fails_silently: bool

    def identity(self) -> str:
        """What tells it, its build and its configuration from others: rows of two encoders must not mix."""
        ...

    def title(self) -> str:
        """What tables call it: its identity, with the names of its files."""
        ...

    def version(self, log: str) -> str:
        """Its name and version, which its log may tell."""
        ...

    def logged_pictures(self, log: str, /) -> list[LoggedPicture]:
        """The pictures of its log, in order; InputError if a line of a picture is not understood."""
        ...

    def command(self, options: VvcOptions, job: EncoderJob) -> list[str]:
        """The command line that codes the job."""
        ...

    def cache_key(self, options: VvcOptions, job: EncoderJob) -> bytes:
        """All but the pictures that determines the stream: build, options and configuration."""
        ...

    def run(self, options: VvcOptions, job: EncoderJob) -> EncoderRun:
        """Codes the job; raises ExternalToolError if the program says that it failed."""
        ...


def encode(
    program: EncoderProgram,
    options: VvcOptions,
    frames: Iterable[Frame],
    fps: Fraction | None = None,
    cache: EncodingCache | None = None,
    *,
    stated: VideoFormat | None = None,
) -> EncodedSequence:
    """Encodes 4:0:0 or 4:2:0 pictures of 8 to 10 bit as 10-bit 4:2:0 pictures, any size.

    Sizes are padded up to even numbers and at least 16; the decoder's output is cropped by `decode_vvc` when it is
    told the source's size. A 4:0:0 picture gets flat chroma.

    Args:
        program: The encoder.
        options: What to encode with.
        frames: The pictures, which are taken one by one.
        fps: Pictures per second; None: as `stated` says, 30 without it.
        cache: Where finished chunks are looked up and kept; None: encode every time.
        stated: What the source states of its pictures; libvvenc writes a full colour range and a pixel aspect other
            than 1 into the stream.

    Raises:
        InputError: If there is no picture, or the pictures differ in format.
        UnsupportedError: For 4:2:2, 4:4:4 and more than 10 bit.
        ExternalToolError: If the encoder fails, writes nothing, or codes anything else than asked.
    """
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise InputError("no picture to encode")
    rate = fps if fps is not None else stated.fps if stated is not None else DEFAULT_FPS
    source = first.format(rate)
    if stated is not None:
        source = replace(source, colour_range=stated.colour_range, pixel_aspect=stated.pixel_aspect)
    iterator = itertools.chain([first], iterator)
    runs: list[EncoderRun] = []
    n_cached = 0
    while (found := _next_chunk(program, options, iterator, source, cache)) is not None:
        run, was_cached = found
        runs.append(run)
        n_cached += was_cached
    whole = joined(runs)
    pictures = (
        p for run in runs for p in coded_pictures(read_vvc_stream(run.stream), program.logged_pictures(run.log))
    )
    return EncodedSequence(
        stream=whole.stream,
        pictures=tuple(replace(picture, poc=place) for place, picture in enumerate(pictures)),
        format=source,
        encoder=program.version(runs[0].log),
        encode_s=whole.encode_s,
        cached=n_cached == len(runs),
        encode_cpu_s=whole.encode_cpu_s,
    )


def coded_pictures(stream: VvcStream, logged: Sequence[LoggedPicture]) -> list[CodedPicture]:
    """The pictures of a chunk in the order of output: QP and layer by their headers, bits and type by the log.

    Args:
        stream: The chunk.
        logged: Its pictures in the order of coding.

    Raises:
        InputError: If the log is of other pictures: another number, order or QP.
        BitstreamError: If a header breaks the syntax.
    """
    of_stream = [(picture.poc, qp) for picture, qp in zip(stream.pictures, picture_qps(stream), strict=True)]
    of_log = [(line.poc, line.qp) for line in logged]
    if of_stream != of_log:
        differing = next(pair for pair in itertools.zip_longest(of_stream, of_log) if pair[0] != pair[1])
        raise InputError(f"picture (POC, QP) {differing[0]} in the stream, {differing[1]} in the log")
    types = [cast(SliceType, line.slice_type) for line in logged]
    return [
        CodedPicture(place, of_log[i][1], logged[i].n_bits, types[i], stream.pictures[i].temporal_layer)
        for place, i in enumerate(stream.output_order)
    ]


def check_encodable(frame: Frame, source: VideoFormat) -> None:
    """Checks one picture of a sequence before it is encoded.

    Raises:
        InputError: If its format is not that of the sequence.
        UnsupportedError: For 4:2:2, 4:4:4 and more than 10 bit.
    """
    if source.holding(frame) != source:
        raise InputError(f"pictures differ in format: {source.holding(frame)} after {source}")
    if source.chroma_format not in ("400", "420"):
        named = ":".join(source.chroma_format)
        raise UnsupportedError(f"the encoder takes 4:0:0 and 4:2:0, got {named}")
    if source.bit_depth > CODED_BIT_DEPTH:
        raise UnsupportedError(f"the encoder takes at most {CODED_BIT_DEPTH} bit, got {source.bit_depth} bit")


def coded_picture(frame: Frame) -> Frame:
    """The picture as the encoder gets it; 4:0:0 gets flat chroma, small and odd sizes are padded."""
    frame = frame.to_bit_depth(CODED_BIT_DEPTH)
    if frame.chroma_format == "400":
        shape = (-(-frame.height // 2), -(-frame.width // 2))
        flat = np.full(shape, 1 << (CODED_BIT_DEPTH - 1), np.uint16)
        frame = Frame((frame.planes[0], flat, flat), CODED_BIT_DEPTH, "420")
    width, height = (max(MIN_CODED_SIDE, side + side % 2) for side in (frame.width, frame.height))
    return frame.padded(width, height)


def measured(run_program: Callable[[], str], target: Path) -> EncoderRun:
    """Runs an encoder by a function that returns its log; the stream is what then lies in `target`, if anything."""
    target.unlink(missing_ok=True)
    start_s, start_cpu_s = time.perf_counter(), children_cpu_s()
    log = run_program()
    encode_s, cpu_s = time.perf_counter() - start_s, children_cpu_s() - start_cpu_s
    return EncoderRun(target.read_bytes() if target.exists() else b"", log, encode_s, cpu_s)


def joined(runs: Sequence[EncoderRun]) -> EncoderRun:
    """Runs over consecutive pictures as one."""
    known_s = [run.encode_cpu_s for run in runs if run.encode_cpu_s is not None]
    return EncoderRun(
        stream=b"".join(run.stream for run in runs),
        log="".join(run.log for run in runs),
        encode_s=sum(run.encode_s for run in runs),
        encode_cpu_s=sum(known_s) if len(known_s) == len(runs) else None,
    )


def _next_chunk(
    program: EncoderProgram,
    options: VvcOptions,
    frames: Iterator[Frame],
    source: VideoFormat,
    cache: EncodingCache | None,
) -> tuple[EncoderRun, bool] | None:
    """The run over as many pictures as one takes, and whether the cache had it; None if no picture is left."""
    with work_folder() as folder:
        n_most = options.configuration.chunk_pictures(source.fps, program.max_pictures)
        chunk = itertools.islice(frames, n_most)
        job = _write_job(folder, chunk, source)
        if job is None:
            return None
        if cache is None:
            return _verified_run(program, options, job), False
        key = _cache_key(program, options, job)
        if (found := cache.get(key)) is not None:
            return found, True
        run = _verified_run(program, options, job)
        cache.put(key, run)
        return run, False


def _write_job(folder: Path, frames: Iterable[Frame], source: VideoFormat) -> EncoderJob | None:
    """Writes the pictures as the encoder gets them; None if there is none."""
    raw, n_pictures, coded = folder / "in.yuv", 0, None
    with raw.open("wb") as file:
        for frame in frames:
            check_encodable(frame, source)
            coded = coded_picture(frame)
            file.write(coded.tobytes())
            n_pictures += 1
    if coded is None:
        return None
    said = (source.colour_range, source.pixel_aspect)
    return EncoderJob(raw, folder / "out.266", coded.width, coded.height, source.fps, n_pictures, *said)


def _cache_key(program: EncoderProgram, options: VvcOptions, job: EncoderJob) -> str:
    """Hash of all that determines the stream."""
    with job.raw.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha256(program.cache_key(options, job))).hexdigest()


def _verified_run(program: EncoderProgram, options: VvcOptions, job: EncoderJob) -> EncoderRun:
    """Runs the encoder; one that may fail in silence is tried once more on one thread."""
    for tried in (options, replace(options, n_threads=1)) if program.fails_silently else (options,):
        run = program.run(tried, job)
        problem = _problem(program, run, job, options)
        if problem is None:
            return run
    command = program.command(tried, job)
    raise ExternalToolError(f"{program.name}: {problem}", command=command, exit_code=0, log=run.log)


def _problem(program: EncoderProgram, run: EncoderRun, job: EncoderJob, options: VvcOptions) -> str | None:
    """What is wrong with an encoder's run that reported success, None if nothing is."""
    if not run.stream:
        return "it wrote nothing"
    try:
        logged = program.logged_pictures(run.log)
    except InputError as error:
        return f"its log is not understood: {error}"
    if len(logged) != job.n_pictures:
        return f"{len(logged)} of {job.n_pictures} pictures in its log"
    if (fault := _fault(options.configuration, logged, job)) is not None:
        return fault
    if not options.configuration.is_inter and any(p.qp != options.qp for p in logged):
        return f"coded at QP {[p.qp for p in logged]}, asked for {options.qp}"
    try:
        units = picture_units(run.stream)
    except (BitstreamError, UnsupportedError) as error:
        return f"what it wrote is no VVC stream: {error}"
    if len(units) != job.n_pictures:
        return f"{len(units)} of {job.n_pictures} pictures in its stream"
    if not all(unit.md5 for unit in units):
        return "a picture without an MD5 SEI"
    try:
        coded_pictures(read_vvc_stream(run.stream), logged)
    except (BitstreamError, UnsupportedError, InputError) as error:
        return f"its log is not that of its stream: {error}"
    return _decoding_problem(run.stream, job) if program.fails_silently or options.configuration.is_inter else None


def _fault(configuration: Configuration, logged: Sequence[LoggedPicture], job: EncoderJob) -> str | None:
    """What tells by the log that pictures were coded in another configuration, None if nothing does."""
    in_output = sorted(range(len(logged)), key=lambda i: logged[i].poc)
    fault = configuration.fault([logged[i].slice_type for i in in_output], in_output, job.fps)
    return fault and f"{fault}: give it a configuration for {configuration.title} (VTM: {configuration.vtm_config})"


def _decoding_problem(stream: bytes, job: EncoderJob) -> str | None:
    """What is wrong with the pictures that a stream decodes to, None if nothing is."""
    try:
        sizes = [(frame.width, frame.height) for frame in decode_vvc(stream)]
    except (BitstreamError, UnsupportedError) as error:
        return f"what it wrote does not decode: {error}"
    if len(sizes) != job.n_pictures:
        return f"{len(sizes)} of {job.n_pictures} pictures decoded"
    return None if set(sizes) == {(job.width, job.height)} else f"it wrote pictures of {sizes[0]}"
