"""Which VVC encoders there are, and one way to any of them: libvvenc, or a program on the PATH (VTM, vvencapp).

A program is a row: its command line, its log and its limits. A further one is a row here and a name in `EncoderName`.
Pictures go to it as a file of raw video.

libvvenc runs inside the ffmpeg of imageio-ffmpeg and gets its pictures through a pipe. Two surprises: it may end with
return code 0 and an empty file when it gets more than four intra pictures. So a run takes four, and after every run the
pictures are decoded, counted and held against the MD5 that the encoder wrote.

And ffmpeg gives libvvenc a buffer of one byte for each luma sample, too small for noise at low QPs. Such a
picture is coded at the top left of a taller one, whose flat rest the stream's conformance window cuts off again.

Source: VTM software manual (all-intra of the common test conditions); vvencapp --fullhelp.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from vvc_nnr.children import run_child
from vvc_nnr.codec.programs import (
    LoggedPicture,
    called_programs,
    ffmpeg_executable,
    ffmpeg_versions,
    find_program,
    parse_encoder_log,
    printed,
)
from vvc_nnr.codec.sequence import (
    CODED_BIT_DEPTH,
    DEFAULT_PRESET,
    EncodedSequence,
    EncoderJob,
    EncoderProgram,
    EncoderRun,
    EncodingCache,
    LoopFilters,
    VvcOptions,
    encode,
    joined,
    measured,
)
from vvc_nnr.errors import ExternalToolError, InputError
from vvc_nnr.sequences.frame import Frame, VideoFormat
from vvc_nnr.sequences.yuv import read_yuv

MAX_PICTURES = 4
"""Pictures per process: vvenc may write nothing at all when it gets more than a few intra pictures."""

_CANVAS_STEP = 8
_CANVAS_BYTES = 1024
"""Room for what a canvas adds to the code of a picture."""

_MAX_ASPECT_TERM = 65535
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

    def title(self) -> str:
        """What tables call it: its identity."""
        return self.identity()

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
    format = replace(job.format, width=sent[0].width, height=sent[0].height)
    command = _command(options, format, job.target, "" if canvas is None else canvas.params)
    return measured(lambda: _ffmpeg_log(command, raw, sent[0]), job.target)


def _ffmpeg_log(command: list[str], raw: bytes, frame: Frame) -> str:
    try:
        done = run_child(command, input=raw)
    except OSError as error:
        raise ExternalToolError(f"the encoder cannot be run: {error}", command=command) from error
    log = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        picture_bytes = max((p.n_bits // 8 + _SEI_BYTES for p in _whole_pictures(log)), default=0)
        if picture_bytes > frame.width * frame.height:
            raise _BufferTooSmallError(picture_bytes, frame, command, done.returncode)
        everything = log + done.stderr.decode(errors="replace")
        raise ExternalToolError("libvvenc failed", command=command, exit_code=done.returncode, log=everything)
    return log


def _whole_pictures(log: str) -> list[LoggedPicture]:
    """The pictures of a log that may end anywhere, since its encoder failed."""
    try:
        return parse_encoder_log(log[: log.rfind("\n") + 1])
    except InputError:
        return []


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
        *("-vvenc-params", params + loop_filter_params(options) + _usability_params(format)),
    ]


def _usability_params(format: VideoFormat) -> str:
    """What a decoder would take otherwise without a word, as parameters of the library with a colon in front."""
    aspect = format.pixel_aspect
    said = ":Range=1" if format.colour_range == "full" else ""
    if aspect is not None and aspect != 1 and max(aspect.numerator, aspect.denominator) <= _MAX_ASPECT_TERM:
        said += ":AspectRatioInfoPresent=1:AspectRatioIdc=255"
        said += f":SarWidth={aspect.numerator}:SarHeight={aspect.denominator}"
    return said


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


_VTM_FILTERS: dict[LoopFilters, tuple[str, ...]] = {
    "all": ("--DeblockingFilterDisable=0", "--SAO=1", "--ALF=1", "--CCALF=1"),
    "deblock-sao": ("--SAO=1", "--ALF=0", "--CCALF=0", "--LMCSEnable=0"),
    "none": ("--DeblockingFilterDisable=1", "--SAO=0", "--ALF=0", "--CCALF=0", "--LMCSEnable=0"),
}
"""Luma mapping (LMCS) reshapes samples inside the loop, so it counts as a filter; libvvenc's sets have none."""


@dataclass(frozen=True, slots=True)
class ExternalRow:
    """One encoder program.

    Attributes:
        name: What it is called here.
        executables: What it may be called on the PATH, the best first.
        arguments: Its command line for a job, without executable and configuration file.
        version: Finds its name and version in what it prints.
        logged_pictures: Reads the pictures out of what it prints.
        max_pictures: Pictures that one run takes; None: any number.
        config_option: The option for the configuration file that it must have; None: it takes none.
        config_file: What that file is called in the program's source tree.
    """

    name: str
    executables: tuple[str, ...]
    arguments: Callable[[VvcOptions, EncoderJob], list[str]]
    version: re.Pattern[str]
    logged_pictures: Callable[[str], list[LoggedPicture]] = parse_encoder_log
    max_pictures: int | None = None
    config_option: str | None = None
    config_file: str | None = None


