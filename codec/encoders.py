"""Which VVC encoders there are, and one way to any of them: libvvenc, or a program on the PATH (VTM, vvencapp).

A program is a row: its command line, its log and its limits. A further one is a row here and a name in `EncoderName`.
Pictures go to it as a file of raw video.

libvvenc runs inside the ffmpeg of imageio-ffmpeg and gets its pictures on its standard input. Three surprises: it may
end with return code 0 and an empty file when it codes several pictures at once (intra pictures without in-loop filters
in a third of the runs). So it codes one at a time, which changes no bit; a run takes four intra pictures; and after
every run the pictures are decoded, counted and held against the MD5 that the encoder wrote.

From eight threads on vvenc codes otherwise than on one, unless its parameter MTProfile is 0.

And ffmpeg gives libvvenc a buffer of one byte for each luma sample, too small for noise at low QPs. Such a
picture is coded at the top left of a taller one, whose flat rest the stream's conformance window cuts off again.

Source: VTM software manual (configurations of the common test conditions); vvencapp --fullhelp.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from vvc_nnr.children import run_child
from vvc_nnr.codec.configuration import ALL_INTRA, CONFIGURATIONS, LOW_DELAY_B, ConfigName, Configuration
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
    Preset,
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

_NEVER = 8 << 20
"""An intra period that no sequence reaches."""
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


_PARAMS_OF_CONFIGURATION: dict[ConfigName, str] = {
    "ai": "IntraPeriod=1:GOPSize=1:IntraQPOffset=0:MCTF=0:BIM=0",
    "ra": "IntraPeriod={period}:GOPSize=32:POC0IDR=1",
    "ldb": f"IntraPeriod={_NEVER}:GOPSize=8:POC0IDR=1:PicReordering=0:DecodingRefreshType=none:MCTFFutureReference=0",
}
"""Of vvenc's library. In the last two QPs in a group, pre-filter and block importance are as its presets have them."""


def _configuration_params(configuration: Configuration, fps: Fraction) -> str:
    return _PARAMS_OF_CONFIGURATION[configuration.name].format(period=configuration.intra_period(fps))


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
        """Codes the job; on a canvas what is too large for the buffer, intra pictures one by one."""
        return _run_on_canvas(options, job)


