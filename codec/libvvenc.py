"""libvvenc as an encoder: inside the ffmpeg of imageio-ffmpeg, pictures through a pipe.

A surprise to know first: libvvenc may end with return code 0 and an empty file when it gets more than four
intra pictures. So a run takes four, and after every run the pictures are decoded, counted and held against the MD5
that the encoder wrote.

Another: ffmpeg gives libvvenc a buffer of one byte for each luma sample, too small for noise at low QPs. Such a
picture is coded at the top left of a taller one, whose flat rest the stream's conformance window cuts off again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from vvc_nnr.children import run_child
from vvc_nnr.codec.cache import EncoderRun
from vvc_nnr.codec.programs import ffmpeg_executable, ffmpeg_versions, parse_encoder_log
from vvc_nnr.codec.sequence import EncoderJob, LoopFilters, VvcOptions, joined, measured
from vvc_nnr.errors import ExternalToolError
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.yuv import read_yuv

MAX_PICTURES = 4
"""Pictures per process: vvenc may write nothing at all when it gets more than a few intra pictures."""

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


def loop_filter_params(options: VvcOptions) -> str:
    """The in-loop filters as parameters of the library, each with a colon in front."""
    named = ":SAO=1" if options.sao == "on" and options.loop_filters != "none" else ""
    return named + _LOOP_FILTER_PARAMS[options.loop_filters]


class Libvvenc:
    """libvvenc inside ffmpeg, an `EncoderProgram`."""

    name = "libvvenc"
    max_pictures: int | None = MAX_PICTURES
    fails_silently = True
    logged_pictures = staticmethod(parse_encoder_log)

    def identity(self) -> str:
        """Version and hash of the ffmpeg that it is in."""
        return f"{self.version()} {_ffmpeg_sha256()[:16]}"

    def version(self, log: str = "") -> str:
        """Name and version of the ffmpeg that it is in, part of every cache key."""
        first_line = next(iter(ffmpeg_versions(ffmpeg_executable()).splitlines()), "unknown")
        return "libvvenc in " + " ".join(first_line.split()[:3])

    def command(self, options: VvcOptions, job: EncoderJob) -> list[str]:
        """The command line without a canvas."""
        return _command(options, job.format, job.target)

    def cache_key(self, options: VvcOptions, job: EncoderJob) -> bytes:
        """Version and hash of ffmpeg, and the command line; the number of threads changes no bit."""
        settings = _settings(options, job.format, n_threads=1)
        return "|".join([self.version(), _ffmpeg_sha256(), *settings, ""]).encode()

    def run(self, options: VvcOptions, job: EncoderJob) -> EncoderRun:
        """Codes the job; pictures too large for the buffer one by one, each on a canvas if need be."""
        return _run_on_canvas(options, list(read_yuv(job.raw, job.format)), job)


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


def _run_on_canvas(options: VvcOptions, frames: list[Frame], job: EncoderJob) -> EncoderRun:
    canvas = None
    while True:
        try:
            return _run(options, frames, job, canvas)
        except _BufferTooSmallError as error:
            if len(frames) > 1:
                return joined([_run_on_canvas(options, [frame], job) for frame in frames])
            if canvas is not None and canvas.height >= 4 * (frames[0].height + _CANVAS_STEP):
                raise
            canvas = _Canvas.for_bytes(frames[0], error.picture_bytes, canvas)


def _run(options: VvcOptions, frames: list[Frame], job: EncoderJob, canvas: _Canvas | None) -> EncoderRun:
    """Runs ffmpeg on pictures through its standard input."""
    sent = frames if canvas is None else [canvas.around(frame) for frame in frames]
    raw = b"".join(frame.tobytes() for frame in sent)
    command = _command(options, sent[0].format(job.fps), job.target, "" if canvas is None else canvas.params)
    return measured(lambda: _ffmpeg_log(command, raw, sent[0]), job.target)


def _ffmpeg_log(command: list[str], raw: bytes, frame: Frame) -> str:
    try:
        done = run_child(command, input=raw)
    except OSError as error:
        raise ExternalToolError(f"the encoder cannot be run: {error}", command=command) from error
    log = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        picture_bytes = max((p.n_bits // 8 + _SEI_BYTES for p in parse_encoder_log(log)), default=0)
        if picture_bytes > frame.width * frame.height:
            raise _BufferTooSmallError(picture_bytes, frame, command, done.returncode)
        everything = log + done.stderr.decode(errors="replace")
        raise ExternalToolError("libvvenc failed", command=command, exit_code=done.returncode, log=everything)
    return log


def _command(options: VvcOptions, format: VideoFormat, target: Path, window: str = "") -> list[str]:
    settings = _settings(options, format, options.n_threads, window)
    return [ffmpeg_executable(), *settings, "-y", "-f", "vvc", str(target)]


def _settings(options: VvcOptions, format: VideoFormat, n_threads: int, window: str = "") -> list[str]:
    """All arguments up to the target: one QP, no pre-filter, an MD5 and a log line for each picture."""
    params = "IntraPeriod=1:GOPSize=1:IntraQPOffset=0:MCTF=0:BIM=0:Verbosity=5:SEIDecodedPictureHash=md5" + window
    source = f"-f rawvideo -pix_fmt yuv420p10le -s {format.width}x{format.height} -r {format.fps} -i pipe:0"
    coding = f"-c:v libvvenc -preset {options.preset} -qp {options.qp} -qpa 0 -threads {n_threads}"
    return [
        *("-hide_banner", "-v", "info"),
        *source.split(),
        *coding.split(),
        *("-vvenc-params", params + loop_filter_params(options)),
    ]


def _ffmpeg_sha256() -> str:
    """SHA-256 of the ffmpeg binary: two builds of one version may code differently."""
    try:
        executable = Path(ffmpeg_executable())
        status = executable.stat()
        return _file_sha256(executable, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise ExternalToolError(f"no ffmpeg binary: {error}") from error


@cache
def _file_sha256(path: Path, n_bytes: int, mtime_ns: int) -> str:
    """Of a file that has this size and time, so that it is read once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