def vtm_arguments(options: VvcOptions, job: EncoderJob) -> list[str]:
    """VTM's encoder arguments: 10 bit inside, sizes padded to whole coding units, an MD5 for each picture.

    The all-intra configuration of the common test conditions codes every eighth picture only; here each is coded.
    VTM's rate is a whole number here; it changes the printed kbit/s and nothing else.

    Raises:
        InputError: If there is a preset other than the default, or SAO is to be as the preset has it.
    """
    if options.preset != DEFAULT_PRESET:
        raise InputError(f"preset {options.preset}: VTM has no presets; leave it out")
    if options.sao == "preset":
        raise InputError("SAO as the preset has it: VTM has no presets, its SAO is on or off by the filter set")
    rate = max(1, round(job.fps))
    picture = f"-wdt {job.width} -hgt {job.height} -fr {rate} -f {job.n_pictures} -q {options.qp}"
    depths = " ".join(f"--{place}BitDepth={CODED_BIT_DEPTH}" for place in ("Input", "Internal", "Output"))
    return [
        *("-i", str(job.raw), "-b", str(job.target), "-o", os.devnull),
        *(*picture.split(), "--TemporalSubsampleRatio=1", *depths.split()),
        *("--InputChromaFormat=420", "--ConformanceWindowMode=1", "--SEIDecodedPictureHash=1"),
        *_VTM_FILTERS[options.loop_filters],
    ]


def vvencapp_arguments(options: VvcOptions, job: EncoderJob) -> list[str]:
    """Arguments of vvencapp: intra pictures of one QP, no pre-filter, an MD5 and a log line for each picture.

    `--intraperiod 1` makes the group of pictures one picture long; since vvenc 1.6 there is no `--gopsize`.
    """
    source = f"--size {job.width}x{job.height} --fps {job.fps} --format yuv420_10 --frames {job.n_pictures}"
    coding = f"--preset {options.preset} --qp {options.qp} --qpa 0 --threads {options.n_threads}"
    expert = "IntraQPOffset=0:MCTF=0:BIM=0" + loop_filter_params(options)
    return [
        *("--input", str(job.raw), *source.split(), "--output", str(job.target), *coding.split()),
        *("--intraperiod", "1", "--decodedpicturehash", "1", "--verbosity", "5", "--additional", expert),
    ]


VTM = ExternalRow(
    name="vtm",
    executables=("EncoderApp", "EncoderAppStatic"),
    arguments=vtm_arguments,
    version=re.compile(r"VTM Encoder Version\s*\[?[\w.-]+"),
    config_option="-c",
    config_file="cfg/encoder_intra_vtm.cfg",
)
VVENCAPP = ExternalRow(
    name="vvencapp",
    executables=("vvencapp",),
    arguments=vvencapp_arguments,
    version=re.compile(r"VVC Encoder(?: ver\.?|, version)\s*\[?[\w.-]+"),
    max_pictures=MAX_PICTURES,
)


class ExternalEncoder:
    """A row with its executable and its configuration files, an `EncoderProgram`.

    Args:
        row: The program.
        configs: Its configuration files in their order, empty for a program that takes none.
        arguments: Further arguments, behind all others.

    Raises:
        InputError: If the program has no configuration file and must have one, or has one and takes none.
        ExternalToolError: If the program is not on the PATH.
    """

    fails_silently = False

    def __init__(self, row: ExternalRow, configs: Sequence[Path] = (), arguments: Sequence[str] = ()) -> None:
        _check_configs(row, configs)
        self.executable = find_program(row.executables)
        self.name = self.executable.name
        self.max_pictures = row.max_pictures
        self.logged_pictures = row.logged_pictures
        self._row = row
        self._configs = tuple(configs)
        self._more = tuple(arguments)

    def identity(self) -> str:
        """Its name, hashes of its executable and its configuration files, and its further arguments."""
        return " ".join([self._row.name, *(digest[:16] for digest in self._file_digests()), *self._more])

    def title(self) -> str:
        """What tables call it: its identity, with the names of the executable and the configuration files."""
        names = [self.name, *(config.name for config in self._configs)]
        files = [f"{name} {digest[:16]}" for name, digest in zip(names, self._file_digests(), strict=True)]
        return f"{self._row.name} ({', '.join([*files, *self._more])})"

    def command(self, options: VvcOptions, job: EncoderJob) -> list[str]:
        """The command line that codes the job."""
        option = self._row.config_option
        configs = [word for config in self._configs for word in (option or "", str(config.absolute()))]
        return [str(self.executable), *configs, *self._row.arguments(options, job), *self._more]

    def cache_key(self, options: VvcOptions, job: EncoderJob) -> bytes:
        """Hashes of executable and configuration files, and the arguments without paths."""
        arguments = (a for a in self._row.arguments(options, job) if a not in (str(job.raw), str(job.target)))
        return "|".join([*self._file_digests(), *arguments, *self._more, ""]).encode()

    def run(self, options: VvcOptions, job: EncoderJob) -> EncoderRun:
        """Codes the job; raises ExternalToolError if the program cannot be started or says that it failed."""
        command = self.command(options, job)
        return measured(lambda: printed(command, job.target.parent), job.target)

    def version(self, log: str) -> str:
        """Its name and version as it prints them, else the name of its executable."""
        found = self._row.version.search(log)
        return found[0] if found else self.name

    def _file_digests(self) -> list[str]:
        """SHA-256 of the executable, with what it calls if it is a script, and of the configuration files."""
        try:
            program = hashlib.sha256(self.executable.read_bytes())
            for called in called_programs(self.executable, self._row.executables):
                program.update(called.read_bytes())
            return [program.hexdigest(), *(hashlib.sha256(each.read_bytes()).hexdigest() for each in self._configs)]
        except OSError as error:
            raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _check_configs(row: ExternalRow, configs: Sequence[Path]) -> None:
    if row.config_option is not None and not configs:
        raise InputError(f"the encoder {row.name} must have a configuration file: name its {row.config_file}")
    if row.config_option is None and configs:
        raise InputError(f"the encoder {row.name} takes no configuration file, got {configs[0]}")
    for config in configs:
        if not os.path.isfile(config):
            raise InputError(f"{config}: no such configuration file")