class _BufferTooSmallError(ExternalToolError):
    """A coded picture that does not fit into the buffer of ffmpeg's libvvenc, a byte for each luma sample."""

    def __init__(self, picture_bytes: int, job: EncoderJob, command: list[str], exit_code: int) -> None:
        super().__init__(
            f"libvvenc: a coded picture of {job.width}x{job.height} has {picture_bytes} bytes and ffmpeg's buffer "
            f"{job.width * job.height}: take a higher QP, or the encoder vvencapp",
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
    def for_bytes(cls, job: EncoderJob, picture_bytes: int, tried: _Canvas | None) -> _Canvas:
        """A canvas around each picture, larger than the one tried, whose luma has as many samples as the code bytes."""
        width = -(-job.width // _CANVAS_STEP) * _CANVAS_STEP
        rows = -(-(picture_bytes + picture_bytes // 8 + _CANVAS_BYTES) // width)
        rows = max(rows, tried.height + _CANVAS_STEP if tried is not None else job.height)
        height = -(-rows // _CANVAS_STEP) * _CANVAS_STEP
        return cls(width, height, width - job.width, height - job.height)

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


def _run_on_canvas(options: VvcOptions, job: EncoderJob) -> EncoderRun:
    canvas = None
    while True:
        try:
            return _run(options, job, canvas)
        except _BufferTooSmallError as error:
            if job.n_pictures > 1 and not options.configuration.is_inter:
                return joined([_run_on_canvas(options, each) for each in _of_one_picture(job)])
            if canvas is not None and canvas.height >= 4 * (job.height + _CANVAS_STEP):
                raise
            canvas = _Canvas.for_bytes(job, error.picture_bytes, canvas)


def _of_one_picture(job: EncoderJob) -> Iterator[EncoderJob]:
    """A job for each picture, one at a time."""
    for frame in read_yuv(job.raw, job.format):
        yield _with_pictures(replace(job, n_pictures=1), [frame], "one.yuv")


def _with_pictures(job: EncoderJob, frames: Iterable[Frame], name: str) -> EncoderJob:
    """The job with other pictures, in a file beside its own."""
    raw = job.raw.with_name(name)
    with raw.open("wb") as file:
        for frame in frames:
            file.write(frame.tobytes())
    return replace(job, raw=raw)


def _run(options: VvcOptions, job: EncoderJob, canvas: _Canvas | None) -> EncoderRun:
    """Runs ffmpeg on pictures through its standard input."""
    if canvas is not None:
        placed = (canvas.around(frame) for frame in read_yuv(job.raw, job.format))
        job = _with_pictures(replace(job, width=canvas.width, height=canvas.height), placed, "canvas.yuv")
    command = _command(options, job.format, job.target, "" if canvas is None else canvas.params)
    return measured(lambda: _ffmpeg_log(command, job), job.target)


def _ffmpeg_log(command: list[str], job: EncoderJob) -> str:
    try:
        done = run_child(command, input=job.raw)
    except OSError as error:
        raise ExternalToolError(f"the encoder cannot be run: {error}", command=command) from error
    log = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        picture_bytes = max((p.n_bits // 8 + _SEI_BYTES for p in _whole_pictures(log)), default=0)
        if picture_bytes > job.width * job.height:
            raise _BufferTooSmallError(picture_bytes, job, command, done.returncode)
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
    """All arguments up to the target: an MD5 and a log line per picture, the same bits on any number of threads."""
    params = _configuration_params(options.configuration, format.fps)
    params += ":MTProfile=0:MaxParallelFrames=0:Verbosity=5:SEIDecodedPictureHash=md5" + window
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
    if said and aspect is None:
        said += ":AspectRatioIdc=0"  # else the library states square samples beside a range
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
        max_pictures: Intra pictures that one run takes; None: any number.
        config_option: The option for the configuration file that it must have; None: it takes none.
    """

    name: str
    executables: tuple[str, ...]
    arguments: Callable[[VvcOptions, EncoderJob], list[str]]
    version: re.Pattern[str]
    logged_pictures: Callable[[str], list[LoggedPicture]] = parse_encoder_log
    max_pictures: int | None = None
    config_option: str | None = None


def vtm_arguments(options: VvcOptions, job: EncoderJob) -> list[str]:
    """VTM's encoder arguments: 10 bit inside, sizes padded to whole coding units, an MD5 for each picture.

    The all-intra configuration of the common test conditions codes every eighth picture only; here each is coded.
    Its rate is a whole number for intra pictures, where it changes the printed kbit/s and nothing else. QPs in a group,
    pre-filter and the like are as the configuration file has them.

    Raises:
        InputError: If there is a preset other than the default, or SAO is to be as the preset has it.
    """
    if options.preset != DEFAULT_PRESET:
        raise InputError(f"preset {options.preset}: VTM has no presets; leave it out")
    if options.sao == "preset":
        raise InputError("SAO as the preset has it: VTM has no presets, its SAO is on or off by the filter set")
    rate, period = _vtm_rate(job.fps, options.configuration), options.configuration.intra_period(job.fps)
    picture = f"-wdt {job.width} -hgt {job.height} -fr {rate} -f {job.n_pictures} -q {options.qp}"
    depths = " ".join(f"--{place}BitDepth={CODED_BIT_DEPTH}" for place in ("Input", "Internal", "Output"))
    return [
        *("-i", str(job.raw), "-b", str(job.target), "-o", os.devnull),
        *(*picture.split(), "--TemporalSubsampleRatio=1", *depths.split()),
        *("--InputChromaFormat=420", "--ConformanceWindowMode=1", "--SEIDecodedPictureHash=1"),
        *([f"--IntraPeriod={period or -1}"] if options.configuration.is_inter else []),
        *_VTM_FILTERS[options.loop_filters],
    ]


def _vtm_rate(fps: Fraction, configuration: Configuration) -> str:
    """The option -fr: a whole number, or NUMERATOR:DENOMINATOR where it counts."""
    if configuration.is_inter and fps.denominator > 1:
        return f"{fps.numerator}:{fps.denominator}"
    return str(max(1, round(fps)))


def vvencapp_arguments(options: VvcOptions, job: EncoderJob) -> list[str]:
    """Arguments of vvencapp: an MD5 and a log line for each picture, no perceptual adaptation of QPs.

    `--intraperiod 1` makes the group of pictures one picture long; since vvenc 1.6 there is no `--gopsize`. Inter
    pictures are coded alike on any number of threads, which needs vvenc 1.12.
    """
    configuration = options.configuration
    source = f"--size {job.width}x{job.height} --fps {job.fps} --format yuv420_10 --frames {job.n_pictures}"
    coding = f"--preset {options.preset} --qp {options.qp} --qpa 0 --threads {options.n_threads}"
    period = configuration.intra_period(job.fps) or _NEVER
    expert = _VVENCAPP_PARAMS[configuration.name] + loop_filter_params(options)
    refresh = ["--refreshtype", "none"] if configuration == LOW_DELAY_B else []
    return [
        *("--input", str(job.raw), *source.split(), "--output", str(job.target), *coding.split()),
        *("--intraperiod", str(period), *refresh),
        *("--decodedpicturehash", "1", "--verbosity", "5", "--additional", expert),
    ]


_VVENCAPP_PARAMS: dict[ConfigName, str] = {
    "ai": "IntraQPOffset=0:MCTF=0:BIM=0",
    "ra": "GOPSize=32:POC0IDR=1:MTProfile=0",
    "ldb": "GOPSize=8:POC0IDR=1:PicReordering=0:MCTFFutureReference=0:MTProfile=0",
}
"""What has no option of its own."""

VTM = ExternalRow(
    name="vtm",
    executables=("EncoderApp", "EncoderAppStatic"),
    arguments=vtm_arguments,
    version=re.compile(r"VTM Encoder Version\s*\[?[\w.-]+"),
    config_option="-c",
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
        configuration: How pictures depend on each other.

    Raises:
        InputError: If the program has no configuration file and must have one, or has one and takes none.
        ExternalToolError: If the program is not on the PATH.
    """

    fails_silently = False

    def __init__(
        self,
        row: ExternalRow,
        configs: Sequence[Path] = (),
        arguments: Sequence[str] = (),
        configuration: Configuration = ALL_INTRA,
    ) -> None:
        _check_configs(row, configs, configuration)
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


def _check_configs(row: ExternalRow, configs: Sequence[Path], configuration: Configuration) -> None:
    if row.config_option is not None and not configs:
        raise InputError(f"the encoder {row.name} must have a configuration file: name its {configuration.vtm_config}")
    if row.config_option is None and configs:
        raise InputError(f"the encoder {row.name} takes no configuration file, got {configs[0]}")
    for config in configs:
        if not os.path.isfile(config):
            raise InputError(f"{config}: no such configuration file")


EncoderName: TypeAlias = Literal["libvvenc", "vtm", "vvencapp"]

_EXTERNAL: dict[EncoderName, ExternalRow] = {"vtm": VTM, "vvencapp": VVENCAPP}


_PRESET_S: dict[Preset, float] = {"faster": 1.2, "fast": 3.5, "medium": 12.0, "slow": 30.0, "slower": 70.0}
"""Of a million luma samples, intra pictures at QP 32, one core; measured on photographs but for "slower"."""
_VTM_S, _INTER_FACTOR, _QPS_OF_HALF = 150.0, 0.5, 14


class VvcEncoder:
    """Encodes sequences with one encoder and one set of options.

    Args:
        options: What to encode with.
        cache: Folder of finished encodings, None to encode every time.
        encoder: "libvvenc", which comes with this package, or a program on the PATH: "vtm" or "vvencapp".
        config: VTM's configuration file or files, normally cfg/encoder_intra_vtm.cfg of its source tree or that of
            another configuration, and then one of a sequence or of one's own; the others take none.
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
        self._program_name = encoder
        self._program = _program(encoder, config, arguments, options.configuration)
        self._cache = EncodingCache(cache) if cache is not None else None

    def picture_s(self, format: VideoFormat) -> float:
        """About how many seconds a picture takes on one core: an estimate to plan with, by size, preset and QP."""
        seconds = _VTM_S if self._program_name == "vtm" else _PRESET_S[self.options.preset]
        seconds *= _INTER_FACTOR if self.options.configuration.is_inter else 1.0
        n_millions = format.width * format.height / 1e6
        return float(seconds * n_millions * 2.0 ** ((32 - self.options.qp) / _QPS_OF_HALF))

    def chunk_pictures(self, fps: Fraction) -> int | None:
        """How many pictures are coded together, at most; what is coded of others does not depend on them. None: all."""
        return self.options.configuration.chunk_pictures(fps, self._program.max_pictures)

    def encode(
        self, frames: Iterable[Frame], fps: Fraction | None = None, *, stated: VideoFormat | None = None
    ) -> EncodedSequence:
        """Encodes 4:0:0 or 4:2:0 pictures of 8 to 10 bit as 10-bit 4:2:0 pictures, any size.

        Sizes are padded up to even numbers and at least 16; the decoder's output is cropped by `decode_vvc` when it
        is told the source's size. A 4:0:0 picture gets flat chroma.

        Args:
            frames: The pictures, which are taken one by one.
            fps: Pictures per second; None: as `stated` says, 30 without it.
            stated: What the source states of its pictures; libvvenc writes a full colour range and a pixel aspect other
                than 1 into the stream.

        Raises:
            InputError: If there is no picture, or the pictures differ in format.
            UnsupportedError: For 4:2:2, 4:4:4 and more than 10 bit.
            ExternalToolError: If the encoder fails, writes nothing, or codes anything else than asked.
        """
        return encode(self._program, self.options, frames, fps, self._cache, stated=stated)


def encoder_identity(
    encoder: EncoderName,
    config: Path | Sequence[Path] | None = None,
    arguments: Sequence[str] = (),
    configuration: ConfigName = "ai",
) -> str:
    """What tells one encoder, its build, files and arguments from others: rows of two encoders must not mix.

    Raises:
        InputError: If there is no such encoder, its configuration file is missing or cannot be read, or it takes no
            arguments.
        ExternalToolError: If the program is not on the PATH.
    """
    return _program(encoder, config, arguments, CONFIGURATIONS[configuration]).identity()


def encoder_title(
    encoder: EncoderName,
    config: Path | Sequence[Path] | None = None,
    arguments: Sequence[str] = (),
    configuration: ConfigName = "ai",
) -> str:
    """What tables call an encoder: its identity in words, with the names of its files; raises as `encoder_identity`."""
    return _program(encoder, config, arguments, CONFIGURATIONS[configuration]).title()


def _program(
    encoder: EncoderName, config: Path | Sequence[Path] | None, arguments: Sequence[str], configuration: Configuration
) -> EncoderProgram:
    configs = () if config is None else (config,) if isinstance(config, Path) else tuple(config)
    if encoder in _EXTERNAL:
        return ExternalEncoder(_EXTERNAL[encoder], configs, arguments, configuration)
    if encoder != "libvvenc":
        raise InputError(f"encoder {encoder!r}: must be one of {', '.join(get_args(EncoderName))}")
    if configs:
        raise InputError(f"the encoder libvvenc takes no configuration file, got {configs[0]}")
    if arguments:
        raise InputError(f"the encoder libvvenc takes no further arguments, got {arguments[0]}")
    return Libvvenc()
