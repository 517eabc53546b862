"""All-intra VVC encoding by libvvenc, inside the ffmpeg of imageio-ffmpeg; `decode_vvc` is the way back.

A surprise to know first: libvvenc may end with return code 0 and an empty file when it gets more than four
intra pictures. So pictures go in chunks of at most four, and after every run the pictures are decoded,
counted and held against the MD5 that the encoder wrote.

Another: ffmpeg gives libvvenc a buffer of one byte for each luma sample, too small for noise at low QPs. Such a
picture is coded at the top left of a taller one, whose flat rest the stream's conformance window cuts off again.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import imageio_ffmpeg
import numpy as np

from vvc_nnr.children import run_child
from vvc_nnr.codec.cache import EncoderRun, EncodingCache
from vvc_nnr.codec.decoder import decode_vvc as decode_vvc
from vvc_nnr.codec.encoder_log import parse_encoder_log
from vvc_nnr.codec.nal import picture_units
from vvc_nnr.codec.programs import children_cpu_s
from vvc_nnr.codec.sequence import check_encodable, coded_picture
from vvc_nnr.errors import BitstreamError, ExternalToolError, InputError, UnsupportedError
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.temporary import temporary_folder

LoopFilters: TypeAlias = Literal["all", "deblock-sao", "none"]
Sao: TypeAlias = Literal["on", "preset"]
Preset: TypeAlias = Literal["faster", "fast", "medium", "slow", "slower"]

MAX_PICTURES_PER_RUN = 4
_CANVAS_STEP = 8
_CANVAS_BYTES = 1024
"""Room for what a canvas adds to the code of a picture."""

_SEI_BYTES = 100
"""At least what the encoder writes for a picture and does not log: hash and start codes."""

_LOOP_FILTER_PARAMS: dict[LoopFilters, str] = {
    "all": ":ALF=1:CCALF=1",
    "deblock-sao": ":ALF=0:CCALF=0",
    "none": ":LoopFilterDisable=1:EDO=0:SAO=0:ALF=0:CCALF=0",
}


@dataclass(frozen=True, slots=True)
class VvcOptions:
    """How to encode.

    Attributes:
        qp: Quantisation parameter of every picture, 0 to 63.
        preset: libvvenc's speed preset.
        loop_filters: "all" (deblocking, SAO, ALF, CC-ALF), "deblock-sao" (those of VTM 1.0) or "none".
        n_threads: Encoder threads; the bits do not depend on it.
        sao: Whether the first two sets have SAO: "on", or as the "preset" has it. libvvenc's preset faster, left to
            itself, has none.
    """

    qp: int
    preset: Preset = "faster"
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

    @property
    def loop_filter_params(self) -> str:
        """The in-loop filters as the encoder's parameters, each with a colon in front."""
        named = ":SAO=1" if self.sao == "on" and self.loop_filters != "none" else ""
        return named + _LOOP_FILTER_PARAMS[self.loop_filters]


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