EncoderName: TypeAlias = Literal["libvvenc", "vtm", "vvencapp"]

_EXTERNAL: dict[EncoderName, ExternalRow] = {"vtm": VTM, "vvencapp": VVENCAPP}


class VvcEncoder:
    """Encodes sequences with one encoder and one set of options.

    Args:
        options: What to encode with.
        cache: Folder of finished encodings, None to encode every time.
        encoder: "libvvenc", which comes with this package, or a program on the PATH: "vtm" or "vvencapp".
        config: VTM's configuration file or files, normally cfg/encoder_intra_vtm.cfg of its source tree, and then one
            of a sequence or of one's own; the others take none.
        arguments: Further arguments of a program, behind those that this package gives it; libvvenc takes none.

    Raises:
        InputError: If there is no such encoder, there is a configuration file too many or too few, or libvvenc gets
            arguments.
        ExternalToolError: If the program is not on the PATH.
    """

    def __init__(
        self,
        options: VvcOptions,
        cache: Path | None = None,
        *,
        encoder: EncoderName = "libvvenc",
        config: Path | Sequence[Path] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.options = options
        self._program = _program(encoder, config, arguments)
        self._cache = EncodingCache(cache) if cache is not None else None

    def encode(
        self, frames: Iterable[Frame], fps: Fraction = Fraction(30), *, stated: VideoFormat | None = None
    ) -> EncodedSequence:
        """Encodes 4:0:0 or 4:2:0 pictures of 8 to 10 bit as 10-bit 4:2:0 intra pictures, any size.

        Sizes are padded up to even numbers and at least 16; the decoder's output is cropped by `decode_vvc` when it
        is told the source's size. A 4:0:0 picture gets flat chroma.

        Args:
            frames: The pictures, which are taken one by one.
            fps: Pictures per second.
            stated: What the source states of its pictures; libvvenc writes a full colour range and a pixel aspect other
                than 1 into the stream.

        Raises:
            InputError: If there is no picture, or the pictures differ in format.
            UnsupportedError: For 4:2:2, 4:4:4 and more than 10 bit.
            ExternalToolError: If the encoder fails, writes nothing, or codes anything else than asked.
        """
        return encode(self._program, self.options, frames, fps, self._cache, stated=stated)


def encoder_identity(
    encoder: EncoderName, config: Path | Sequence[Path] | None = None, arguments: Sequence[str] = ()
) -> str:
    """What tells one encoder, its build, configuration and arguments from others: rows of two encoders must not mix.

    Raises:
        InputError: If there is no such encoder, its configuration file is missing or cannot be read, or it takes no
            arguments.
        ExternalToolError: If the program is not on the PATH.
    """
    return _program(encoder, config, arguments).identity()


def encoder_title(
    encoder: EncoderName, config: Path | Sequence[Path] | None = None, arguments: Sequence[str] = ()
) -> str:
    """What tables call an encoder: its identity in words, with the names of its files; raises as `encoder_identity`."""
    return _program(encoder, config, arguments).title()


def _program(
    encoder: EncoderName, config: Path | Sequence[Path] | None, arguments: Sequence[str] = ()
) -> EncoderProgram:
    configs = () if config is None else (config,) if isinstance(config, Path) else tuple(config)
    if encoder in _EXTERNAL:
        return ExternalEncoder(_EXTERNAL[encoder], configs, arguments)
    if encoder != "libvvenc":
        raise InputError(f"encoder {encoder!r}: must be one of {', '.join(get_args(EncoderName))}")
    if configs:
        raise InputError(f"the encoder libvvenc takes no configuration file, got {configs[0]}")
    if arguments:
        raise InputError(f"the encoder libvvenc takes no further arguments, got {arguments[0]}")
    return Libvvenc()
