"""Which VVC encoders there are, and one way to any of them: libvvenc, or a program on the PATH (VTM, vvencapp).

A program is a row: its command line, its log and its limits. A further one is a row here and a name in `EncoderName`.
Pictures go to it as a file of raw video.

Source: VTM software manual (all-intra of the common test conditions); vvencapp --fullhelp.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from vvc_nnr.codec.cache import EncoderRun, EncodingCache
from vvc_nnr.codec.libvvenc import MAX_PICTURES, Libvvenc, loop_filter_params
from vvc_nnr.codec.programs import LoggedPicture, called_programs, find_program, parse_encoder_log, printed
from vvc_nnr.codec.sequence import (
    CODED_BIT_DEPTH,
    DEFAULT_PRESET,
    EncodedSequence,
    EncoderJob,
    EncoderProgram,
    LoopFilters,
    VvcOptions,
    encode,
    measured,
)
from vvc_nnr.errors import InputError
from vvc_nnr.sequences.frame import Frame

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

    def encode(self, frames: Iterable[Frame], fps: Fraction = Fraction(30)) -> EncodedSequence:
        """Encodes 4:0:0 or 4:2:0 pictures of 8 to 10 bit as 10-bit 4:2:0 intra pictures, any size.

        Sizes are padded up to even numbers and at least 16; the decoder's output is cropped by `decode_vvc` when it
        is told the source's size. A 4:0:0 picture gets flat chroma.

        Raises:
            InputError: If there is no picture, or the pictures differ in format.
            UnsupportedError: For 4:2:2, 4:4:4 and more than 10 bit.
            ExternalToolError: If the encoder fails, writes nothing, or codes anything else than asked.
        """
        return encode(self._program, self.options, frames, fps, self._cache)


def encoder_identity(encoder: EncoderName, config: Path | Sequence[Path] | None = None) -> str:
    """What tells one encoder, its build and its configuration from others: rows of two encoders must not mix.

    Raises:
        InputError: If there is no such encoder, or its configuration file is missing or cannot be read.
        ExternalToolError: If the program is not on the PATH.
    """
    return _program(encoder, config).identity()


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