class VvcEncoder:
    """Encodes sequences with one set of options.

    Args:
        options: What to encode with.
        cache: Folder of finished encodings, None to encode every time.
    """

    def __init__(self, options: VvcOptions, cache: Path | None = None) -> None:
        self.options = options
        self._cache = EncodingCache(cache) if cache is not None else None

    def encode(self, frames: Iterable[Frame], fps: Fraction = Fraction(30)) -> EncodedSequence:
        """Encodes 4:0:0 or 4:2:0 pictures of 8 to 10 bit as 10-bit 4:2:0 intra pictures, any size.

        Sizes are padded up to even numbers and at least 16; the decoder's output is cropped by `decode_vvc`
        when it is told the source's size. A 4:0:0 picture gets flat chroma.

        Raises:
            InputError: If there is no picture, or the pictures differ in format.
            UnsupportedError: For 4:2:2, 4:4:4 and more than 10 bit.
            ExternalToolError: If the encoder fails, or what it wrote does not decode to what it coded.
        """
        chunks: list[EncoderRun] = []
        n_cached = 0
        source: VideoFormat | None = None
        iterator = iter(frames)
        while batch := list(itertools.islice(iterator, MAX_PICTURES_PER_RUN)):
            source = source or batch[0].format(fps)
            for frame in batch:
                check_encodable(frame, source)
            chunk, was_cached = self._encode_chunk([coded_picture(f) for f in batch], fps)
            chunks.append(chunk)
            n_cached += was_cached
        if source is None:
            raise InputError("no picture to encode")
        logged = [p for chunk in chunks for p in parse_encoder_log(chunk.log)]
        return EncodedSequence(
            stream=b"".join(chunk.stream for chunk in chunks),
            pictures=tuple(CodedPicture(poc, p.qp, p.n_bits) for poc, p in enumerate(logged)),
            format=source,
            encoder=encoder_version(),
            encode_s=sum(chunk.encode_s for chunk in chunks),
            cached=n_cached == len(chunks),
            encode_cpu_s=total_cpu_s(chunk.encode_cpu_s for chunk in chunks),
        )

    def _encode_chunk(self, frames: list[Frame], fps: Fraction) -> tuple[EncoderRun, bool]:
        raw = b"".join(f.tobytes() for f in frames)
        key = self._key(raw, frames[0], fps)
        if self._cache is not None and (found := self._cache.get(key)) is not None:
            return found, True
        chunk = self._run_on_canvas(frames, fps)
        if self._cache is not None:
            self._cache.put(key, chunk)
        return chunk, False

    def _key(self, raw: bytes, frame: Frame, fps: Fraction) -> str:
        command = self._command(frame, fps, n_threads=1)[1:]
        settings = "|".join([encoder_version(), encoder_sha256(), *command, ""])
        return hashlib.sha256(settings.encode() + raw).hexdigest()

    def _run_on_canvas(self, frames: list[Frame], fps: Fraction) -> EncoderRun:
        """Runs the encoder; pictures too large for its buffer are coded one by one, each on a canvas if need be."""
        canvas = None
        while True:
            try:
                return self._run_verified(frames, fps, canvas)
            except _BufferTooSmallError as error:
                if len(frames) > 1:
                    return _joined([self._run_on_canvas([frame], fps) for frame in frames])
                if canvas is not None and canvas.height >= 4 * (frames[0].height + _CANVAS_STEP):
                    raise
                canvas = _Canvas.for_bytes(frames[0], error.picture_bytes, canvas)

    def _run_verified(self, frames: list[Frame], fps: Fraction, canvas: _Canvas | None) -> EncoderRun:
        """Runs the encoder; a silent failure (no error, pictures missing) is tried once more on one thread."""
        sent = frames if canvas is None else [canvas.around(frame) for frame in frames]
        raw = b"".join(frame.tobytes() for frame in sent)
        for n_threads in (self.options.n_threads, 1):
            command = self._command(sent[0], fps, n_threads, canvas.params if canvas is not None else "")
            run = _run_encoder(command, raw, sent[0])
            problem = _problem(run.stream, run.log, frames, self.options.qp)
            if problem is None:
                return run
        raise ExternalToolError(f"libvvenc: {problem}", command=command, exit_code=0, log=run.log)

    def _command(self, frame: Frame, fps: Fraction, n_threads: int, window: str = "") -> list[str]:
        o = self.options
        params = "IntraPeriod=1:GOPSize=1:IntraQPOffset=0:MCTF=0:BIM=0:Verbosity=5:SEIDecodedPictureHash=md5" + window
        source = f"-f rawvideo -pix_fmt yuv420p10le -s {frame.width}x{frame.height} -r {fps} -i pipe:0"
        coding = f"-c:v libvvenc -preset {o.preset} -qp {o.qp} -qpa 0 -threads {n_threads}"
        return [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-v", "info"),
            *source.split(),
            *coding.split(),
            *("-vvenc-params", params + o.loop_filter_params),
        ]


class _BufferTooSmallError(ExternalToolError):
    """A coded picture that does not fit into the buffer of ffmpeg's libvvenc, a byte for each luma sample."""

    def __init__(self, picture_bytes: int, frame: Frame, command: list[str], exit_code: int) -> None:
        super().__init__(
            f"libvvenc: a coded picture of {frame.width}x{frame.height} has {picture_bytes} bytes and ffmpeg's buffer "
            f"{frame.width * frame.height}: take a higher QP, or the encoder vvencapp",
            command=command,
            exit_code=exit_code,
        )
        self.picture_bytes = picture_bytes


