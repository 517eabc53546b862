"""Programs on the PATH and their command lines: VTM, vvencapp and vvdecapp.

Source: VTM software manual (all-intra of the common test conditions); vvencapp and vvdecapp --fullhelp.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias

from vvc_nnr.codec.libvvenc import LoopFilters, VvcOptions
from vvc_nnr.codec.sequence import CODED_BIT_DEPTH
from vvc_nnr.errors import ExternalToolError, InputError

EncoderTool: TypeAlias = Literal["vtm", "vvencapp"]
DecoderTool: TypeAlias = Literal["vtm", "vvdecapp"]

_ENCODERS: dict[EncoderTool, tuple[str, ...]] = {
    "vtm": ("EncoderApp", "EncoderAppStatic"),
    "vvencapp": ("vvencapp",),
}
_DECODERS: dict[DecoderTool, tuple[str, ...]] = {
    "vtm": ("DecoderApp", "DecoderAppStatic"),
    "vvdecapp": ("vvdecapp",),
}
_VTM_FILTERS: dict[LoopFilters, tuple[str, ...]] = {
    "all": ("--DeblockingFilterDisable=0", "--SAO=1", "--ALF=1", "--CCALF=1"),
    "deblock-sao": ("--SAO=1", "--ALF=0", "--CCALF=0"),
    "none": ("--DeblockingFilterDisable=1", "--SAO=0", "--ALF=0", "--CCALF=0"),
}


@dataclass(frozen=True, slots=True)
class EncoderJob:
    """What one encoder process reads and writes.

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


def find_encoder(tool: EncoderTool) -> Path:
    """The encoder's executable; raises ExternalToolError if it is not on the PATH."""
    return _find(_ENCODERS[tool])


def find_decoder(tool: DecoderTool) -> Path:
    """The decoder's executable; raises ExternalToolError if it is not on the PATH."""
    return _find(_DECODERS[tool])


def vtm_arguments(options: VvcOptions, config: Path, job: EncoderJob) -> list[str]:
    """VTM's encoder arguments: 10 bit inside, sizes padded to whole coding units, an MD5 for each picture.

    VTM's rate is a whole number here; it changes the printed kbit/s and nothing else.

    Raises:
        InputError: If SAO is to be as the preset has it.
    """
    if options.sao == "preset":
        raise InputError("SAO as the preset has it: VTM has no presets, its SAO is on or off by the filter set")
    rate = max(1, round(job.fps))
    picture = f"-wdt {job.width} -hgt {job.height} -fr {rate} -f {job.n_pictures} -q {options.qp}"
    depths = " ".join(f"--{place}BitDepth={CODED_BIT_DEPTH}" for place in ("Input", "Internal", "Output"))
    return [
        *("-c", str(config), "-i", str(job.raw), "-b", str(job.target), "-o", os.devnull),
        *(*picture.split(), *depths.split()),
        *("--InputChromaFormat=420", "--ConformanceWindowMode=1", "--SEIDecodedPictureHash=1"),
        *_VTM_FILTERS[options.loop_filters],
    ]


def vvenc_arguments(options: VvcOptions, job: EncoderJob) -> list[str]:
    """Arguments of vvencapp: one QP, no pre-filter, an MD5 and a log line for each picture."""
    source = f"--size {job.width}x{job.height} --fps {job.fps} --format yuv420_10 --frames {job.n_pictures}"
    coding = f"--preset {options.preset} --qp {options.qp} --qpa 0 --threads {options.n_threads}"
    expert = "IntraQPOffset=0:MCTF=0:BIM=0" + options.loop_filter_params
    return [
        *("--input", str(job.raw), *source.split(), "--output", str(job.target), *coding.split()),
        *("--intraperiod", "1", "--gopsize", "1", "--decodedpicturehash", "1", "--verbosity", "5"),
        *("--additional", expert),
    ]


def decoder_arguments(tool: DecoderTool, stream: Path, target: Path) -> list[str]:
    """Either decoder's arguments: output at the stream's own bit depth, MD5 checked."""
    options = ("-d", "0") if tool == "vtm" else ("-dph",)
    return ["-b", str(stream), "-o", str(target), *options]


def _find(names: tuple[str, ...]) -> Path:
    for name in names:
        if (found := shutil.which(name)) is not None:
            return Path(found)
    raise ExternalToolError(f"none of {', '.join(names)} is on the PATH: install it or add its folder")
