"""A sequence as a VVC encoder codes it: what it is given, how, what comes out, and the one loop over any encoder.

Every encoder gets 10-bit 4:2:0 pictures with even sides of at least 16 and codes each as an intra picture of one QP.
`encode` deals out the pictures in chunks, asks the cache, runs the encoder, holds what it wrote against what was asked
for, and puts the chunks together. What encoders differ in is an `EncoderProgram`.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np

from vvc_nnr.codec.cache import EncoderRun, EncodingCache
from vvc_nnr.codec.decoder import decode_vvc
from vvc_nnr.codec.nal import picture_units
from vvc_nnr.codec.programs import LoggedPicture, children_cpu_s, work_folder
from vvc_nnr.errors import BitstreamError, ExternalToolError, InputError, UnsupportedError
from vvc_nnr.sequences.frame import Frame, VideoFormat

LoopFilters: TypeAlias = Literal["all", "deblock-sao", "none"]
Sao: TypeAlias = Literal["on", "preset"]
Preset: TypeAlias = Literal["faster", "fast", "medium", "slow", "slower"]

CODED_BIT_DEPTH = 10
MIN_CODED_SIDE = 16


DEFAULT_PRESET: Preset = "faster"


@dataclass(frozen=True, slots=True)
class VvcOptions:
    """How to encode.

    Attributes:
        qp: Quantisation parameter of every picture, 0 to 63.
        preset: The speed preset of libvvenc and vvencapp; VTM has none.
        loop_filters: "all" (deblocking, SAO, ALF, CC-ALF), "deblock-sao" (those of VTM 1.0) or "none".
        n_threads: Encoder threads; the bits do not depend on it. VTM has one.
        sao: Whether the first two sets have SAO: "on", or as the "preset" has it. libvvenc's preset faster, left to
            itself, has none.
    """

    qp: int
    preset: Preset = DEFAULT_PRESET
    loop_filters: LoopFilters = "all"
    n_threads: int = 2
    sao: Sao = "on"

    def __post_init__(self) -> None:
        if not 0 <= self.qp <= 63:
            raise InputError(f"QP {self.qp}: must be 0 to 63")
        if self.preset not in get_args(Preset):
            raise InputError(f"preset {self.preset!r}: must be one of {', '.join(get_args(Preset))}")
        if self.loop_filters not in get_args(LoopFilters):
            raise InputError(f"loop filters {self.loop_filters!r}: must be one of {', '.join(get_args(LoopFilters))}")
        if self.n_threads < 1:
            raise InputError(f"{self.n_threads} threads: must be at least 1")
        if self.sao not in get_args(Sao):
            raise InputError(f"SAO {self.sao!r}: must be one of {', '.join(get_args(Sao))}")


@dataclass(frozen=True, slots=True)
class CodedPicture:
    """One coded picture.

    Attributes:
        poc: Its place in display order.
        qp: The QP that it was coded with.
        n_bits: Its size with parameter sets; SEI is not counted.
    """

    poc: int
    qp: int
    n_bits: int


@dataclass(frozen=True, slots=True)
class EncodedSequence:
    """A finished, verified encoding.

    Attributes:
        stream: The VVC byte stream.
        pictures: One entry per picture, in order.
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
    """

    raw: Path
    target: Path
    width: int
    height: int
    fps: Fraction
    n_pictures: int

    @property
    def format(self) -> VideoFormat:
        """The format of the pictures in `raw`."""
        return VideoFormat(self.width, self.height, CODED_BIT_DEPTH, "420", self.fps)


class EncoderProgram(Protocol):
    """What the loop must know of an encoder.

    Attributes:
        name: By which messages call it.
        max_pictures: Pictures that one run takes; None: any number.
        fails_silently: Whether it may report success and write damaged pictures or none. What it writes is then
            decoded as a check, and a run that failed is repeated once on one thread.
    """

    name: str
    max_pictures: int | None
    fails_silently: bool

    def identity(self) -> str:
        """What tells it, its build and its configuration from others: rows of two encoders must not mix."""
        ...

    def version(self, log: str) -> str:
        """Its name and version, which its log may tell."""
        ...

    def logged_pictures(self, log: str, /) -> list[LoggedPicture]:
        """The pictures of its log, in order."""
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
    fps: Fraction = Fraction(30),
    cache: EncodingCache | None = None,
) -> EncodedSequence:
    """Encodes 4:0:0 or 4:2:0 pictures of 8 to 10 bit as 10-bit 4:2:0 intra pictures, any size.

    Sizes are padded up to even numbers and at least 16; the decoder's output is cropped by `decode_vvc` when it is
    told the source's size. A 4:0:0 picture gets flat chroma.

    Args:
        program: The encoder.
        options: What to encode with.
        frames: The pictures, which are taken one by one.
        fps: Pictures per second.
        cache: Where finished chunks are looked up and kept; None: encode every time.

    Raises:
        InputError: If there is no picture, or the pictures differ in format.
        UnsupportedError: For 4:2:2, 4:4:4 and more than 10 bit.
        ExternalToolError: If the encoder fails, writes nothing, or codes anything else than asked.
    """
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise InputError("no picture to encode")
    source = first.format(fps)
    iterator = itertools.chain([first], iterator)
    runs: list[EncoderRun] = []
    n_cached = 0
    while (found := _next_chunk(program, options, iterator, source, cache)) is not None:
        run, was_cached = found
        runs.append(run)
        n_cached += was_cached
    whole = joined(runs)
    logged = (picture for run in runs for picture in program.logged_pictures(run.log))
    return EncodedSequence(
        stream=whole.stream,
        pictures=tuple(CodedPicture(poc, p.qp, p.n_bits) for poc, p in enumerate(logged)),
        format=source,
        encoder=program.version(runs[0].log),
        encode_s=whole.encode_s,
        cached=n_cached == len(runs),
        encode_cpu_s=whole.encode_cpu_s,
    )


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
        chunk = itertools.islice(frames, program.max_pictures)
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
    return EncoderJob(raw, folder / "out.266", coded.width, coded.height, source.fps, n_pictures) if coded else None


def _cache_key(program: EncoderProgram, options: VvcOptions, job: EncoderJob) -> str:
    """Hash of all that determines the stream."""
    with job.raw.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha256(program.cache_key(options, job))).hexdigest()


def _verified_run(program: EncoderProgram, options: VvcOptions, job: EncoderJob) -> EncoderRun:
    """Runs the encoder; one that may fail in silence is tried once more on one thread."""
    for tried in (options, replace(options, n_threads=1)) if program.fails_silently else (options,):
        run = program.run(tried, job)
        problem = _problem(program, run, job, options.qp)
        if problem is None:
            return run
    command = program.command(tried, job)
    raise ExternalToolError(f"{program.name}: {problem}", command=command, exit_code=0, log=run.log)


def _problem(program: EncoderProgram, run: EncoderRun, job: EncoderJob, qp: int) -> str | None:
    """What is wrong with an encoder's run that reported success, None if nothing is."""
    if not run.stream:
        return "it wrote nothing"
    logged = program.logged_pictures(run.log)
    if len(logged) != job.n_pictures:
        return f"{len(logged)} of {job.n_pictures} pictures in its log"
    if any(p.slice_type != "I" for p in logged):
        return "it coded inter pictures: give it an all-intra configuration"
    if any(p.qp != qp for p in logged):
        return f"coded at QP {[p.qp for p in logged]}, asked for {qp}"
    try:
        units = picture_units(run.stream)
    except (BitstreamError, UnsupportedError) as error:
        return f"what it wrote is no VVC stream: {error}"
    if len(units) != job.n_pictures:
        return f"{len(units)} of {job.n_pictures} pictures in its stream"
    if not all(unit.md5 for unit in units):
        return "a picture without an MD5 SEI"
    return _decoding_problem(run.stream, job) if program.fails_silently else None


def _decoding_problem(stream: bytes, job: EncoderJob) -> str | None:
    """What is wrong with the pictures that a stream decodes to, None if nothing is."""
    try:
        sizes = [(frame.width, frame.height) for frame in decode_vvc(stream)]
    except (BitstreamError, UnsupportedError) as error:
        return f"what it wrote does not decode: {error}"
    if len(sizes) != job.n_pictures:
        return f"{len(sizes)} of {job.n_pictures} pictures decoded"
    return None if set(sizes) == {(job.width, job.height)} else f"it wrote pictures of {sizes[0]}"