@dataclass(frozen=True, slots=True)
class _Canvas:
    """A larger picture around one whose code would not fit into the encoder's buffer.

    What is added is flat, at the right and at the bottom, and cut off again by the stream's conformance window.

    Attributes:
        width: Luma samples per row, a multiple of the smallest block.
        height: Luma rows, a multiple of the smallest block.
        right: Luma columns that the window cuts off.
        bottom: Luma rows that the window cuts off.
    """

    width: int
    height: int
    right: int
    bottom: int

    @classmethod
    def for_bytes(cls, frame: Frame, picture_bytes: int, tried: _Canvas | None) -> _Canvas:
        """A canvas around the picture, larger than the one tried, whose luma has as many samples as the code bytes."""
        width = -(-frame.width // _CANVAS_STEP) * _CANVAS_STEP
        rows = -(-(picture_bytes + picture_bytes // 8 + _CANVAS_BYTES) // width)
        rows = max(rows, tried.height + _CANVAS_STEP if tried is not None else frame.height)
        height = -(-rows // _CANVAS_STEP) * _CANVAS_STEP
        return cls(width, height, width - frame.width, height - frame.height)

    @property
    def params(self) -> str:
        """The conformance window as the encoder's parameters, each with a colon in front."""
        return f":ConformanceWindowMode=3:ConfWinRight={self.right}:ConfWinBottom={self.bottom}"

    def around(self, frame: Frame) -> Frame:
        """The picture at the top left of the canvas."""
        shapes = VideoFormat(self.width, self.height, frame.bit_depth, frame.chroma_format).plane_shapes
        planes = tuple(np.full(shape, 1 << (frame.bit_depth - 1), np.uint16) for shape in shapes)
        for whole, plane in zip(planes, frame.planes, strict=True):
            whole[: plane.shape[0], : plane.shape[1]] = plane
        return Frame(planes, frame.bit_depth, frame.chroma_format)


def _joined(runs: list[EncoderRun]) -> EncoderRun:
    """Runs over consecutive pictures as one."""
    return EncoderRun(
        stream=b"".join(run.stream for run in runs),
        log="".join(run.log for run in runs),
        encode_s=sum(run.encode_s for run in runs),
        encode_cpu_s=total_cpu_s(run.encode_cpu_s for run in runs),
    )


def total_cpu_s(times_s: Iterable[float | None]) -> float | None:
    """The sum of processor times; None if one of them is not known."""
    found = list(times_s)
    known = [time_s for time_s in found if time_s is not None]
    return sum(known) if len(known) == len(found) else None


@cache
def encoder_version() -> str:
    """Name and version of the encoder binary, part of every cache key."""
    try:
        executable = imageio_ffmpeg.get_ffmpeg_exe()
        log = run_child([executable, "-version"]).stdout
    except (RuntimeError, OSError) as error:
        raise ExternalToolError(f"no ffmpeg binary: {error}") from error
    first_line = log.decode(errors="replace").splitlines()[0] if log else "unknown"
    return "libvvenc in " + " ".join(first_line.split()[:3])


def encoder_sha256() -> str:
    """SHA-256 of the encoder binary, part of every cache key: two builds of one version may code differently.

    Raises:
        ExternalToolError: If it is not there.
    """
    try:
        executable = Path(imageio_ffmpeg.get_ffmpeg_exe())
        status = executable.stat()
        return _file_sha256(executable, status.st_size, status.st_mtime_ns)
    except (RuntimeError, OSError) as error:
        raise ExternalToolError(f"no ffmpeg binary: {error}") from error


@cache
def _file_sha256(path: Path, n_bytes: int, mtime_ns: int) -> str:
    """Of a file that has this size and time, so that it is read once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run_encoder(command: list[str], raw: bytes, frame: Frame) -> EncoderRun:
    """Runs the command on raw pictures like `frame` from standard input."""
    try:
        with temporary_folder() as folder:
            target = folder / "out.266"
            start_s, start_cpu_s = time.perf_counter(), children_cpu_s()
            command = [*command, "-y", "-f", "vvc", str(target)]
            done = run_child(command, input=raw)
            encode_s, cpu_s = time.perf_counter() - start_s, children_cpu_s() - start_cpu_s
            stream = target.read_bytes() if target.exists() else b""
    except OSError as error:
        raise ExternalToolError(f"the encoder cannot be run: {error}", command=command) from error
    log = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        picture_bytes = max((p.n_bits // 8 + _SEI_BYTES for p in parse_encoder_log(log)), default=0)
        if picture_bytes > frame.width * frame.height:
            raise _BufferTooSmallError(picture_bytes, frame, command, done.returncode)
        everything = log + done.stderr.decode(errors="replace")
        raise ExternalToolError("libvvenc failed", command=command, exit_code=done.returncode, log=everything)
    return EncoderRun(stream, log, encode_s, cpu_s)


def _problem(stream: bytes, log: str, frames: list[Frame], qp: int) -> str | None:
    """What is wrong with an encoder run that reported success, None if nothing is."""
    logged = parse_encoder_log(log)
    if len(logged) != len(frames):
        return f"{len(logged)} of {len(frames)} pictures in its log"
    if any(p.qp != qp for p in logged):
        return f"coded at QP {[p.qp for p in logged]}, asked for {qp}"
    if not stream:
        return "it wrote nothing"
    try:
        if not all(u.md5 for u in picture_units(stream)):
            return "a picture without an MD5 SEI"
        sizes = [(frame.width, frame.height) for frame in decode_vvc(stream)]
    except (BitstreamError, UnsupportedError) as error:
        return f"what it wrote does not decode: {error}"
    if len(sizes) != len(frames):
        return f"{len(sizes)} of {len(frames)} pictures decoded"
    return None if set(sizes) == {(frames[0].width, frames[0].height)} else f"it wrote pictures of {sizes[0]}"
